"""Tables of the warehouse filled by hand, and the assets that are one SELECT run on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from dagster import AssetKey

from alignment_assets.assets.training_sets import draw_pairs
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import LakeWarehouse, Published, Warehouse
from benchmarks import by_hand
from tests.conftest import Graph
from tests.support.ids import named, uid
from tests.support.reference_selection import Candidate, Rules
from tests.support.texts import plain_normal_hash


def new_warehouse(home: Path, **configuration: Any) -> Warehouse:
    """Return the warehouse of a folder; ``configuration`` is DuckDB's."""
    return Warehouse(
        database=str(home / "alignment.duckdb"), lock_timeout=30, connection_config=configuration
    )


def new_lake(home: Path, **configuration: Any) -> LakeWarehouse:
    """Return the warehouse of a folder as a DuckLake with a catalog in SQLite."""
    return LakeWarehouse(
        database=f"sqlite:{home / 'catalog.sqlite'}",
        data=str(home / "lake"),
        folder=str(home),
        lock_timeout=30,
        connection_config={"autoload_known_extensions": False, **configuration},
    )


def fill(
    warehouse: Warehouse | LakeWarehouse, table: str, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Replace a table's rows; columns that a row leaves out are NULL."""
    listed = list(rows)
    columns = {
        column.name: arrow_column(column, [row.get(column.name) for row in listed])
        for column in sql_files.tables()[table].columns
    }
    with warehouse.stage(table) as staging:
        staging.insert_arrow(pa.table(columns))
        staging.publish({})


def arrow_column(column: sql_files.Column, values: list[Any]) -> pa.Array:
    """Return a table's column of some values; Arrow takes whole numbers for BIGINT."""
    return pa.array(values, pa.uint64() if column.type == "UBIGINT" else None)


def fill_prompts(warehouse: Warehouse, tracks: Mapping[str, str]) -> None:
    """Fill ``alignment_prompts``, given the track of each prompt by its name."""
    fill(
        warehouse,
        "alignment_prompts",
        [
            {
                "prompt_id": uid(prompt_id),
                "prompt_hash": prompt_id,
                "track": track,
                "messages": [{"role": "user", "content": f"question {prompt_id}"}],
                "messages_hash": f"hash {prompt_id}",
                "dataset": "preference_mix",
                "datasets": ["preference_mix"],
            }
            for prompt_id, track in tracks.items()
        ],
    )


def fill_candidates(warehouse: Warehouse, candidates: Sequence[Candidate]) -> None:
    """Fill all tables up to rewards with candidates and their prompts."""
    fill_prompts(warehouse, {one.prompt_id: one.track for one in candidates})
    rows = [_row(candidate) for candidate in candidates]
    for table in ("completion_requests", "completions", "rewards"):
        fill(warehouse, table, rows)
    policies = sorted({one.model for one in candidates if one.variant == "reference"})
    fill(warehouse, "policy_tokens", _token_counts(rows, policies))


def _token_counts(
    rows: Sequence[Mapping[str, Any]], policies: Sequence[str]
) -> list[dict[str, Any]]:
    """Return what each policy's tokenizer counts of candidates: all count alike."""
    counted = ("prompt_tokens", "completion_tokens")
    return [
        {
            **{name: row[name] for name in ("prompt_id", "completion_id", *counted)},
            "policy": policy,
            "content_id": row["completion_id"],
            "missing_reason": "uncounted" if None in [row[name] for name in counted] else None,
            "tokenizer_fingerprint": "tokenizer",
        }
        for policy in policies
        for row in rows
        if row["text"] is not None
    ]


def _row(candidate: Candidate) -> dict[str, Any]:
    """Return all that the tables say of a candidate."""
    text = candidate.text
    return {
        **asdict(candidate),
        "completion_id": uid(candidate.completion_id),
        "prompt_id": uid(candidate.prompt_id),
        "request_id": uid(f"request {candidate.completion_id}"),
        "text_hash": None if text is None else hashlib.sha256(text.encode()).hexdigest(),
        "text_tokens": candidate.completion_tokens,
        "normal_hash": None if text is None else plain_normal_hash(text),
        "wording_hash": "hash",
        "principle": "honest" if candidate.variant == "principle" else None,
        "persona_id": uid("persona") if candidate.variant == "persona" else None,
        "model_fingerprint": "fingerprint",
        "sampling": "{}",
        "error": "refused" if text is None else None,
        "engine": "fake",
        "engine_version": "1",
        "engine_settings": "{}",
        "answered_at": datetime(2025, 9, 2),
        "reward": candidate.score,
        "missing_reason": "no score" if candidate.score is None else None,
        "scorer": "scorer",
        "task": "classify",
    }


def parameters(rules: Rules) -> dict[str, Any]:
    """Return rules as the parameters that SQL files name."""
    selection = (
        "strategy",
        "pairs_per_prompt",
        "rejected_quantile",
        "min_references",
        "max_sequence_tokens",
        "allow_truncated",
        "references",
    )
    return {
        "policy": rules.policy,
        "seed": rules.seed,
        "completions_models": list(rules.models),
        "rewards_comparison_judge": "judge",
        "rewards_compared_candidates": rules.compared,
        "rewards_min_score_mass": 0.0,
        **{f"selection_{name}": getattr(rules, name) for name in selection},
        "selection_model_order": list(rules.model_order),
    }


def run_asset(warehouse: Warehouse, table: str, rules: Rules) -> Published:
    """Build one policy's partition of a table with its SELECT in ``sql/assets``."""
    values = parameters(rules)
    with warehouse.stage(table, {"policy": rules.policy}) as staging:
        if table == "selected_pairs":
            draw_pairs(staging.connection, values)
        staging.insert(sql_files.read_sql("assets", table), values)
        return staging.publish(values)


def read_rows(warehouse: Warehouse, query: str) -> list[dict[str, Any]]:
    """Return a query's rows as dictionaries; ids that `uid` made are shown as the names."""
    with warehouse.read() as connection:
        rows = connection.execute(query).to_arrow_table().to_pylist()
    return [named(row) for row in rows]


SELECTION = {
    "quantile_rewards": "completion_id",
    "selected_pairs": "prompt_id, pair_index",
    "dpo_pairs": "prompt_id, pair_index",
    "qrpo_samples": "sample_id",
    "selection_exclusions": "prompt_id",
}


def read_selection(warehouse: Warehouse, rules: Rules) -> list[list[dict[str, Any]]]:
    """Run selection for a policy; return the rows of each of its five tables, in a fixed order."""
    for table in SELECTION:
        run_asset(warehouse, table, rules)
    return [
        read_rows(warehouse, f"FROM {table} WHERE policy = '{rules.policy}' ORDER BY {order}")
        for table, order in SELECTION.items()
    ]


def take_as_made(graph: Graph) -> None:
    """Enter all rows that stand, filled by hand, as makings of assets that belong together."""
    by_hand.take_as_made(graph.warehouse, graph.run)


def partitions_of(graph: Graph, key: AssetKey) -> list[str | None]:
    """Return an asset's partitions; None alone if it has none."""
    partitions = graph.defs.resolve_asset_graph().get(key).partitions_def
    return list(partitions.get_partition_keys()) if partitions else [None]
