"""``alignment-assets tidy``: what left the recipe, and answers that nobody asks for, go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import duckdb
from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    EventLogRecord,
)

from alignment_assets.assets.graph import default_resources
from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.home import check_home, dagster_instance
from alignment_assets.commands.rows import TABLE_ROWS, show
from alignment_assets.commands.terminal import console, say
from alignment_assets.exports.placing import remove_export
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.run import Run
from alignment_assets.requests.removals import (
    Removal,
    find_left,
    left_table,
    plan_matching,
    plan_removals,
    removals_table,
    remove_answers,
    show_matching,
)
from alignment_assets.requests.request_sets import all_request_sets
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS
from alignment_assets.warehouse.query import created_at
from alignment_assets.warehouse.records import record_of
from alignment_assets.warehouse.removed import RemovedPart

# Materializations that are looked through at once.
PAGE = 1000


def tidy(
    recipe: str | None = None,
    apply: bool = False,
    answers: bool = False,
    where: str | None = None,
) -> None:
    """Do what the command says; its words are in `app`."""
    if where is not None and not answers:
        raise Expected("--where is about answers: add --answers")
    run = chosen_run(recipe)
    resources = default_resources(run)
    warehouse, inference = resources["warehouse"], resources["inference"]
    if apply:
        check_home(run)
    if not warehouse.is_there:
        raise Expected(f"no database {warehouse.shown}: nothing says what there should be")
    if where is None:
        requests = all_request_sets(run.recipe, lambda model: inference.fingerprint(model, run))

        def plan(connection: duckdb.DuckDBPyConnection) -> list[Removal]:
            return plan_removals(connection, run, requests)
    else:
        shown = show_matching(run, where, TABLE_ROWS)
        if shown.num_rows:
            show(shown, console, f"Answers that meet the condition, at most {TABLE_ROWS}")

        def plan(connection: duckdb.DuckDBPyConnection) -> list[Removal]:
            return plan_matching(run, where)

    with warehouse.read() as connection:
        left = [] if answers else find_left(connection, run)
        removals = plan(connection)
    with nullcontext() if answers else dagster_instance(run) as instance:
        runs = runs_of_left(instance, run, created_at(warehouse)) if instance else []
        if left:
            show(left_table(left), console, "Left the recipe")
        if runs:
            say(f"Runs in Dagster's records that made nothing else: {len(runs)}.")
        show(removals_table(removals), console, "Answers")
        if not (left or runs or any(one.dropped or one.folder.left_over for one in removals)):
            say("Nothing to remove.")
        elif not apply:
            say("Nothing was removed. Add --apply to remove this.")
        else:
            _remove(run, warehouse, left, plan)
            if instance and runs:
                forget(instance, runs)
                say(f"Removed from Dagster's records: runs that made nothing else, {len(runs)}.")


def _remove(
    run: Run,
    warehouse: Database,
    left: Sequence[RemovedPart],
    plan: Callable[[duckdb.DuckDBPyConnection], list[Removal]],
) -> None:
    """Remove answers and exports, then rows: the next call finds what a kill leaves behind."""
    removals = remove_answers(warehouse, plan)
    answers, freed = sum(one.dropped for one in removals), sum(one.freed for one in removals)
    say(f"Removed {answers:,} answers, about {freed:,} bytes.")
    for one in left:
        if one.part.table == "training_export" and one.part.partition:
            folder = run.exports / one.part.partition
            if remove_export(folder):
                say(f"Removed {folder}.")
    rows = [one for one in left if one.rows]
    if rows:
        count = warehouse.remove([one.part for one in rows])
        say(f"Removed {count:,} rows of {len(rows)} partitions.")


def runs_of_left(instance: DagsterInstance, run: Run, database: str) -> list[str]:
    """Return the runs that made nothing but partitions of who left the recipe.

    One that made something else too is kept, as is one that goes on, and one of another recipe or
    database whose records are in the same place.
    """
    members, found = run.recipe.members, set[str]()
    for table, column in PARTITION_COLUMNS.items():
        key = AssetKey(table)
        for partition in instance.get_materialized_partitions(key) - set(members[column]):
            wanted = AssetRecordsFilter(key, asset_partitions=[partition])
            found |= {record.run_id for record in _pages(instance, wanted)}
    return sorted(
        one
        for one in found
        if _has_ended(instance, one) and _made_nothing_else(instance, one, run, database)
    )


def forget(instance: DagsterInstance, runs: Sequence[str]) -> None:
    """Delete runs, so that a partition that comes back is not taken for made."""
    for run_id in runs:
        instance.delete_run(run_id)
    instance.wipe_asset_cached_status([AssetKey(table) for table in PARTITION_COLUMNS])


def _has_ended(instance: DagsterInstance, run_id: str) -> bool:
    found = instance.get_run_by_id(run_id)
    return found is None or found.is_finished


def _made_nothing_else(instance: DagsterInstance, run_id: str, run: Run, database: str) -> bool:
    made = instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    for record in made.records:
        one = record.event_log_entry.asset_materialization
        if one is None:
            continue
        column = PARTITION_COLUMNS.get(one.asset_key.to_user_string())
        if column is None or one.partition in run.recipe.members[column]:
            return False
        by = record_of(one)
        if by.recipe not in ("", run.recipe.name) or by.database not in ("", database):
            return False
    return True


def _pages(instance: DagsterInstance, wanted: AssetRecordsFilter) -> Iterator[EventLogRecord]:
    cursor = None
    while True:
        page = instance.fetch_materializations(wanted, PAGE, cursor)
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor
