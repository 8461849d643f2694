"""What all assets share: their Dagster face, taken from ``sql/schema``, and how they publish.

Here belong the decorator and the metadata. What an asset does is in the module of its stage, or in
`alignment_assets.assets.plain`.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dagster import (
    AssetDep,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    BetaWarning,
    CodeReferencesMetadataValue,
    DataVersion,
    Failure,
    LocalFileCodeReference,
    MaterializeResult,
    PartitionMapping,
    PartitionsDefinition,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
    asset,
)

from alignment_assets.assets.jobs import automation_of
from alignment_assets.assets.pages import drawn_answers, page_metadata, shown_texts
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.expected import EXPECTED, told
from alignment_assets.host.paths import project_folder
from alignment_assets.inference.backend import Inference
from alignment_assets.inference.run_process import process_tag
from alignment_assets.pages.answers import ask_about
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import partition_settings
from alignment_assets.requests.request_sets import lacking_wordings
from alignment_assets.requests.runner import RequestRunner
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import (
    InconsistentError,
    Lineage,
    TablePart,
)
from alignment_assets.warehouse.losses import check_losses, find_losses, judge, loss_rows, shares
from alignment_assets.warehouse.records import Record
from alignment_assets.warehouse.resource import Staging, Warehouse

# A run makes one partition: a backfill policy says so, and Dagster calls it beta.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", BetaWarning)
# Links to source code, too.
warnings.filterwarnings("ignore", "Class `.*CodeReference", BetaWarning)

# Who decides what may be used, and what its labels are worth, owns the tables that say so.
ENGINEERS, STEWARDS = "team:post-training", "team:data-stewards"
STEWARDS_OF = {
    *("human_labels", "origin_consent", "prompt_exclusions", "licensed_prompts"),
    *("grader_agreement", "controversy_agreement"),
}
# Words of people: what they asked, and how they labelled it.
PERSONAL = {
    *("source_prompts", "licensed_prompts", "alignment_prompts", "human_labels"),
    *("dpo_pairs", "qrpo_samples", "training_export"),
}
TRACKS = dict.fromkeys(("judge_comparisons", "judge_rankings"), "controversial")

# The name by which DuckDB knows the database's file, alignment.duckdb.
DATABASE = "alignment"

# Elsewhere, no rows at all is a sign that something upstream is missing. The graded
# sources may be excluded whole, by a small limit for one, while the others go on.
MAY_BE_EMPTY = {
    "human_labels",
    "origin_consent",
    "prompt_exclusions",
    "licensed_prompts",
    *("grader_trials", "grader_agreement", "controversy_labels"),
    *("degraded_answers", "calibration_answers", "judge_calibration"),
    *("judge_comparisons", "judge_rankings", "policy_tokens", "selected_pairs", "dpo_pairs"),
    *("qrpo_samples", "reference_logprobs", "selection_exclusions", "selection_report"),
}

Deps = Iterable[str | AssetDep]


def table_asset(
    table: str,
    *,
    group: str,
    kinds: set[str],
    deps: Deps = (),
    version: str,
    partitions: PartitionsDefinition | None = None,
    pool: str | None = None,
) -> Callable[[Callable[..., Any]], AssetsDefinition]:
    """Declare the asset that makes a table of ``sql/schema``; used as a decorator.

    Args:
        table: the table's and the asset's name.
        group: the stage it belongs to.
        kinds: what it is made with; ``duckdb`` is added.
        deps: upstream assets, with partition mappings where those are not the obvious ones.
        version: changes with the asset's logic; see `sql_files.code_version`.
        partitions: how it is partitioned; a run makes one partition.
        pool: the Dagster pool that limits how many steps of this kind run at once.
    """
    declared = sql_files.tables()[table]

    def declare(build: Callable[..., Any]) -> AssetsDefinition:
        return asset(
            name=table,
            group_name=group,
            description=declared.description,
            kinds={"duckdb", *kinds},
            owners=[STEWARDS if table in STEWARDS_OF else ENGINEERS],
            tags={
                "stage": group,
                **({"track": TRACKS[table]} if table in TRACKS else {}),
                **({"personal": "yes"} if table in PERSONAL else {}),
            },
            code_version=version,
            deps=list(deps),
            partitions_def=partitions,
            backfill_policy=BackfillPolicy.multi_run(1) if partitions else None,
            pool=pool,
            automation_condition=automation_of(table),
            metadata={
                "dagster/column_schema": table_schema(declared),
                "dagster/table_name": f"{DATABASE}.main.{table}",
                "dagster/code_references": _code_of(table, build),
            },
        )(message_first()(build))

    return declare


def _code_of(table: str, build: Callable[..., Any]) -> CodeReferencesMetadataValue:
    """Return links to what makes a table's rows: its SELECT if it has one, and its function."""
    files = [project_folder("sql") / kind / f"{table}.sql" for kind in ("assets", "schema")]
    return CodeReferencesMetadataValue(
        code_references=[
            *(
                LocalFileCodeReference(
                    file_path=str(path), line_number=1, label=f"sql/{path.parent.name}/{path.name}"
                )
                for path in files
                if path.is_file()
            ),
            LocalFileCodeReference(
                file_path=build.__code__.co_filename,
                line_number=build.__code__.co_firstlineno,
                label=f"{build.__module__.rpartition('.')[2]}.py",
            ),
        ]
    )


