"""What the user says: the recipe's fields, reading and checking its file, and the texts it names.

Imports `host` alone.
"""
