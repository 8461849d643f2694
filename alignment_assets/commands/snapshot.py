"""``alignment-assets snapshot``: a copy of the database, for readers who want to stay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alignment_assets.commands.terminal import Expected, RecipeOption, chosen_run, expected, say
from alignment_assets.definitions import default_resources
from alignment_assets.host.locking import LockTimeout
from alignment_assets.warehouse.resource import WarehouseError


def snapshot(
    recipe: RecipeOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A file, or with --table a new folder; by default in snapshots, beside the "
            "database.",
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(help="Write this table as Parquet; may be given several times."),
    ] = None,
) -> None:
    """Copy the database as it is now, for readers who want to stay: `query --snapshot` asks it."""
    warehouse = default_resources(chosen_run(recipe))["warehouse"]
    if not warehouse.is_there:
        raise Expected(f"no database {warehouse.path} yet; run `alignment-assets materialize`")
    with expected(WarehouseError, LockTimeout, OSError):
        made = warehouse.export(table, output) if table else warehouse.snapshot(output)
    say(f"{made}")
