"""Stage four: a reward for each completion, and the judge's ranking of the controversial ones."""

from dagster import AssetsDefinition

from alignment_assets.assets.factory import from_models
from alignment_assets.assets.partitions import (
    model_feeds_policies,
    model_partitions,
    policy_partitions,
)
from alignment_assets.assets.plain import llm_asset, sql_asset
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import comparing, scoring

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
            files=[f"rewards/{scorer.task}" for scorer in scorers],
            settings={
                "rubric": [scorer.rubric for scorer in scorers],
                "thinking": [scorer.thinking_tokens for scorer in scorers],
            },
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
            files=["judge_comparisons/compare"],
            settings={"thinking": recipe.rewards.comparison_thinking_tokens},
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
        ),
    ]
