"""Stage five: how many tokens candidates are to the policy that is trained on them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import check_inputs, from_models, publish, table_asset
from alignment_assets.assets.partitions import model_feeds_policies, policy_partitions
from alignment_assets.host.leftovers import work_folder
from alignment_assets.inference.backend import Inference
from alignment_assets.inference.counting import COUNTED_SCHEMA, STRETCH, UNCOUNTED_SCHEMA
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.resource import Staging, Warehouse

# What was counted now and, of all policies with the same tokenizer, before.
_COUNTED = """
CREATE OR REPLACE TEMP TABLE counted AS
SELECT content_id, any_value(COLUMNS('.*_tokens')), any_value(missing_reason) AS missing_reason
FROM (
    SELECT * REPLACE (content_id::UUID AS content_id) FROM now
    UNION ALL BY NAME
    SELECT content_id, prompt_tokens, completion_tokens, missing_reason
    FROM {database}.main.policy_tokens
    WHERE tokenizer_fingerprint = $tokenizer_fingerprint AND missing_reason IS NULL
)
GROUP BY content_id
"""


def policy_tokens_asset(run: Run) -> AssetsDefinition:
    """Build the asset; a candidate is counted once for each tokenizer, whichever policy has it."""
    table, recipe = "policy_tokens", run.recipe
    query = sql_files.read_sql("assets", table)
    uncounted = sql_files.read_sql("counting", table)

    @table_asset(
        table,
        group="training_sets",
        kinds={"python"},
        deps=[
            *from_models(["completions"], model_feeds_policies(recipe)),
            "alignment_prompts",
        ],
        version=sql_files.code_version(query, uncounted, settings=table_settings(recipe)),
        partitions=policy_partitions(recipe),
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference
    ) -> MaterializeResult[None]:
        policy = context.partition_key
        part = TablePart(table, policy)
        check_inputs(warehouse, run, part)
        parameters = {
            **recipe.settings(),
            "policy": policy,
            "tokenizer_fingerprint": inference.tokenizer(policy, run),
        }
        with work_folder(run.work) as folder:

            def report(text: str) -> None:
                context.log.info(f"{part.label}: {text}")

            def count(uncounted: Path, counted: Path) -> None:
                inference.count_tokens(policy, run, uncounted, counted, report)

            started, counts = time.monotonic(), list[Path]()
            if parameters["tokenizer_fingerprint"] is not None:
                models = [*recipe.completions.models, policy]
                counts = _count(warehouse, models, uncounted, parameters, folder, count)
            seconds = time.monotonic() - started
            with warehouse.stage(table, part.values) as staging:
                counted = _make_counted(staging, counts, parameters)
                staging.insert(query, parameters)
                metadata = {"completions_counted": counted, "seconds_counting": round(seconds, 2)}
                return publish(context, run, staging, parameters, metadata)

    return build


def _count(
    warehouse: Warehouse,
    models: Sequence[str],
    query: str,
    parameters: dict[str, Any],
    folder: Path,
    count: Callable[[Path, Path], None],
) -> list[Path]:
    """Count what is not counted, one model's answers at a time; return the files of counts."""
    files = []
    for number, model in enumerate(models):
        uncounted, counted = folder / f"rows-{number}.parquet", folder / f"counts-{number}.parquet"
        values = sql_files.named_parameters(query, {**parameters, "model": model})
        with warehouse.read() as connection:
            batches = connection.execute(query, values).to_arrow_reader(STRETCH)
            rows = 0
            with pq.ParquetWriter(uncounted, UNCOUNTED_SCHEMA, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch.cast(UNCOUNTED_SCHEMA), row_group_size=STRETCH)
                    rows += batch.num_rows
        if rows:
            count(uncounted, counted)
            files.append(counted)
        uncounted.unlink()
    return files


def _make_counted(staging: Staging, files: Sequence[Path], parameters: dict[str, Any]) -> int:
    """Make the temporary table ``counted``; return how many were counted now."""
    now = pa.concat_tables([COUNTED_SCHEMA.empty_table(), *map(pq.read_table, files)])
    staging.open()
    staging.connection.register("now", now)
    try:
        query = _COUNTED.format(database=staging.reads)
        staging.connection.execute(query, sql_files.named_parameters(query, parameters))
    finally:
        staging.connection.unregister("now")
    return int(now.num_rows)
