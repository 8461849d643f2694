"""The commands ``alignment-assets lake``; see `app` for what belongs here."""

from __future__ import annotations

from typing import Annotated

import typer

from alignment_assets.commands.options import (
    FormatOption,
    LimitOption,
    OutputOption,
    RecipeOption,
    example,
)

lake_app = typer.Typer(no_args_is_help=True, help="A database that is a DuckLake.")


@lake_app.command("snapshots", epilog=example("lake snapshots --format json"))
def list_snapshots(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the states that are kept: when, by which run, of what. `query --as-of` asks one."""
    from alignment_assets.commands.lake import snapshots

    snapshots(recipe, format, output)


@lake_app.command(epilog=example("lake maintain --keep-days 7 --apply"))
def maintain(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    keep_days: Annotated[
        float,
        typer.Option(
            min=0,
            help="How long states are kept. Files of writers that were killed go after as long, or "
            "a day; with 0 no writer may be at work.",
        ),
    ] = 7,
    apply: Annotated[bool, typer.Option("--apply", help="Do it, and do not only count.")] = False,
) -> None:
    """Forget old states, remove files that nothing needs, put small ones together.

    The state that was the newest then is kept, and those that `snapshot` noted in this home.
    """
    from alignment_assets.commands.lake import maintain

    maintain(recipe, keep_days, apply)
