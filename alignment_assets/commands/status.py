"""``alignment-assets status``: what is done, missing or stale, by table and partition."""

from __future__ import annotations

import pyarrow as pa
from dagster import DagsterInstance, Definitions

from alignment_assets.commands.dagster_private import StaleStatuses
from alignment_assets.commands.home import dagster_instance
from alignment_assets.commands.rows import show
from alignment_assets.commands.terminal import (
    RecipeOption,
    chosen_run,
    console,
    expected,
)
from alignment_assets.definitions import build_defs, default_resources
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import QueryError, run_query
from alignment_assets.warehouse.resource import Warehouse

# The column that holds a table's partition; that of all others is `policy`.
_COLUMNS = {
    "source_prompts": "dataset",
    **dict.fromkeys(("completion_requests", "completions", "rewards"), "model"),
}

REQUESTED = """
SELECT 'controversy_labels' AS name, NULL AS partition,
    count(DISTINCT prompt_id) AS requested,
    count(DISTINCT prompt_id) FILTER (prompt_id IN (SELECT prompt_id FROM controversy_labels))
        AS answered
FROM licensed_prompts
WHERE track = 'graded'
"""


def status(recipe: RecipeOption = None) -> None:
    """Show rows, requests, what is missing and what is stale, for each table and partition."""
    run = chosen_run(recipe)
    resources = default_resources(run)
    with expected(QueryError), dagster_instance(run) as instance:
        rows = table_status(resources["warehouse"], run, build_defs(run, resources), instance)
    show(rows, console)


def table_status(
    warehouse: Warehouse, run: Run, defs: Definitions, instance: DagsterInstance
) -> pa.Table:
    """Return rows (table, partition, rows, requested, missing, status), upstream first.

    ``requested`` and ``missing`` count what engines are asked: answers to requests that are no
    longer asked do not count. ``status`` is Dagster's: fresh, stale or missing.
    """
    settings = run.recipe.settings()
    requested = {
        (row["name"], row["partition"]): (row["requested"], row["answered"])
        for row in run_query(warehouse, REQUESTED, settings).to_pylist()
    }
    unanswered = sql_files.read_sql("analysis", "unanswered_requests")
    for row in run_query(warehouse, unanswered, settings).to_pylist():
        requested["completions", row["model"]] = (row["requested"], row["completed"])
        requested["rewards", row["model"]] = (row["requested"], row["rewarded"])
    graph = defs.resolve_asset_graph()
    statuses = StaleStatuses(instance, graph)
    lines = []
    for key in graph.toposorted_asset_keys:
        name = key.to_user_string()
        partitions = graph.get(key).partitions_def
        counts = _row_counts(warehouse, name, partitioned=partitions is not None)
        for partition in partitions.get_partition_keys() if partitions else [None]:
            asked, answered = requested.get((name, partition), (None, None))
            lines.append(
                {
                    "table": name,
                    "partition": partition,
                    "rows": counts.get(partition, 0),
                    "requested": asked,
                    "missing": None if asked is None or answered is None else asked - answered,
                    "status": statuses.status(key, partition),
                }
            )
    return pa.Table.from_pylist(lines)


def _row_counts(warehouse: Warehouse, table: str, *, partitioned: bool) -> dict[str | None, int]:
    column = _COLUMNS.get(table, "policy") if partitioned else "NULL"
    rows = run_query(
        warehouse,
        f"SELECT {column} AS partition, count(*) AS rows FROM {table} GROUP BY ALL",
        {},
    )
    return {row["partition"]: row["rows"] for row in rows.to_pylist()}
