"""Strategies side by side: what each makes of the same rewards, without asking an engine."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import publish, table_asset
from alignment_assets.assets.partitions import policy_partitions
from alignment_assets.assets.training_sets import GROUP, draw_pairs, drawing_files
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage
from alignment_assets.warehouse.resource import Warehouse

TABLE = "selection_report"


def selection_report_asset(run: Run) -> AssetsDefinition:
    """Build the asset."""
    recipe = run.recipe
    query = sql_files.read_sql("assets", TABLE)
    draws = reported_draws(recipe)
    files = [text for strategy, _ in draws for text in drawing_files(strategy)]
    logic = sql_files.code_version(*files, query, settings=table_settings(recipe))

    @table_asset(
        TABLE,
        group=GROUP,
        kinds={"sql"},
        deps=["quantile_rewards", "policy_tokens", "alignment_prompts"],
        version=sql_files.digest([logic, draws, recipe.selection.pairs_per_prompt]),
        partitions=policy_partitions(recipe),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        parameters = {**recipe.settings(), "policy": context.partition_key}
        with warehouse.stage(TABLE, {"policy": context.partition_key}) as staging:
            Lineage(staging.connection, parameters).check(staging.part)
            draw_each(staging.connection, draws, f"{staging.reads}.main.{TABLE}", parameters)
            staging.insert(query, parameters)
            return publish(context, run, staging, parameters)

    return build


def draw_each(
    connection: duckdb.DuckDBPyConnection,
    draws: Sequence[tuple[str, int]],
    before: str,
    parameters: Mapping[str, Any],
) -> None:
    """Draw a policy's pairs in several ways into the temporary table ``reported``.

    The temporary table ``asked`` gets which ways, also those that draw nothing, and ``earlier``
    what the report says now.

    Args:
        connection: sees ``quantile_rewards`` and ``alignment_prompts``.
        draws: strategies of ``sql/selection``, each with a seed.
        before: the report's table, as SQL names it.
        parameters: the recipe's settings and ``policy``.

    Raises:
        WarehouseError: a strategy is none.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE earlier AS FROM {before} WHERE policy = $policy",
        {"policy": parameters["policy"]},
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE reported "
        "(strategy VARCHAR, seed BIGINT, chosen UUID, rejected UUID)"
    )
    connection.execute("CREATE OR REPLACE TEMP TABLE asked (strategy VARCHAR, seed BIGINT)")
    connection.executemany("INSERT INTO asked VALUES (?, ?)", list(map(list, draws)))
    for strategy, seed in draws:
        draw_pairs(connection, {**parameters, "selection_strategy": strategy, "seed": seed})
        connection.execute(
            "INSERT INTO reported SELECT $strategy, $seed, chosen, rejected FROM taken",
            {"strategy": strategy, "seed": seed},
        )


def reported_draws(recipe: Recipe) -> list[tuple[str, int]]:
    """Return strategies with the seeds that they are drawn by: the recipe's own by two.

    Of ``sql/selection`` there are all but `delta` where nothing says which model is stronger.
    """
    names = sql_files.sql_names("selection")
    there = [name for name in names if name != "delta" or recipe.selection.model_order]
    own = recipe.selection.strategy
    return [*((name, recipe.seed) for name in there), (own, recipe.seed + 1)]
