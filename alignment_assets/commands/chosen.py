"""The recipe that a user names, as the run that a command works on."""

from __future__ import annotations

from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run


def chosen_run(recipe: str | None) -> Run:
    """Return the run of the recipe that the user names, the settings of its backends checked."""
    from alignment_assets.assets.graph import open_run

    return open_run(recipe)


def run_to_read(recipe: str | None) -> Run:
    """Return the run of the recipe that the user names, for commands that read what it left.

    Who answers does not matter to them: backends stay unchecked, and Dagster is not imported.
    """
    return Run.of(load_recipe(recipe))