@contextmanager
def message_first() -> Iterator[None]:
    """Have Dagster show what is told of an expected failure first, and its traceback below."""
    try:
        yield
    except EXPECTED as error:
        raise Failure(told(error)) from error


def table_schema(table: sql_files.Table) -> TableSchema:
    """Return a table's columns as Dagster shows them."""
    return TableSchema(
        columns=[
            TableColumn(
                name=column.name,
                type=column.type,
                description=column.description,
                constraints=TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def from_models(tables: Sequence[str], mapping: PartitionMapping) -> list[AssetDep]:
    """Return dependencies of a policy's partition on every model that feeds it."""
    return [AssetDep(AssetKey(table), partition_mapping=mapping) for table in tables]


def runner_for(
    context: AssetExecutionContext,
    run: Run,
    warehouse: Warehouse,
    inference: Inference,
    gpus: GpuPool,
) -> RequestRunner:
    """Return what has engines answer on behalf of a step's asset and partition.

    The step has the engine's slot: its run is told which process that is, so that nobody waits for
    a slot that a killed one has kept.
    """
    context.instance.add_run_tags(context.run.run_id, process_tag(context.run.run_id))
    return RequestRunner(
        run,
        warehouse,
        inference,
        gpus,
        context.asset_key.to_user_string(),
        context.partition_key if _is_partitioned(context) else None,
        context.run.run_id,
        context.log.info,
    )


def publish(
    context: AssetExecutionContext,
    run: Run,
    staging: Staging,
    parameters: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
) -> MaterializeResult[None]:
    """Audit and publish staged rows and return the materialization that says so.

    Its data version is that of the rows' content. The recipe's fingerprint stands in it for those
    who look back; rows of another one are not refused.

    Raises:
        InconsistentError: what the rows were made of does not belong together.
        TooMuchLost: more was lost on the way than the recipe's limits allow.
        WarehouseError, OSError, LockTimeout: see `Staging.publish`.
    """
    recipe, table = run.recipe, staging.table.name
    staging.open()
    lineage = Lineage(staging.connection, recipe.settings())
    lineage.check(staging.part)
    inputs = lineage.read(staging.part)
    judged = judge(find_losses(staging.connection, table, parameters), recipe.limits.allowed)
    check_losses(staging.label, judged)
    staging.audit(parameters)
    answers = ask_about(staging, recipe.members, parameters)
    page = page_metadata(answers)
    partition = context.partition_key if _is_partitioned(context) else None
    settings, database = partition_settings(recipe, table, partition), staging.created_at()
    published = staging.publish(
        parameters,
        may_be_empty=table in MAY_BE_EMPTY,
        inputs=inputs,
        losses=loss_rows(context.run.run_id, table, partition, judged),
        shown=shown_texts(context.run.run_id, table, partition, answers),
    )
    told = "rows published" if published.changed else "rows, the same as before, made of the same"
    context.log.info(f"{published.table}: {published.rows:,} {told}")
    for one in judged:
        context.log.warning(f"{staging.label}: {one.text}")
    record = Record(recipe.name, database, published.rows, settings)
    return MaterializeResult(
        metadata={
            **drawn_answers(answers),  # drawn when nobody waits for the database any more
            **page,
            "dagster/uri": run.database_uri,
            **record.metadata(partitioned=partition is not None),
            "recipe_fingerprint": recipe.fingerprint,
            **shares(judged),
            **(metadata or {}),
        },
        data_version=DataVersion(published.data_version),
    )


def check_inputs(warehouse: Warehouse, run: Run, part: TablePart) -> None:
    """Raise an InconsistentError if what a part is made of does not belong together.

    `publish` looks again; this is for what would take long, or cost money, in vain. Nor is anybody
    asked with wordings that the recipe names and the table has not yet: without them there would
    be no question.
    """
    with warehouse.read() as connection:
        Lineage(connection, run.recipe.settings()).check(part)
        lacking = lacking_wordings(connection, run.recipe, part)
    if lacking:
        raise InconsistentError(
            f"{part.label}: nothing was asked, as the table wordings has not what the recipe names "
            f"now ({', '.join(lacking)}). Materialize first: wordings"
        )


def _is_partitioned(context: AssetExecutionContext) -> bool:
    # A backfill's run has a range of one partition, and `has_partition_key` is False in it.
    return context.assets_def.partitions_def is not None


def count_values(staging: Staging, column: str) -> dict[str, int]:
    """Return how many new rows have each value of a column, for metadata."""
    rows = staging.connection.execute(
        f"SELECT {column}, count(*) FROM staging.{staging.table.name} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return {f"{column}: {value}": count for value, count in rows}
