"""``alignment-assets status``: what is done, missing or stale, by table and partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
from dagster import AssetKey, DagsterInstance, Definitions

from alignment_assets.assets.graph import build_defs, default_resources
from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.dagster_private import StaleCauses
from alignment_assets.commands.home import dagster_instance
from alignment_assets.commands.rows import chosen_format, show, write
from alignment_assets.commands.terminal import Format, console
from alignment_assets.exports.manifest import fault
from alignment_assets.host.proposed import proposed
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import partition_settings
from alignment_assets.requests.removals import find_left
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS, Lineage, TablePart
from alignment_assets.warehouse.query import ask, check_there, isolate, opened_to_ask
from alignment_assets.warehouse.records import Record, last_record
from alignment_assets.warehouse.removed import RemovedPart

# A table, and its partition if it has such.
Place = tuple[str, str | None]

REQUESTED = """
SELECT 'controversy_labels' AS name, NULL AS partition,
    count(DISTINCT prompt_id) AS requested,
    count(DISTINCT prompt_id) FILTER (prompt_id IN (SELECT prompt_id FROM controversy_labels))
        AS answered
FROM licensed_prompts
WHERE track = 'graded'
"""


def status(recipe: str | None, format: Format | None, output: Path | None) -> None:
    """Do what the command says; its words are in `app`."""
    form = chosen_format(format, output)
    run = chosen_run(recipe)
    resources = default_resources(run)
    check_there(resources["warehouse"])
    with dagster_instance(run) as instance:
        rows = table_status(resources["warehouse"], run, build_defs(run, resources), instance)
    if form == "table" and output is None:
        show(rows, console, most=None)  # every reason counts
    else:
        write(rows, form, output, console)


def table_status(
    warehouse: Database, run: Run, defs: Definitions, instance: DagsterInstance
) -> pa.Table:
    """Return rows (table, partition, rows, requested, missing, status), upstream first.

    ``requested`` and ``missing`` count what engines are asked: answers to requests that are no
    longer asked do not count. For ``status`` see `statuses`; sources, models and policies that left
    the recipe come last.
    """
    there = look(warehouse, run, defs)
    return status_rows(there, statuses(there, run, defs, instance))


def status_rows(there: There, found: Mapping[Place, str]) -> pa.Table:
    """Return the rows of `table_status` of what was seen in a database.

    Args:
        there: what was seen.
        found: the status of each table and partition, upstream first.
    """
    lines = []
    for (table, partition), status in found.items():
        asked, answered = there.requested.get((table, partition), (None, None))
        lines.append(
            {
                "table": table,
                "partition": partition,
                "rows": there.rows.get((table, partition), 0),
                "requested": asked,
                "missing": None if asked is None or answered is None else asked - answered,
                "status": status,
            }
        )
    lines += [
        {
            "table": one.part.table,
            "partition": one.part.partition,
            "rows": one.rows,
            "status": f"left the recipe, about {one.bytes:,} bytes: "
            f"`{proposed('tidy')}` removes it",
        }
        for one in there.left
    ]
    return pa.Table.from_pylist(lines)


@dataclass(frozen=True)
class There:
    """What is in a database at one moment.

    Attributes:
        created_at: when it was created.
        rows: of each table and partition.
        misfits: how a table and partition does not fit what it was made of.
        requested: how many requests there are of a table and partition that engines answer for,
            and how many of them have an answer in the table.
        left: the rows and answers of who left the recipe.
        exports: by policy, how the folder of its export is not what the table says.
    """

    created_at: str
    rows: Mapping[Place, int]
    misfits: Mapping[Place, list[str]] = field(default_factory=dict)
    requested: Mapping[Place, tuple[int, int]] = field(default_factory=dict)
    left: Sequence[RemovedPart] = ()
    exports: Mapping[str, str] = field(default_factory=dict)


def look(warehouse: Database, run: Run, defs: Definitions) -> There:
    """Return what is in a database, which is opened once for all of it.

    Raises:
        QueryError: there is none, or it cannot be read.
    """
    with opened_to_ask(warehouse) as connection:
        return look_into(connection, run, defs)


def look_into(connection: duckdb.DuckDBPyConnection, run: Run, defs: Definitions) -> There:
    """Return what is in an open database; after that the connection is isolated.

    Raises:
        duckdb.Error: it cannot be read.
    """
    settings = run.recipe.settings()
    counts = " UNION ALL ".join(
        f"SELECT '{table}' AS name, {PARTITION_COLUMNS.get(table, 'NULL')} AS partition, "
        f"count(*) AS rows FROM {table} GROUP BY ALL"
        for table in sql_files.tables()
    )
    unanswered = sql_files.read_sql("analysis", "unanswered_requests")
    lineage = Lineage(connection, settings)
    misfits = {
        place: [misfit.how for misfit in lineage.misfits_of(TablePart(*place))]
        for place in _places(defs)
    }
    left = find_left(connection, run)
    isolate(connection, run.recipe.members)
    rows = ask(connection, counts, {}).to_pylist()
    graded = ask(connection, REQUESTED, settings).to_pylist()
    asked = ask(connection, unanswered, settings).to_pylist()
    (created,) = ask(connection, "SELECT created_at FROM database_info", {}).to_pylist()
    requested = {
        (row["name"], row["partition"]): (row["requested"], row["answered"]) for row in graded
    }
    for row in asked:
        requested["completions", row["model"]] = (row["requested"], row["completed"])
        requested["rewards", row["model"]] = (row["requested"], row["rewarded"])
    return There(
        str(created["created_at"]),
        {(row["name"], row["partition"]): row["rows"] for row in rows},
        misfits,
        requested,
        left,
        _faults_of_exports(connection, run),
    )


def _faults_of_exports(connection: duckdb.DuckDBPyConnection, run: Run) -> dict[str, str]:
    listed: dict[str, dict[str, tuple[str, int]]] = {}
    query = "SELECT policy, file, sha256, bytes FROM training_export"
    for row in ask(connection, query, {}).to_pylist():
        listed.setdefault(row["policy"], {})[row["file"]] = (row["sha256"], row["bytes"])
    faults = {policy: fault(run.exports / policy, files) for policy, files in listed.items()}
    return {policy: found for policy, found in faults.items() if found}


def kept(there: There, defs: Definitions) -> dict[Place, str]:
    """Return what can be said of a snapshot: Dagster's records are of the present."""
    return {
        place: "kept" if there.rows.get(place) else "missing" if there.misfits[place] else "empty"
        for place in _places(defs)
    }


