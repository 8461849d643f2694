"""Stage four: a reward for each completion, and the judge's ranking of the controversial ones."""

from collections.abc import Mapping
from typing import Any

from dagster import AssetsDefinition

from alignment_assets.assets.factory import from_models, llm_asset, sql_asset
from alignment_assets.assets.partitions import (
    model_feeds_policies,
    model_partitions,
    policy_partitions,
)
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import comparing, scoring
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

GROUP = "rewards"


def reward_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    recipe = run.recipe
    scorers = recipe.rewards.scorers.values()
    return [
        llm_asset(
            run,
            "rewards",
            scoring,
            group=GROUP,
            deps=["completions", "completion_requests", "alignment_prompts", "wordings"],
            partitions=model_partitions(recipe),
            partition_column="model",
            files=[f"rewards/{scorer.task}" for scorer in scorers],
            settings={"rubric": [scorer.rubric for scorer in scorers]},
        ),
        llm_asset(
            run,
            "judge_comparisons",
            comparing,
            group=GROUP,
            deps=[
                *from_models(["rewards", "completions"], model_feeds_policies(recipe)),
                "alignment_prompts",
                "wordings",
            ],
            partitions=policy_partitions(recipe),
            partition_column="policy",
            files=["judge_comparisons/compare"],
            requires=require_rewards,
        ),
        sql_asset(
            run,
            "judge_rankings",
            group=GROUP,
            deps=[
                "judge_comparisons",
                *from_models(["rewards"], model_feeds_policies(recipe)),
                "alignment_prompts",
            ],
            partitions=policy_partitions(recipe),
            partition_column="policy",
        ),
    ]


class MissingRewards(RuntimeError):
    """A training set cannot be built yet; the message names the models that are missing."""


def require_rewards(warehouse: Warehouse, parameters: Mapping[str, Any], label: str) -> None:
    """Raise `MissingRewards` unless every completion that a policy needs has its reward row.

    Args:
        warehouse: where the rewards are looked for.
        parameters: with ``completions_models``, ``completions_policies`` and ``policy``.
        label: what is to be built, for the message.
    """
    query = sql_files.read_sql("analysis", "unanswered_requests")
    needed = {*parameters["completions_models"], parameters["policy"]}
    with warehouse.read() as connection:
        rows = connection.execute(query, sql_files.named_parameters(query, parameters)).fetchall()
    missing = [
        f"{model} ({requested - rewarded:,} of {requested:,} without reward, "
        f"{not_asked:,} prompts not asked)"
        for model, requested, _, rewarded, not_asked in rows
        if model in needed and (rewarded < requested or not_asked)
    ]
    if missing:
        raise MissingRewards(
            f"{label}: rewards are missing for {'; '.join(missing)}; materialize "
            f"completion_requests, completions and rewards of these partitions first"
        )
