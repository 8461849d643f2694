"""``alignment-assets snapshot``: a copy of the database, for readers who want to stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.terminal import say
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse.opening import database_of


def snapshot(recipe: str | None, output: Path | None, table: Sequence[str]) -> None:
    """Do what the command says; its words are in `app`."""
    warehouse = database_of(run_to_read(recipe).database_settings)
    if not warehouse.is_there:
        raise Expected(f"no database {warehouse.shown} yet; run `{proposed('materialize')}`")
    made = warehouse.export(table, output) if table else warehouse.snapshot(output)
    say(f"{made}")
