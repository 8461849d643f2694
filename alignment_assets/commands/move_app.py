"""The command ``alignment-assets move``; see `app` for what belongs here."""

from __future__ import annotations

from typing import Annotated

import typer

from alignment_assets.commands import completing
from alignment_assets.commands.options import LimitOption, RecipeOption


def move(
    to: Annotated[
        str,
        typer.Option(
            metavar="<recipe>",
            help="The same recipe with another warehouse, another spool or both.",
            autocompletion=completing.recipes,
        ),
    ],
    recipe: RecipeOption = None,
    limit: LimitOption = None,
) -> None:
    """Copy a run's tables, answers and records to where another recipe keeps them, and check them.

    From a DuckDB file into a DuckLake, back, or from one lake into another. All tables are as they
    are at one moment, and every row is read again; nothing is made anew, and the old ones stay.
    Killed, it is run again; where the tables are there already, their rows are compared.
    """
    from alignment_assets.commands.move import move

    move(recipe, to)
