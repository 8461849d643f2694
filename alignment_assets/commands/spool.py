"""``alignment-assets spool``: the answers of engines that are on disk, and looking after them."""

from __future__ import annotations

import typer

from alignment_assets.commands.rows import show, write
from alignment_assets.commands.terminal import (
    FormatOption,
    OutputOption,
    RecipeOption,
    chosen_run,
    console,
    example,
    expected,
    say,
)
from alignment_assets.inference.spool import SpoolError
from alignment_assets.requests.spool_care import list_spool, verify_spool
from alignment_assets.warehouse.query import QueryError

app = typer.Typer(no_args_is_help=True, help="The answers of engines that are on disk.")


@app.command("list", epilog=example("spool list --format json"))
def list_answers(
    recipe: RecipeOption = None, format: FormatOption = "table", output: OutputOption = None
) -> None:
    """Show what answers each asset and partition has, also those that left the recipe."""
    run = chosen_run(recipe)
    with expected(SpoolError, QueryError):
        write(list_spool(run), format, output, console)


@app.command("verify", epilog=example("spool verify"))
def verify_answers(recipe: RecipeOption = None) -> None:
    """Read every file in full; quarantine (rename, never delete) those that cannot be read.

    Ends with status 1 if there were any; run the partitions again, and their requests are asked.
    """
    run = chosen_run(recipe)
    with console.status("reading"):
        rows, quarantined = verify_spool(run)
    show(rows, console)
    spare = sum(rows["spare_answers"].to_pylist()) if rows.num_rows else 0
    if spare:
        console.print(
            f"{spare:,} spare answers: of several to a request the first final one in file order "
            f"counts, the others do no harm.",
            highlight=False,
        )
    for line in quarantined:
        say(line)
    if quarantined:
        raise typer.Exit(1)
