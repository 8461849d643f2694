"""alignment_assets: a Dagster asset graph that turns prompts into preference-alignment data.

`open` gives a recipe's tables to Python.

Each folder is one concept and imports only folders above it in this list: host, recipe, warehouse,
pages, gpus, sources, inference, requests, exports, assets, definitions, commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from alignment_assets.commands.tables import Tables

__all__ = ["open"]


def open(recipe_or_folder: str | Path | None = None, *, snapshot: bool = False) -> Tables:
    """Open a recipe's tables, read-only, as DuckDB relations by name.

    ::

        with alignment_assets.open("demo") as tables:
            pairs = tables["dpo_pairs"].df()

    Args:
        recipe_or_folder: the name or path of a recipe, or the folder of a database; by default the
            recipe that ``ALIGNMENT_RECIPE`` names, then ``./recipe.yaml``, then the demo.
        snapshot: read the last snapshot, for as long as you like: no writer waits for it.

    Raises:
        QueryError: there is no database, or it cannot be read.
        RecipeError: there is no such recipe.
    """
    from alignment_assets.commands.tables import open_tables

    return open_tables(recipe_or_folder, snapshot=snapshot)
