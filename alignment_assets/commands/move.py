"""``alignment-assets move``: a run's tables, answers and records, to where another recipe has them.

Both recipes are one study, kept in two ways: a DuckDB file or a DuckLake, a folder or object
storage. How tables are copied and checked is `warehouse.moving`'s part, answers those of
`requests.moved_answers`, Dagster's records those of `moved_records`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pyarrow as pa
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.home import dagster_instance, end_killed, records_in_home
from alignment_assets.commands.moved_records import carry_records
from alignment_assets.commands.rows import show
from alignment_assets.commands.signals import ended_by_signals
from alignment_assets.commands.terminal import console, say, say_next
from alignment_assets.host.expected import Expected
from alignment_assets.host.machine import MEBI
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.spool_place import is_address
from alignment_assets.requests.moved_answers import move_answers
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.database_file import DatabaseFile
from alignment_assets.warehouse.moving import (
    Moved,
    contents_of_all,
    differences,
    holds_rows,
    move_tables,
    shown_differences,
    tables_of_users,
)
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import check_there

_AT_WORK = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def move(recipe: str | None, to: str) -> None:
    """Do what the command says; its words are in `move_app`."""
    source, target = run_to_read(recipe), Run.of(load_recipe(to))
    before, after = _databases(source, target)
    check_there(before)
    with (
        dagster_instance(target) as instance,
        ended_by_signals(),
        console.status("looking") as status,
    ):
        _check_idle(instance)

        def report(doing: str) -> None:
            status.update(doing)

        told = _move_tables(before, after, report)
        answers = move_answers(source, target, report)
        report("carrying Dagster's records")
        with records_in_home(target) as own:
            carried = None if own is None else carry_records(own, instance, after)
    told()
    if answers is None:
        say(f"answers: they stay in {_spool(source)}, which both recipes have")
    else:
        there = f"; {answers.there:,} were there" if answers.there else ""
        say(
            f"answers: {answers.files:,} files, {answers.bytes / MEBI:,.1f} MiB, are copied to "
            f"{_spool(target)}{there}"
        )
    if carried is not None:
        say(
            f"Dagster's records: DAGSTER_HOME and {target.home / 'dagster'} tell the same of "
            f"{carried:,} tables and partitions; runs, checks and pages stay where they are"
        )
    _say_next(to, before, after, source, target)


def _move_tables(
    before: Database, after: Database, report: Callable[[str], None]
) -> Callable[[], None]:
    """Copy the tables, or see that they are there; return what tells of it."""
    if before.shown == after.shown:
        return lambda: say(f"tables: they stay in {before.shown}, which both recipes have")
    if holds_rows(after):
        report("comparing rows")
        found = differences(contents_of_all(before), contents_of_all(after))
        if found:
            raise Expected(_other_rows(before, after, found))
        return lambda: say(
            f"tables: all rows are in {after.shown} already, the same as in {before.shown}"
        )
    left = tables_of_users(before)
    moved = move_tables(before, after, report)

    def tell() -> None:
        _show(moved)
        say(
            f"tables: {sum(one.rows for one in moved):,} rows from {before.shown} are in "
            f"{after.shown}; each was read again, and is the same"
        )
        if left:
            say(f"not copied, as sql/schema has no such table: {', '.join(left)}")

    return tell


def _databases(source: Run, target: Run) -> tuple[Database, Database]:
    names = source.recipe.name, target.recipe.name
    if names[0] != names[1]:
        raise Expected(
            f"{target.recipe.file} is the recipe {names[1]}, and the tables are of {names[0]}: "
            f"copy {source.recipe.file}, change its warehouse and spool alone, and name the copy"
        )
    before, after = (database_of(run.database_settings) for run in (source, target))
    if before.shown == after.shown and _same_spool(source, target):
        raise Expected(
            f"{target.recipe.file} has its tables in {after.shown} and its answers in "
            f"{_spool(target)}, where they are now: give it another warehouse, such as "
            f"warehouse: {{ducklake: {{catalog: 'sqlite:'}}}}, or another spool"
        )
    return before, after


def _same_spool(source: Run, target: Run) -> bool:
    return source.spool.resolve() == target.spool.resolve()


def _spool(run: Run) -> str:
    said = run.recipe.spool
    return said if said is not None and is_address(said) else str(run.spool)


def _check_idle(instance: DagsterInstance) -> None:
    """Refuse while runs change tables and records, which then would not fit together."""
    end_killed(instance)
    at_work = instance.get_runs(filters=RunsFilter(statuses=_AT_WORK))
    if at_work:
        raise Expected(
            f"{len(at_work)} runs are at work or in line ({at_work[0].run_id}): let them end or "
            f"terminate them in the UI, then run this again"
        )


def _other_rows(before: Database, after: Database, found: list[str]) -> str:
    return (
        f"{after.shown} has rows already, other ones than {before.shown}: "
        f"{shown_differences(found)}; nothing is changed. To have these tables there, first take "
        f"the other ones away: {after.rebuild(None)}"
    )


def _show(moved: list[Moved]) -> None:
    rows = [
        {
            "table": one.table,
            "partitions": len(one.contents),
            "rows": one.rows,
            "bytes": one.bytes,
            "seconds": round(one.seconds, 2),
        }
        for one in moved
        if one.rows
    ]
    show(pa.Table.from_pylist(rows), console)


def _say_next(to: str, before: Database, after: Database, source: Run, target: Run) -> None:
    named = shlex.quote(to)
    say_next(
        {
            f"alignment-assets status --recipe {named}": "all is as it was, but for the table "
            "recipes: it has what a recipe says",
            f"alignment-assets materialize --recipe {named}": "goes on there",
        }
    )
    old = []
    if before.shown != after.shown:
        old.append(str(before.path) if isinstance(before, DatabaseFile) else before.shown)
    if not _same_spool(source, target):
        old.append(_spool(source))
    say(f"When you are content, delete what was copied: {', '.join(old)}")
