"""Candidates for the grader, tried on what people have labelled before anything is graded.

A candidate is a model and a wording (report, section 4.1.4). What each agrees with people is SQL
(``sql/agreement``); here belong who is asked, and the gate that bars a grader who is not good
enough.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
from dagster import (
    AllPartitionMapping,
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
)

from alignment_assets.assets.factory import (
    check_inputs,
    count_values,
    publish,
    runner_for,
    table_asset,
)
from alignment_assets.assets.partitions import candidate_partitions
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.requests.request_sets import RequestSet, grading_parameters, trying
from alignment_assets.requests.runner import RequestRunner
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.resource import Staging, Warehouse

GROUP = "controversy"
TRIALS, AGREEMENT = "grader_trials", "grader_agreement"
# Who fails on some prompts is published with that; who fails on most was not tried.
FAILED_TRIALS = 0.5
# Gives the requests of an attempt: about all prompts, or about those whose answers did not parse.
Attempt = Callable[[int, list[str] | None], RequestSet]


def grader_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of candidates for the grader."""
    return [
        _grader_trials_asset(run),
        agreement_asset(run, AGREEMENT, [TRIALS, "human_labels"]),
    ]


def _grader_trials_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    query = trials_query()
    asking = sql_files.read_sql("requests", f"{TRIALS}/grade")
    settings = {**table_settings(recipe), **grading_parameters(recipe)}
    # Who grades and from which grade on a prompt is controversial is not what is asked.
    for other in ("controversy_threshold", "controversy_model"):
        del settings[other]

    @table_asset(
        TRIALS,
        group=GROUP,
        kinds={"llm"},
        deps=[
            *("human_labels", "wordings", "prompt_exclusions", "licensed_prompts"),
            AssetDep("source_prompts", partition_mapping=AllPartitionMapping()),
        ],
        version=sql_files.code_version(
            query, asking, settings={**settings, "attempt": recipe.controversy.attempts}
        ),
        partitions=candidate_partitions(recipe),
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        candidate = recipe.controversy.candidates[context.partition_key]
        part = TablePart(TRIALS, candidate.name)
        parameters = {
            **recipe.settings(),
            **part.values,
            "controversy_model": candidate.model,
        }
        check_inputs(warehouse, run, part)
        runner = runner_for(context, run, warehouse, inference, gpus)

        def attempt(number: int, only_prompts: list[str] | None) -> RequestSet:
            return trying(recipe, runner.fingerprint, candidate.name, number, only_prompts)

        return publish_grades(
            context,
            run,
            warehouse,
            runner,
            part,
            attempt,
            query,
            parameters,
            max_failed_share=max(FAILED_TRIALS, recipe.inference.max_failed_share),
        )

    return build


def trials_query() -> str:
    """Return the query of `grader_trials`: grades are read as the grader's are."""
    grades = sql_files.read_sql("assets", "controversy_labels")
    return f"WITH grades AS ({grades}\n) {sql_files.read_sql('assets', TRIALS)}"


def publish_grades(
    context: AssetExecutionContext,
    run: Run,
    warehouse: Warehouse,
    runner: RequestRunner,
    part: TablePart,
    attempt: Attempt,
    query: str,
    parameters: Mapping[str, Any],
    max_failed_share: float | None = None,
) -> MaterializeResult[None]:
    """Have prompts graded, those again whose answers do not parse, and publish the grades.

    Raises:
        TooManyFailures: see `RequestRunner.stage`.
    """
    attempts = run.recipe.controversy.attempts
    asked: list[RequestSet] = []
    unparsed: list[str] | None = None  # all prompts
    for number in range(attempts):
        asked.append(attempt(number, unparsed))
        runner.answer(asked[-1])
        with warehouse.stage(part.table, part.values) as staging:
            runner.stage(staging, asked, query, parameters, max_failed_share)
            unparsed = _unparsed(staging)
            if not unparsed or number + 1 == attempts:
                counted = {
                    **count_values(staging, "grade"),
                    **count_values(staging, "parsed_as"),
                }
                return publish(context, run, staging, parameters, {**runner.metadata(), **counted})
        context.log.info(f"{part.label}: {len(unparsed):,} answers do not parse; asking them again")
    raise AssertionError("the last attempt returns")


def _unparsed(staging: Staging) -> list[str]:
    rows = staging.connection.execute(
        f"SELECT prompt_id FROM staging.{staging.table.name} "
        "WHERE parsed_as = 'unparsable' ORDER BY ALL"
    ).fetchall()
    return [str(prompt_id) for (prompt_id,) in rows]


def agreement_asset(run: Run, table: str, deps: Sequence[str]) -> AssetsDefinition:
    """Build the asset that holds grades against people's labels, of all who graded."""
    recipe = run.recipe
    query = sql_files.read_sql("assets", table)
    files = [sql_files.read_sql("agreement", name) for name in (table, "figures")]

    @table_asset(
        table,
        group=GROUP,
        kinds={"sql"},
        deps=deps,
        version=sql_files.code_version(query, *files, settings=table_settings(recipe)),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        parameters = recipe.settings()
        with warehouse.stage(table) as staging:
            Lineage(staging.connection, parameters).check(staging.part)
            compare_with_people(staging.connection, table, parameters)
            staging.insert(query, parameters)
            made = publish(context, run, staging, parameters)
        if table != AGREEMENT:
            return made
        # As of an asset that was never made: where there is a gate, prompts are graded after this,
        # but grades are not made of it, and another candidate makes none of them stale.
        return MaterializeResult(metadata=made.metadata, data_version=DataVersion("INITIAL"))

    return build


def compare_with_people(
    connection: duckdb.DuckDBPyConnection, table: str, parameters: Mapping[str, Any]
) -> None:
    """Hold grades against people's labels, in the temporary table ``figures``.

    Args:
        connection: sees ``human_labels`` and what ``sql/agreement/<table>.sql`` reads.
        table: whose rows the figures make: ``controversy_agreement`` or ``grader_agreement``.
        parameters: the recipe's settings.
    """
    candidates = parameters["controversy_candidates"]
    # The grades in use are held against people even if there are none; of others, those tried.
    given = {**parameters, "candidates": candidates if table == AGREEMENT else candidates[:1]}
    for name, query in (("grades", table), ("figures", "figures")):
        text = sql_files.read_sql("agreement", query)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {name} AS ({text}\n)",
            sql_files.named_parameters(text, given),
        )
