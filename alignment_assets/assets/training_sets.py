"""Stage five: lengths, quantile rewards, the selected pairs and samples, and what trainers need.

The rules are SQL; see ``sql/assets`` and ``sql/selection`` for the published ones.
"""

from collections.abc import Mapping
from typing import Any

import duckdb
from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.calibration import check_calibration, gate_deps
from alignment_assets.assets.factory import (
    count_values,
    from_models,
    publish,
    table_asset,
)
from alignment_assets.assets.partitions import model_feeds_policies, policy_partitions
from alignment_assets.assets.plain import llm_asset, sql_asset
from alignment_assets.assets.policy_tokens import policy_tokens_asset
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.requests.request_sets import measuring
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage
from alignment_assets.warehouse.resource import Warehouse, WarehouseError

GROUP = "training_sets"
_ORDERED = {"prompt", "candidate", "text", "reward", "chosen_order", "rejected_order"}
_WITH_TEXTS = {"dpo_pairs", "qrpo_samples"}


def training_set_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    recipe = run.recipe
    texts = from_models(["completions"], model_feeds_policies(recipe))
    upstream: dict[str, tuple[list[str | AssetDep], str]] = {
        "dpo_pairs": (
            ["selected_pairs", "quantile_rewards", "policy_tokens", "alignment_prompts", *texts],
            "chosen_band",
        ),
        "qrpo_samples": (["dpo_pairs"], "selected_as"),
        "selection_exclusions": (["quantile_rewards", "selected_pairs"], "reason"),
    }
    return [
        policy_tokens_asset(run),
        _quantile_rewards_asset(run),
        _selected_pairs_asset(run),
        llm_asset(
            run,
            "reference_logprobs",
            measuring,
            group=GROUP,
            deps=[
                *("selected_pairs", "quantile_rewards", "policy_tokens", "alignment_prompts"),
                *texts,
            ],
            partitions=policy_partitions(recipe),
            files=["reference_logprobs/loglikelihood"],
        ),
        *(
            sql_asset(
                run,
                table,
                group=GROUP,
                deps=deps,
                partitions=policy_partitions(recipe),
                counts=counts,
                straight=table in _WITH_TEXTS,
            )
            for table, (deps, counts) in upstream.items()
        ),
    ]


def _quantile_rewards_asset(run: Run) -> AssetsDefinition:
    recipe, table = run.recipe, "quantile_rewards"
    query = sql_files.read_sql("assets", table)
    logic = sql_files.code_version(query, settings=table_settings(recipe))

    @table_asset(
        table,
        group=GROUP,
        kinds={"sql"},
        deps=[
            *("judge_rankings", "policy_tokens"),
            *from_models(["rewards", "completions"], model_feeds_policies(recipe)),
            *gate_deps(recipe),
        ],
        # Rows that no gate let through are stale once there is one.
        version=sql_files.digest([logic, "gate"]) if recipe.calibration.has_gate else logic,
        partitions=policy_partitions(recipe),
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference
    ) -> MaterializeResult[None]:
        parameters = {**recipe.settings(), "policy": context.partition_key}
        check_calibration(warehouse, run, lambda model: inference.fingerprint(model, run))
        with warehouse.stage(table, {"policy": context.partition_key}) as staging:
            Lineage(staging.connection, parameters).check(staging.part)
            staging.insert(query, parameters)
            return publish(context, run, staging, parameters, count_values(staging, "band"))

    return build


