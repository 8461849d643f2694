"""Stage four: a reward for each completion, and the judge's ranking of the controversial ones."""

from collections.abc import Mapping
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import (
    answering_for,
    from_models,
    publish_answers,
    sql_asset,
    table_asset,
    without_partition_list,
)
from alignment_assets.assets.partitions import (
    model_feeds_policies,
    model_partitions,
    policy_partitions,
)
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.request_sets import comparing, rewarding
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

GROUP = "rewards"


def reward_assets(recipe: Recipe) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    return [
        _rewards_asset(recipe),
        _judge_comparisons_asset(recipe),
        sql_asset(
            recipe,
            "judge_rankings",
            group=GROUP,
            deps=["judge_comparisons", *from_models(["rewards"], model_feeds_policies(recipe))],
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


def _rewards_asset(recipe: Recipe) -> AssetsDefinition:
    table = "rewards"
    scorers = {"standard": recipe.rewards.standard, "controversial": recipe.rewards.controversial}
    query = sql_files.read_sql("assets", table)
    question_queries = [
        sql_files.read_sql("requests", f"rewards_{scoring.task}") for scoring in scorers.values()
    ]
    rubrics = {"rubric": [scoring.rubric for scoring in scorers.values()]}

    @table_asset(
        table,
        group=GROUP,
        kinds={"llm"},
        deps=["completions", "completion_requests", "alignment_prompts", "wordings"],
        version=sql_files.code_version(
            query,
            *question_queries,
            settings={**without_partition_list(recipe.settings()), **rubrics},
        ),
        partitions=model_partitions(recipe),
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        model = context.partition_key
        answering = answering_for(context, warehouse, inference, gpus, recipe)
        parameters: dict[str, Any] = {**recipe.settings(), "model": model}
        questions = rewarding(recipe, answering.fingerprint, model)
        for question in questions:
            answering.ask(question)
        partition = {"model": model}
        return publish_answers(context, answering, questions, query, parameters, partition)

    return build


def _judge_comparisons_asset(recipe: Recipe) -> AssetsDefinition:
    table = "judge_comparisons"
    query, question_query = (
        sql_files.read_sql("assets", table),
        sql_files.read_sql("requests", table),
    )

    @table_asset(
        table,
        group=GROUP,
        kinds={"llm"},
        deps=[
            *from_models(["rewards", "completions"], model_feeds_policies(recipe)),
            "alignment_prompts",
            "wordings",
        ],
        version=sql_files.code_version(
            query, question_query, settings=without_partition_list(recipe.settings())
        ),
        partitions=policy_partitions(recipe),
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        policy = context.partition_key
        answering = answering_for(context, warehouse, inference, gpus, recipe)
        parameters = {**recipe.settings(), "policy": policy}
        require_rewards(warehouse, parameters, f"{table}[{policy}]")
        question = comparing(recipe, answering.fingerprint, policy)
        answering.ask(question)
        partition = {"policy": policy}
        return publish_answers(context, answering, [question], query, parameters, partition)

    return build
