"""``alignment-assets lake``: the states of a DuckLake, and what nothing in it needs any more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from alignment_assets.commands.chosen import chosen_run, run_to_read
from alignment_assets.commands.rows import chosen_format, write
from alignment_assets.commands.terminal import Format, console, say
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import lake_care
from alignment_assets.warehouse.lake import Lake
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import check_there


def snapshots(recipe: str | None, format: Format | None, output: Path | None) -> None:
    """Do what the command says; its words are in `lake_app`."""
    form = chosen_format(format, output)
    write(lake_care.list_snapshots(_lake_of(run_to_read(recipe))), form, output, console)


def maintain(recipe: str | None, keep_days: float, apply: bool) -> None:
    """Do what the command says; its words are in `lake_app`."""
    lake = _lake_of(chosen_run(recipe))
    steps = lake_care.maintain(lake, timedelta(days=keep_days), apply=apply)
    for step in steps:
        say(f"{step.count:,} {step.what}.")
    if not apply and any(step.count for step in steps):
        say("Nothing was done. Add --apply to do this.")


def _lake_of(run: Run) -> Lake:
    database = database_of(run.database_settings)
    if not isinstance(database, Lake):
        raise Expected(
            f"the database of {run.recipe.name} is the file {database.shown}, and no DuckLake; "
            f"warehouse.ducklake of a recipe makes one"
        )
    check_there(database)
    return database
