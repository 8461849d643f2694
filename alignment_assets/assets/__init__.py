"""The asset graph, one module per stage; each builds its assets for a recipe.

Imports all but `definitions` and `commands`.
"""
