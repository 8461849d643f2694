"""Stage two: how controversial each licensed prompt is, and how far people and grades agree."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import (
    answering_for,
    count_values,
    publish,
    sql_asset,
    table_asset,
)
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.request_sets import grading, grading_parameters
from alignment_assets.requests.runner import Question
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Staging, Warehouse

GROUP = "controversy"


def label_assets(recipe: Recipe) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    return [
        _controversy_labels_asset(recipe),
        sql_asset(
            recipe,
            "controversy_agreement",
            group=GROUP,
            deps=["controversy_labels", "human_labels"],
        ),
        sql_asset(
            recipe,
            "alignment_prompts",
            group="prompts",
            deps=["licensed_prompts", "controversy_labels"],
            counts="track",
        ),
    ]


def _controversy_labels_asset(recipe: Recipe) -> AssetsDefinition:
    table, grader = "controversy_labels", recipe.controversy
    query, question_query = (
        sql_files.read_sql("assets", table),
        sql_files.read_sql("requests", table),
    )
    fixed = {**recipe.settings(), **grading_parameters(recipe)}

    @table_asset(
        table,
        group=GROUP,
        kinds={"llm"},
        deps=["licensed_prompts", "wordings"],
        version=sql_files.code_version(
            query, question_query, settings={**fixed, "attempts": grader.attempts}
        ),
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        answering = answering_for(context, warehouse, inference, gpus, recipe)
        questions: list[Question] = []
        unparsed: list[str] | None = None  # all prompts
        for attempt in range(grader.attempts):
            questions.append(grading(recipe, answering.fingerprint, attempt, unparsed))
            answering.ask(questions[-1])
            with warehouse.stage(table) as staging:
                answering.stage(staging, questions, query, fixed)
                unparsed = _unparsed(staging)
                if not unparsed or attempt + 1 == grader.attempts:
                    counted = {
                        **count_values(staging, "grade"),
                        **count_values(staging, "parsed_as"),
                    }
                    return publish(
                        context, recipe, staging, fixed, {**answering.metadata(), **counted}
                    )
            context.log.info(f"{table}: {len(unparsed):,} answers do not parse; asking them again")
        raise AssertionError("the last attempt returns")

    return build


def _unparsed(staging: Staging) -> list[Any]:
    rows = staging.connection.execute(
        "SELECT prompt_id FROM staging.controversy_labels "
        "WHERE parsed_as = 'unparsable' ORDER BY ALL"
    ).fetchall()
    return [prompt_id for (prompt_id,) in rows]
