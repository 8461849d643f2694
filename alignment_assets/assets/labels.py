"""Stage two: how controversial each licensed prompt is, and how far people and grades agree."""

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import (
    check_inputs,
    runner_for,
    table_asset,
)
from alignment_assets.assets.grader_gate import check_gate
from alignment_assets.assets.graders import (
    AGREEMENT,
    GROUP,
    agreement_asset,
    grader_assets,
    publish_grades,
)
from alignment_assets.assets.plain import sql_asset
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.requests.request_sets import RequestSet, grading, grading_parameters
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.resource import Warehouse


def label_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    return [
        *grader_assets(run),
        _controversy_labels_asset(run),
        agreement_asset(run, "controversy_agreement", ["controversy_labels", "human_labels"]),
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
    logic = sql_files.code_version(query, asking, settings=versioned)

    @table_asset(
        table,
        group=GROUP,
        kinds={"llm"},
        # The gate goes by trials; without one nothing waits for them.
        deps=["licensed_prompts", "wordings", *([AGREEMENT] if grader.has_gate else [])],
        # Grades that no gate let through are stale once there is one.
        version=sql_files.digest([logic, "gate"]) if grader.has_gate else logic,
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        part = TablePart(table)
        check_inputs(warehouse, run, part)
        runner = runner_for(context, run, warehouse, inference, gpus)
        check_gate(warehouse, run, runner.fingerprint)

        def attempt(number: int, only_prompts: list[str] | None) -> RequestSet:
            return grading(recipe, runner.fingerprint, number, only_prompts)

        return publish_grades(context, run, warehouse, runner, part, attempt, query, fixed)

    return build
