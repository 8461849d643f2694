"""Stage two: how controversial each licensed prompt is, and how far people and grades agree."""

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import (
    check_inputs,
    count_values,
    publish,
    runner_for,
    sql_asset,
    table_asset,
)
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.requests.request_sets import RequestSet, grading, grading_parameters
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.resource import Staging, Warehouse

GROUP = "controversy"


def label_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    return [
        _controversy_labels_asset(run),
        sql_asset(
            run,
            "controversy_agreement",
            group=GROUP,
            deps=["controversy_labels", "human_labels"],
        ),
        sql_asset(
            run,
            "alignment_prompts",
            group=GROUP,
            deps=["licensed_prompts", "controversy_labels"],
            counts="track",
        ),
    ]


def _controversy_labels_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    table, grader = "controversy_labels", recipe.controversy
    query = sql_files.read_sql("assets", table)
    asking = sql_files.read_sql("requests", f"{table}/grade")
    fixed = {**recipe.settings(), **grading_parameters(recipe)}
    versioned = {**fixed, **table_settings(recipe), "attempt": grader.attempts}

    @table_asset(
        table,
        group=GROUP,
        kinds={"llm"},
        deps=["licensed_prompts", "wordings"],
        version=sql_files.code_version(query, asking, settings=versioned),
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        check_inputs(warehouse, run, TablePart(table))
        runner = runner_for(context, run, warehouse, inference, gpus)
        asked: list[RequestSet] = []
        unparsed: list[str] | None = None  # all prompts
        for attempt in range(grader.attempts):
            asked.append(grading(recipe, runner.fingerprint, attempt, unparsed))
            runner.answer(asked[-1])
            with warehouse.stage(table) as staging:
                runner.stage(staging, asked, query, fixed)
                unparsed = _unparsed(staging)
                if not unparsed or attempt + 1 == grader.attempts:
                    counted = {
                        **count_values(staging, "grade"),
                        **count_values(staging, "parsed_as"),
                    }
                    return publish(context, run, staging, fixed, {**runner.metadata(), **counted})
            context.log.info(f"{table}: {len(unparsed):,} answers do not parse; asking them again")
        raise AssertionError("the last attempt returns")

    return build


def _unparsed(staging: Staging) -> list[str]:
    rows = staging.connection.execute(
        "SELECT prompt_id FROM staging.controversy_labels "
        "WHERE parsed_as = 'unparsable' ORDER BY ALL"
    ).fetchall()
    return [str(prompt_id) for (prompt_id,) in rows]
