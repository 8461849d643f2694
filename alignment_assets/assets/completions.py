"""Stage three: what each model is asked, and what it answers."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import count_values, publish, table_asset
from alignment_assets.assets.partitions import model_partitions
from alignment_assets.assets.plain import llm_asset
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.requests.request_sets import completing
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

GROUP = "completions"


def completion_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    return [
        _completion_requests_asset(run),
        llm_asset(
            run,
            "completions",
            completing,
            group=GROUP,
            deps=["completion_requests", "alignment_prompts", "wordings", "personas"],
            partitions=model_partitions(run.recipe),
            files=["completions/generate"],
            counts="finish_reason",
            straight=True,
        ),
    ]


def _completion_requests_asset(run: Run) -> AssetsDefinition:
    table, recipe = "completion_requests", run.recipe
    query = sql_files.read_sql("assets", table)

    @table_asset(
        table,
        group=GROUP,
        kinds={"sql"},
        deps=["alignment_prompts", "wordings", "personas"],
        version=sql_files.code_version(query, settings=table_settings(recipe)),
        partitions=model_partitions(recipe),
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference
    ) -> MaterializeResult[None]:
        model = context.partition_key
        variants = recipe.variants(model)
        parameters: dict[str, Any] = {
            **recipe.settings(),
            "standard_variants": variants["standard"],
            "controversial_variants": variants["controversial"],
            "model": model,
            "model_fingerprint": inference.fingerprint(model, run),
            "sampling": recipe.completion_sampling(model).as_json(),
        }
        with warehouse.stage(table, {"model": model}) as staging:
            staging.insert(query, parameters)
            return publish(context, run, staging, parameters, count_values(staging, "variant"))

    return build
