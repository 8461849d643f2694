"""Stage five: quantile rewards, the selected pairs and samples, and the prompts that gave none.

All of it is SQL; see ``sql/assets`` for the published rules.
"""

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import (
    count_values,
    from_models,
    publish,
    sql_asset,
    table_asset,
    without_partition_list,
)
from alignment_assets.assets.partitions import model_feeds_policies, policy_partitions
from alignment_assets.assets.rewards import require_rewards
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

GROUP = "training_sets"


def training_set_assets(recipe: Recipe) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    texts = from_models(["completions"], model_feeds_policies(recipe))
    upstream: dict[str, tuple[list[str | AssetDep], str]] = {
        "dpo_pairs": (["quantile_rewards", "alignment_prompts", *texts], "chosen_band"),
        "qrpo_samples": (["dpo_pairs"], "selected_as"),
        "selection_exclusions": (["quantile_rewards", "dpo_pairs"], "reason"),
    }
    return [
        _quantile_rewards_asset(recipe),
        *(
            sql_asset(
                recipe,
                table,
                group=GROUP,
                deps=deps,
                partitions=policy_partitions(recipe),
                partition_column="policy",
                counts=counts,
            )
            for table, (deps, counts) in upstream.items()
        ),
    ]


def _quantile_rewards_asset(recipe: Recipe) -> AssetsDefinition:
    table = "quantile_rewards"
    query = sql_files.read_sql("assets", table)

    @table_asset(
        table,
        group=GROUP,
        kinds={"sql"},
        deps=[
            "judge_rankings",
            *from_models(["rewards", "completions"], model_feeds_policies(recipe)),
        ],
        version=sql_files.code_version(query, settings=without_partition_list(recipe.settings())),
        partitions=policy_partitions(recipe),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        policy = context.partition_key
        parameters = {**recipe.settings(), "policy": policy}
        require_rewards(warehouse, parameters, f"{table}[{policy}]")
        with warehouse.stage(table, {"policy": policy}) as staging:
            staging.insert(query, parameters)
            return publish(context, recipe, staging, parameters, count_values(staging, "band"))

    return build