def _places(defs: Definitions) -> Iterator[Place]:
    graph = defs.resolve_asset_graph()
    for key in graph.toposorted_asset_keys:
        partitions = graph.get(key).partitions_def
        for partition in partitions.get_partition_keys() if partitions else [None]:
            yield key.to_user_string(), partition


def statuses(
    there: There, run: Run, defs: Definitions, instance: DagsterInstance
) -> dict[Place, str]:
    """Return the status of each table and partition, upstream first.

    - fresh: its rows are those that the recipe asks for;
    - empty: so it is, and has no rows;
    - inconsistent: made of other rows than stand there now, so nothing is built on it;
    - stale, with the reasons: made by other code, settings or rows, or not the rows recorded;
    - missing: never made, or not by this recipe or not in this database.
    """
    stale = StaleCauses(instance, defs.resolve_asset_graph())
    found = {}
    for table, partition in _places(defs):
        record = last_record(instance, table, partition)
        rows, misfits = there.rows.get((table, partition), 0), there.misfits.get((table, partition))
        if record is None:
            status = "missing"
        elif record.recipe != run.recipe.name:
            status = f"missing: materialized by recipe {record.recipe}"
        elif record.database != there.created_at:
            status = "missing: materialized in another database"
        elif misfits:
            status = f"inconsistent: {'; '.join(misfits)}"
        else:
            changed = _changed_settings(record, partition_settings(run.recipe, table, partition))
            causes = sorted({*changed, *stale.causes(AssetKey(table), partition)})
            if record.rows != rows:
                causes.append(f"{record.rows:,} rows recorded, {rows:,} there")
            if table == "training_export" and partition and partition in there.exports:
                causes.append(there.exports[partition])
            status = f"stale: {', '.join(causes)}" if causes else "fresh" if rows else "empty"
        found[table, partition] = status
    return found


def _changed_settings(record: Record, now: Mapping[str, str]) -> list[str]:
    return [
        f"settings of {whose} changed"
        for whose, value in now.items()
        if record.settings.get(whose) != value
    ]
