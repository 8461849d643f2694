"""What is done, missing or stale, for each table and partition."""

from __future__ import annotations

import pyarrow as pa
from dagster import AssetKey, DagsterInstance, Definitions

# Dagster tells staleness by no public Python API; this is what its web server asks.
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from alignment_assets.commands.query import answer
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse import sql_files
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


def table_status(
    warehouse: Warehouse, recipe: Recipe, defs: Definitions, instance: DagsterInstance
) -> pa.Table:
    """Return rows (table, partition, rows, requested, missing, status), upstream first.

    ``requested`` and ``missing`` count what engines are asked: answers to questions that are no
    longer asked do not count. ``status`` is Dagster's: fresh, stale or missing.
    """
    requested = {
        (row["name"], row["partition"]): (row["requested"], row["answered"])
        for row in answer(warehouse, recipe, REQUESTED, {}).to_pylist()
    }
    unanswered = sql_files.read_sql("analysis", "unanswered_requests")
    for row in answer(warehouse, recipe, unanswered, {}).to_pylist():
        requested["completions", row["model"]] = (row["requested"], row["completed"])
        requested["rewards", row["model"]] = (row["requested"], row["rewarded"])
    graph = defs.resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    lines = []
    for key in graph.toposorted_asset_keys:
        name = key.to_user_string()
        cut = graph.get(key).partitions_def
        counts = _row_counts(warehouse, recipe, name, partitioned=cut is not None)
        for partition in cut.get_partition_keys() if cut else [None]:
            asked, answered = requested.get((name, partition), (None, None))
            lines.append(
                {
                    "table": name,
                    "partition": partition,
                    "rows": counts.get(partition, 0),
                    "requested": asked,
                    "missing": None if asked is None or answered is None else asked - answered,
                    "status": _status(resolver, key, partition),
                }
            )
    return pa.Table.from_pylist(lines)


def _status(resolver: CachingStaleStatusResolver, key: AssetKey, partition: str | None) -> str:
    status = resolver.get_status(key, partition).value.lower()
    if status != "stale":
        return status
    causes = {cause.reason for cause in resolver.get_stale_root_causes(key, partition)}
    return f"stale: {', '.join(sorted(causes))}" if causes else status


def _row_counts(
    warehouse: Warehouse, recipe: Recipe, table: str, *, partitioned: bool
) -> dict[str | None, int]:
    column = _COLUMNS.get(table, "policy") if partitioned else "NULL"
    rows = answer(
        warehouse,
        recipe,
        f"SELECT {column} AS partition, count(*) AS rows FROM {table} GROUP BY ALL",
        {},
    )
    return {row["partition"]: row["rows"] for row in rows.to_pylist()}
