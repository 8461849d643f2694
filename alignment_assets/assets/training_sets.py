"""Stage five: quantile rewards, the selected pairs and samples, and the prompts that gave none.

All of it is SQL; see ``sql/assets`` for the published rules.
"""

from dagster import AssetDep, AssetsDefinition

from alignment_assets.assets.factory import from_models, sql_asset
from alignment_assets.assets.partitions import model_feeds_policies, policy_partitions
from alignment_assets.assets.rewards import require_rewards
from alignment_assets.recipe.run import Run

GROUP = "training_sets"


def training_set_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    recipe = run.recipe
    texts = from_models(["completions"], model_feeds_policies(recipe))
    upstream: dict[str, tuple[list[str | AssetDep], str]] = {
        "dpo_pairs": (["quantile_rewards", "alignment_prompts", *texts], "chosen_band"),
        "qrpo_samples": (["dpo_pairs"], "selected_as"),
        "selection_exclusions": (["quantile_rewards", "dpo_pairs"], "reason"),
    }
    return [
        sql_asset(
            run,
            "quantile_rewards",
            group=GROUP,
            deps=[
                "judge_rankings",
                *from_models(["rewards", "completions"], model_feeds_policies(recipe)),
            ],
            partitions=policy_partitions(recipe),
            partition_column="policy",
            requires=require_rewards,
            counts="band",
        ),
        *(
            sql_asset(
                run,
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
