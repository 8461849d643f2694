"""The plain kinds of assets: a table that is one SELECT, and one of what engines answered."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    PartitionsDefinition,
)

from alignment_assets.assets.factory import (
    Deps,
    check_inputs,
    count_values,
    publish,
    runner_for,
    table_asset,
)
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.requests.request_sets import Fingerprint, RequestSet
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.resource import Warehouse

# Gives the requests of a partition; of the recipe's models, it is told the fingerprints.
RequestsOf = Callable[[Recipe, Fingerprint, str], Sequence[RequestSet]]


def llm_asset(
    run: Run,
    table: str,
    requests: RequestsOf,
    *,
    group: str,
    deps: Deps,
    partitions: PartitionsDefinition,
    files: Sequence[str],
    parts: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    counts: str | None = None,
    straight: bool = False,
) -> AssetsDefinition:
    """Make the asset of a table that engines answer for, one partition at a time.

    Args:
        run: the recipe and its home.
        table: the table's and the asset's name; ``sql/assets/<table>.sql`` makes its rows from
            ``requests`` and ``answers``.
        requests: gives the requests of a partition.
        group: the stage it belongs to.
        deps: upstream assets; see `table_asset`.
        partitions: how it is partitioned; a run makes one partition.
        files: the files of ``sql/requests`` that make the requests.
        parts: other queries that are a part of them.
        settings: what those files name besides the recipe's settings, for the code version.
        counts: a column whose values are counted in the materialization's metadata.
        straight: whether rows, long as they are, go from the spool straight into the table.
    """
    recipe = run.recipe
    query = sql_files.read_sql("assets", table)
    texts = [*(sql_files.read_sql("requests", name) for name in files), *parts]

    @table_asset(
        table,
        group=group,
        kinds={"llm"},
        deps=deps,
        version=sql_files.code_version(
            query, *texts, settings={**table_settings(recipe), **(settings or {})}
        ),
        partitions=partitions,
        pool="engine",
    )
    def build(
        context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
    ) -> MaterializeResult[None]:
        part = TablePart(table, context.partition_key)
        parameters = {**recipe.settings(), **part.values}
        runner = runner_for(context, run, warehouse, inference, gpus)
        check_inputs(warehouse, run, part)
        asked = requests(recipe, runner.fingerprint, context.partition_key)
        for each in asked:
            runner.answer(each)
        with warehouse.stage(table, part.values, straight=straight) as staging:
            runner.stage(staging, asked, query, parameters)
            counted = count_values(staging, counts) if counts else {}
            metadata = {**runner.metadata(), **counted}
            return publish(context, run, staging, parameters, metadata)

    return build


def sql_asset(
    run: Run,
    table: str,
    *,
    group: str,
    deps: Deps,
    partitions: PartitionsDefinition | None = None,
    counts: str | None = None,
    straight: bool = False,
) -> AssetsDefinition:
    """Make the asset of a table that is one SELECT, ``sql/assets/<table>.sql``.

    Args:
        run: the recipe and its home; the recipe's settings are the query's parameters.
        table: the table's and the asset's name.
        group: the stage it belongs to.
        deps: upstream assets; see `table_asset`.
        partitions: how it is partitioned; a run makes one partition.
        counts: a column whose values are counted in the materialization's metadata.
        straight: whether rows, long as they are, are written to the database as they are made.
    """
    query = sql_files.read_sql("assets", table)
    settings = run.recipe.settings()

    @table_asset(
        table,
        group=group,
        kinds={"sql"},
        deps=deps,
        version=sql_files.code_version(query, settings=table_settings(run.recipe)),
        partitions=partitions,
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        part = TablePart(table, context.partition_key if partitions else None)
        parameters = {**settings, **part.values}
        with warehouse.stage(table, part.values, straight=straight) as staging:
            Lineage(staging.connection, settings).check(part)
            staging.insert(query, parameters)
            counted = count_values(staging, counts) if counts else {}
            return publish(context, run, staging, parameters, counted)

    return build
