"""The command ``alignment-assets``: `app` and one module a command. Nothing imports it."""
