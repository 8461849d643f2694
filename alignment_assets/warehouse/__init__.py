"""The database: opening it, whose turn it is, replacing rows, changing tables, and ``sql/``.

Imports `host` and `recipe`.
"""
