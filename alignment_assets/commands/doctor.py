"""``alignment-assets doctor``: what a run will need of this machine, and whether it is there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import typer

from alignment_assets.assets.first_rows import look_at_datasets
from alignment_assets.assets.graph import default_resources
from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.terminal import console, say
from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import LockTimeout
from alignment_assets.host.machine import GIBI
from alignment_assets.host.paths import why_unwritable
from alignment_assets.host.proposed import proposed
from alignment_assets.inference.backend import Examination, Finding
from alignment_assets.inference.object_store import StoreError
from alignment_assets.inference.stored_spool import names_of_stored
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.spool_place import is_address
from alignment_assets.requests.forecast import all_expected_completions
from alignment_assets.requests.removals import find_left
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.removed import RemovedPart
from alignment_assets.warehouse.rewrite import database_bytes

# Measured on the published size: a completion takes about this many bytes in the database and as
# many in the spool, at 1 KB of text.
BYTES_PER_COMPLETION = 2_500
SIGNS = {
    "ok": "[green]ok[/]     ",
    "warning": "[yellow]warning[/]",
    "problem": "[red]problem[/]",
}


def doctor(recipe: str | None) -> None:
    """Do what the command says; its words are in `app`."""
    run = chosen_run(recipe)
    problems = 0
    for finding in examine(run, default_resources(run)):
        console.print(SIGNS[finding.verdict], end=" ")
        say(f"{finding.subject}: {finding.text}")
        problems += finding.verdict == "problem"
    if problems:
        raise typer.Exit(1)


def examine(run: Run, resources: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what there is to say about a run on these resources, the database first."""
    reason = why_unwritable(run.home)
    if reason:
        yield Finding("home", "problem", f"{run.home} can be read only: {reason}")
    yield from _look_at_store(run)
    yield from _look(run, resources["warehouse"])
    yield from look_at_datasets(run)
    examined = Examination(run, run.recipe.models, resources["gpus"])
    yield from resources["inference"].examine(examined)


def _look_at_store(run: Run) -> Iterator[Finding]:
    """Yield what there is to say of object storage, if answers are kept there."""
    if run.recipe.spool is None or not is_address(run.recipe.spool):
        return
    try:
        names_of_stored(run.spool)
        yield Finding("spool", "ok", f"{run.recipe.spool}, with copies in {run.spool}")
    except StoreError as error:
        yield Finding("spool", "problem", str(error))


def _left(connection: duckdb.DuckDBPyConnection | None, run: Run) -> list[RemovedPart]:
    """Return what left the recipe, as far as it can be seen."""
    try:
        return find_left(connection, run)
    except StoreError:  # told apart
        return []


def _look(run: Run, warehouse: Database) -> Iterator[Finding]:
    """Yield what there is to say of the database and the disk; it is opened once, or not at all."""
    left, expected = _left(None, run), all_expected_completions(None, run.recipe)
    found = Finding("database", "ok", f"{warehouse.shown} is not there yet; the first run makes it")
    try:
        if warehouse.is_there:
            impatient = warehouse.model_copy(update={"lock_timeout": 0.0})
            with impatient.read() as connection:
                size = database_bytes(connection) / GIBI
                text = f"{warehouse.shown}, {size:.2f} GiB, free to read"
                found = Finding("database", "ok", text)
                left = _left(connection, run)
                expected = all_expected_completions(connection, run.recipe)
    except LockTimeout:
        held = " and ".join(warehouse.holders())
        text = f"{warehouse.shown} cannot be read now: held by {held}"
        found = Finding("database", "warning", text)
    except (Expected, duckdb.Error) as error:  # also of a lake's server, or its object storage
        found = Finding("database", "problem", str(error))
    yield found
    if left:
        names = ", ".join(sorted({str(one.part.partition) for one in left}))
        rows, taken = sum(one.rows for one in left), sum(one.bytes for one in left)
        yield Finding(
            "left the recipe",
            "warning",
            f"{names}: {rows:,} rows and their answers, about {taken:,} bytes, which nothing "
            f"uses; `{proposed('tidy')}` shows and removes them",
        )
    yield _disk(run, expected)


def _disk(run: Run, expected: int) -> Finding:
    folder = run.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    needed = expected * BYTES_PER_COMPLETION
    text = f"{free / GIBI:.0f} GiB free; about {needed / GIBI:.1f} GiB for database and spool"
    return Finding("disk", "ok" if free > needed else "problem", text)
