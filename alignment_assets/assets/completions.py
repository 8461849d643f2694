"""Stage three: what each model is asked, and what it answers."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import (
    answering_for,
    count_values,
    publish,
    publish_answers,
    table_asset,
    without_partition_list,
)
from alignment_assets.assets.partitions import model_partitions
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.request_sets import completing
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

GROUP = "completions"


def completion_assets(recipe: Recipe) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    return [_completion_requests_asset(recipe), _completions_asset(recipe)]


def variants(recipe: Recipe, model: str) -> dict[str, list[str]]:
    """Return the variants that a model answers under on each track (report, section 4.1.4).

    A policy gives reference completions only. Of the models, those named for it also answer
    standard prompts with the charter.
    """
    asked = recipe.completions
    if model in asked.policies:
        return {"standard_variants": ["reference"], "controversial_variants": ["reference"]}
    charter = ["charter"] if model in asked.standard_charter_models else []
    standard = [*asked.standard_variants, *charter]
    return {
        "standard_variants": standard,
        "controversial_variants": list(asked.controversial_variants),
    }


def _completion_requests_asset(recipe: Recipe) -> AssetsDefinition:
    table = "completion_requests"
    query = sql_files.read_sql("assets", table)

    @table_asset(
        table,
        group=GROUP,
        kinds={"sql"},
        deps=["alignment_prompts", "wordings", "personas"],
        version=sql_files.code_version(query, settings=recipe.settings()),
        partitions=model_partitions(recipe),
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference
    ) -> MaterializeResult[None]:
        model = context.partition_key
        parameters: dict[str, Any] = {
            **recipe.settings(),
            **variants(recipe, model),
            "model": model,
            "model_fingerprint": inference.fingerprint(model, recipe, warehouse.home),
            "sampling": recipe.completion_sampling(model).as_json(),
        }
        with warehouse.stage(table, {"model": model}) as staging:
            staging.insert(query, parameters)
            return publish(context, recipe, staging, parameters, count_values(staging, "variant"))

    return build


def _completions_asset(recipe: Recipe) -> AssetsDefinition:
    table = "completions"
    query, question_query = (
        sql_files.read_sql("assets", table),
        sql_files.read_sql("requests", table),
    )

    @table_asset(
        table,
        group=GROUP,
        kinds={"llm"},
        deps=["completion_requests", "alignment_prompts", "wordings", "personas"],
        version=sql_files.code_version(
            query, question_query, settings=without_partition_list(recipe.settings())
        ),
        partitions=model_partitions(recipe),
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        model = context.partition_key
        parameters = {**recipe.settings(), "model": model}
        answering = answering_for(context, warehouse, inference, gpus, recipe)
        question = completing(recipe, model)
        answering.ask(question)
        partition = {"model": model}
        return publish_answers(
            context, answering, [question], query, parameters, partition, counts="finish_reason"
        )

    return build
