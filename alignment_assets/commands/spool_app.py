"""The commands ``alignment-assets spool``; see `app` for what belongs here."""

from __future__ import annotations

import typer

from alignment_assets.commands.options import (
    FormatOption,
    LimitOption,
    OutputOption,
    RecipeOption,
    example,
)

spool_app = typer.Typer(no_args_is_help=True, help="The answers of engines that are on disk.")


@spool_app.command("list", epilog=example("spool list --format json"))
def list_answers(
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    format: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Show what answers each asset and partition has, also those that left the recipe."""
    from alignment_assets.commands.spool import list_answers

    list_answers(recipe, format, output)


@spool_app.command("verify", epilog=example("spool verify"))
def verify_answers(recipe: RecipeOption = None, limit: LimitOption = None) -> None:
    """Read every file in full; quarantine (rename, never delete) those that cannot be read.

    Ends with status 1 if there were any; run the partitions again, and their requests are asked.
    """
    from alignment_assets.commands.spool import verify_answers

    verify_answers(recipe)