def _selected_pairs_asset(run: Run) -> AssetsDefinition:
    recipe, table = run.recipe, "selected_pairs"
    query = sql_files.read_sql("assets", table)
    selection = recipe.selection
    logic = sql_files.code_version(
        *drawing_files(selection.strategy), query, settings=table_settings(recipe)
    )

    @table_asset(
        table,
        group=GROUP,
        kinds={"sql"},
        deps=["quantile_rewards", "alignment_prompts"],
        version=sql_files.digest([logic, selection.pairs_per_prompt]),
        partitions=policy_partitions(recipe),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        parameters = {**recipe.settings(), "policy": context.partition_key}
        with warehouse.stage(table, {"policy": context.partition_key}) as staging:
            Lineage(staging.connection, parameters).check(staging.part)
            draw_pairs(staging.connection, parameters)
            staging.insert(query, parameters)
            counted = count_values(staging, "chosen_band")
            return publish(context, run, staging, parameters, counted)

    return build


def drawing_files(strategy: str) -> list[str]:
    """Return the queries that a strategy's pairs are drawn by."""
    read = sql_files.read_sql
    return [
        read("selection", strategy),
        *(read("pairs", name) for name in ("candidates", "drawn", "picked", "taken")),
    ]


def draw_pairs(connection: duckdb.DuckDBPyConnection, parameters: Mapping[str, Any]) -> None:
    """Draw a policy's pairs into the temporary table ``taken``, one pair of each prompt at a time.

    The strategy ``sql/selection/<$selection_strategy>.sql`` runs once for each ``$pair_index``. It
    reads ``candidates`` and ``taken``, and gives either the columns ``chosen`` and ``rejected``, or
    candidates with their ``chosen_order`` and ``rejected_order``, by which `sql/pairs/drawn` draws.

    Args:
        connection: sees ``quantile_rewards`` and ``alignment_prompts``.
        parameters: the recipe's settings and ``policy``.

    Raises:
        WarehouseError: the strategy gives other columns.
    """
    strategy = parameters["selection_strategy"]
    _make_temporary(connection, "candidates", sql_files.read_sql("pairs", "candidates"), parameters)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE taken (pair_index INTEGER, prompt UINTEGER, chosen UUID, "
        "rejected UUID, chosen_text UBIGINT, rejected_text UBIGINT)"
    )
    for pair_index in range(parameters["selection_pairs_per_prompt"]):
        given = {**parameters, "pair_index": pair_index}
        _make_temporary(connection, "drawn", _drawing(connection, strategy, given), given)
        _make_temporary(connection, "picked", sql_files.read_sql("pairs", "picked"), given)
        strangers = connection.execute(
            "SELECT chosen, rejected FROM drawn "
            "WHERE (chosen IS NOT NULL AND chosen NOT IN (SELECT candidate FROM picked)) OR "
            "(rejected IS NOT NULL AND rejected NOT IN (SELECT candidate FROM picked)) LIMIT 1"
        ).fetchone()
        if strangers:
            raise WarehouseError(
                f"sql/selection/{strategy}.sql gives {strangers}, which are no candidates; give "
                f"values of the column candidate, or NULL"
            )
        query = sql_files.read_sql("pairs", "taken")
        connection.execute(
            f"INSERT INTO taken BY NAME ({query}\n)", sql_files.named_parameters(query, given)
        )


def _drawing(
    connection: duckdb.DuckDBPyConnection, strategy: str, parameters: Mapping[str, Any]
) -> str:
    """Return the query for the pairs of a strategy."""
    query = sql_files.read_sql("selection", strategy)
    given = sql_files.named_parameters(query, parameters)
    described = connection.execute(f"DESCRIBE ({query}\n)", given).fetchall()
    columns = [str(column[0]) for column in described]
    if sorted(columns) == ["chosen", "rejected"]:
        return query
    if not _ORDERED.issubset(columns):
        raise WarehouseError(
            f"sql/selection/{strategy}.sql gives the columns {columns}; give chosen and rejected, "
            f"each a candidate of the table candidates, or rows of it with chosen_order and "
            f"rejected_order"
        )
    drawn = sql_files.read_sql("pairs", "drawn")
    return f"WITH ordered AS NOT MATERIALIZED ({query}\n) SELECT * FROM ({drawn}\n)"


def _make_temporary(
    connection: duckdb.DuckDBPyConnection, table: str, query: str, parameters: Mapping[str, Any]
) -> None:
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS ({query}\n)",
        sql_files.named_parameters(query, parameters),
    )
