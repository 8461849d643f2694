"""``alignment-assets spool``: the answers of engines that are on disk, and looking after them."""

from __future__ import annotations

from typing import Annotated

import typer

from alignment_assets.commands.rows import show, write
from alignment_assets.commands.terminal import (
    Expected,
    FormatOption,
    OutputOption,
    RecipeOption,
    chosen_run,
    console,
    example,
    expected,
    say,
)
from alignment_assets.definitions import default_resources
from alignment_assets.host.locking import LockTimeout
from alignment_assets.inference.fingerprint import MODEL_FAILURES
from alignment_assets.inference.spool import SpoolError
from alignment_assets.requests.request_sets import all_request_sets
from alignment_assets.requests.spool_care import (
    list_spool,
    plan_removals,
    prune_spool,
    removals_table,
    verify_spool,
)
from alignment_assets.warehouse.query import QueryError
from alignment_assets.warehouse.resource import WarehouseError

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


@app.command("prune", epilog=example("spool prune --yes"))
def prune_answers(
    recipe: RecipeOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Drop without asking.")] = False,
) -> None:
    """Drop answers to requests that are no longer asked, after a look at what would go."""
    run = chosen_run(recipe)
    resources = default_resources(run)
    warehouse, inference = resources["warehouse"], resources["inference"]
    if not warehouse.path.exists():
        raise Expected(f"no database {warehouse.path}: nothing says which requests there are")
    with expected(SpoolError, LockTimeout, WarehouseError, *MODEL_FAILURES):
        requests = all_request_sets(run.recipe, lambda model: inference.fingerprint(model, run))
        with warehouse.read() as connection:
            removals = plan_removals(connection, run, requests)
        show(removals_table(removals), console)
        if not any(removal.dropped or removal.folder.left_over for removal in removals):
            console.print("Nothing to drop.")
            return
        if not yes:
            typer.confirm("Drop these answers for good?", abort=True)
        removals = prune_spool(warehouse, run, requests)
    console.print(
        f"Dropped {sum(removal.dropped for removal in removals):,} answers, "
        f"about {sum(removal.freed for removal in removals):,} bytes.",
        highlight=False,
    )
