"""The last stage: a policy's training sets as a folder that a trainer takes.

The folder is written beside the old one while the database is open to read, the table is published,
and then the folders are exchanged. A kill before the table leaves the old export. A kill after it
leaves the old folder under a table that says otherwise, which `status` tells, as it does of a
folder that is gone: materializing again writes it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, MetadataValue

from alignment_assets.assets.factory import publish, table_asset
from alignment_assets.assets.partitions import policy_partitions
from alignment_assets.assets.training_sets import GROUP
from alignment_assets.exports.export import Exported, check_policy, source_of, write_export
from alignment_assets.exports.formats import formats
from alignment_assets.exports.placing import placed
from alignment_assets.exports.shards import File
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.resource import Warehouse

TABLE = "training_export"


def training_export_asset(run: Run) -> AssetsDefinition:
    """Build the asset of the stage."""
    recipe = run.recipe

    @table_asset(
        TABLE,
        group=GROUP,
        kinds={"sql", "parquet"},
        deps=[
            *("dpo_pairs", "qrpo_samples", "policy_tokens", "reference_logprobs"),
            *("alignment_prompts", "selection_exclusions"),
        ],
        version=_version(recipe),
        partitions=policy_partitions(recipe),
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference
    ) -> MaterializeResult[None]:
        part = TablePart(TABLE, context.partition_key)
        parameters = {**recipe.settings(), **part.values}
        folder = run.exports / context.partition_key
        with warehouse.stage(TABLE, part.values) as staging:
            Lineage(staging.connection, recipe.settings()).check(part)
            source = source_of(
                run,
                staging.connection,
                staging.reads,
                context.partition_key,
                recipe.export.test_share,
            )
            check_policy(
                source,
                inference.tokenizer(source.policy, run),
                inference.fingerprint(source.policy, run),
            )
            with placed(folder) as new:
                exported = write_export(source, recipe, formats(), new)
                staging.insert_arrow(file_rows(context.partition_key, exported.files))
                metadata = {"folder": MetadataValue.path(str(folder)), **_numbers(exported)}
                return publish(context, run, staging, parameters, metadata)

    return build


def file_rows(policy: str, files: Sequence[File]) -> pa.Table:
    """Return the rows of the table for the files of an export."""
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("policy", "format", "split", "file")),
            *((name, pa.int64()) for name in ("rows", "bytes")),
            ("sha256", pa.string()),
        ]
    )
    return pa.Table.from_pylist([_row(policy, file) for file in files], schema)


def _row(policy: str, file: File) -> dict[str, Any]:
    said = asdict(file)
    return {"policy": policy, "file": said.pop("path"), **said}


def _numbers(exported: Exported) -> dict[str, int]:
    """Return what is followed over time: the rows of each format, and the bytes of the folder."""
    rows: dict[str, int] = {}
    for file in exported.files:
        name = f"rows of {file.format}"
        rows[name] = rows.get(name, 0) + file.rows
    return {**rows, "bytes": exported.bytes}


def _version(recipe: Recipe) -> str:
    """Return the code version: what formats say, and what of the recipe they and the card tell."""
    share = recipe.export.test_share
    texts = [one.text for one in formats()]
    return sql_files.digest(
        [
            sql_files.code_version(*texts, settings=table_settings(recipe)),
            [share, recipe.seed] if share else None,
            {one.name: one.licence for one in recipe.prompts if one.licence},
            {name: one.licence for name, one in recipe.models.items() if one.licence},
        ]
    )
