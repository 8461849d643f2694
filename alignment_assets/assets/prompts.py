"""Stage one: prompts, personas, labels and wordings come in; licence, consent and repeats go out.

Rows come from outside in Python (``alignment_assets/sources``); the rules over them are
``sql/assets/prompt_exclusions.sql``.
"""

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from dagster import AssetExecutionContext, AssetsDefinition, DataVersion, MaterializeResult

from alignment_assets.assets.factory import count_values, publish, table_asset
from alignment_assets.assets.partitions import source_partitions
from alignment_assets.assets.plain import sql_asset
from alignment_assets.recipe import wordings
from alignment_assets.recipe.datasets import DatasetReference, PromptSource
from alignment_assets.recipe.run import Run
from alignment_assets.sources import (
    consent,
    conversations,
    evidence,
    files,
    hints,
    origins,
    readers,
    robots,
    rows,
    texts,
)
from alignment_assets.sources.files import Row, SourceError
from alignment_assets.sources.rows import human_label_row, persona_row, source_prompt_row
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.losses import find_losses, judge
from alignment_assets.warehouse.resource import Staging, Warehouse

GROUP = "prompts"
BATCH_ROWS = 5_000
BATCH_CHARACTERS = 64 * 2**20

RowMaker = Callable[[int, Row], dict[str, Any]]

# What decides how a row is read: a change shows as stale.
_READING = [
    inspect.getsource(module) for module in (conversations, files, origins, readers, rows, texts)
]
_JUDGING = [inspect.getsource(module) for module in (consent, evidence, origins, robots)]


def prompt_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    recipe = run.recipe
    return [
        _recipes_asset(run),
        _source_prompts_asset(run),
        _dataset_asset(
            run,
            "personas",
            recipe.personas,
            lambda number, row: persona_row(recipe.personas, number, row, recipe.placeholders),
            version=[recipe.placeholders],
        ),
        _dataset_asset(
            run, "human_labels", recipe.human_labels, human_label_row, group="controversy"
        ),
        _wordings_asset(run),
        _origin_consent_asset(run),
        sql_asset(
            run,
            "prompt_exclusions",
            group=GROUP,
            deps=["source_prompts", "origin_consent"],
            counts="rule",
        ),
        sql_asset(
            run,
            "licensed_prompts",
            group=GROUP,
            deps=["source_prompts", "prompt_exclusions", "origin_consent"],
            counts="consent_basis",
        ),
    ]


def _recipes_asset(run: Run) -> AssetsDefinition:
    """Make the asset that the sources start from.

    The UI backfills a selection by the partitions of its first assets, and goes no further than
    assets with partitions reach from there: with the sources first it would leave out all models,
    and be green. With one first that has no partitions it makes all partitions of all.
    """
    recipe = run.recipe

    @table_asset("recipes", group=GROUP, kinds={"python"}, version=sql_files.digest([recipe.name]))
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        said = recipe.model_dump(mode="json", exclude={"models": {"__all__": {"backend"}}})
        row = {
            "name": recipe.name,
            "description": recipe.description,
            "fingerprint": recipe.fingerprint,
            "settings": json.dumps(said),
        }
        with warehouse.stage("recipes", reads=False) as staging:
            staging.insert_arrow(pa.Table.from_pylist([row]))
            made = publish(context, run, staging, recipe.settings(), {"file": str(recipe.file)})
        # As of an asset that was never made: what a change of the recipe makes stale is told of
        # each table (docs/staleness.md), and sources may be read first.
        return MaterializeResult(metadata=made.metadata, data_version=DataVersion("INITIAL"))

    return build


def _source_prompts_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    sources = {source.name: source for source in recipe.prompts}

    # A version is the whole asset's: what an entry says is kept with its partition.
    @table_asset(
        "source_prompts",
        group=GROUP,
        kinds=_kinds(*recipe.prompts),
        deps=["recipes"],
        version=sql_files.digest([_READING, recipe.placeholders, recipe.max_row_bytes]),
        partitions=source_partitions(recipe),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        source = sources[context.partition_key]
        read, origin, commit = _read(run, f"prompts.{source.name}", source)
        with warehouse.stage("source_prompts", {"dataset": source.name}, reads=False) as staging:
            _insert(
                staging,
                (
                    source_prompt_row(source, *numbered, recipe.placeholders)
                    for numbered in enumerate(read)
                ),
            )
            _check_readable(run, source, staging, commit)
            found = {
                **origin,
                "extra": ", ".join(source.extra_columns) or "none",
                **count_values(staging, "read_as"),
                **count_values(staging, "malformed_reason"),
            }
            return publish(context, run, staging, recipe.settings(), found)

    return build


def _dataset_asset(
    run: Run,
    table: str,
    reference: DatasetReference | None,
    make_row: RowMaker,
    group: str = GROUP,
    version: Sequence[Any] = (),
) -> AssetsDefinition:
    settings = run.recipe.settings()
    entry = reference.model_dump() if reference else None

    @table_asset(
        table,
        group=group,
        kinds=_kinds(*([reference] if reference else [])),
        version=sql_files.digest([_READING, entry, run.recipe.max_row_bytes, *version]),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        with warehouse.stage(table, reads=False) as staging:
            if reference is None:
                context.log.warning(f"the recipe has no {table}: the table stays empty")
                return publish(context, run, staging, settings, {"dataset": "none"})
            read, origin, _ = _read(run, table, reference)
            _insert(staging, (make_row(number, row) for number, row in enumerate(read)))
            found = {**origin, **count_values(staging, "malformed_reason")}
            return publish(context, run, staging, settings, found)

    return build


def _read(
    run: Run, place: str, reference: DatasetReference
) -> tuple[Iterator[Row], dict[str, str], str | None]:
    """Return the rows of a dataset at a place in the recipe, where they are from, and the commit.

    Where they are from is metadata.
    """
    commit = readers.dataset_commit(reference, run.revisions)
    origin = {"dataset": reference.dataset, "commit": commit or "none"}
    return readers.read_rows(place, reference, run.recipe, commit), origin, commit


def _check_readable(run: Run, source: PromptSource, staging: Staging, commit: str | None) -> None:
    """Raise SourceError where no row of a source can be read, unless the recipe allows that."""
    found = find_losses(staging.connection, "source_prompts", run.recipe.settings())
    for lost in judge(found, run.recipe.limits.allowed):
        if lost.share == 1 and lost.is_too_much:
            first = readers.first_row(source, run.recipe, commit)
            raise SourceError(hints.unreadable(source, lost.rows, lost.reasons, first))


def _kinds(*references: DatasetReference) -> set[str]:
    from_hub = any(reference.dataset.startswith("hf:") for reference in references)
    return {"python", "huggingface"} if from_hub else {"python"}


def _wordings_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    texts = [row["wording_hash"] for row in wordings.read_wordings(recipe)]

    @table_asset("wordings", group=GROUP, kinds={"python"}, version=sql_files.digest(texts))
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        with warehouse.stage("wordings", reads=False) as staging:
            _insert(staging, wordings.read_wordings(recipe))
            return publish(
                context, run, staging, recipe.settings(), {"folder": str(recipe.wordings_folder)}
            )

    return build


def _origin_consent_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    rule = recipe.consent
    said = rule.model_dump(include={"agents", "robots", "scope", "blocked_domains"})

    @table_asset(
        "origin_consent",
        group=GROUP,
        kinds={"python"},
        deps=["source_prompts"],
        version=sql_files.digest([said, origins.suffix_list_version(), _JUDGING]),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        with warehouse.stage("origin_consent") as staging:
            rows = staging.connection.execute(
                "SELECT DISTINCT origin_url FROM source_prompts "
                "WHERE origin_url IS NOT NULL ORDER BY ALL"
            ).fetchall()
            written = [origin for (origin,) in rows]
            at_hand = consent.Evidence.of(recipe, written)
            _insert(staging, (consent.origin_consent(origin, at_hand) for origin in written))
            found = {
                "scope": rule.scope,
                "public_suffix_list": origins.suffix_list_version(),
                "snapshots": sum(map(len, at_hand.snapshots.values())),
                **count_values(staging, "status"),
            }
            return publish(context, run, staging, recipe.settings(), found)

    return build


def _insert(staging: Staging, rows: Iterable[dict[str, Any]]) -> None:
    schema = _arrow_schema(staging)
    for batch in _batches(rows):
        staging.insert_arrow(pa.Table.from_pylist(batch, schema=schema))


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += _characters(row)
        if len(batch) == BATCH_ROWS or characters > BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _characters(row: dict[str, Any]) -> int:
    texts = [value for value in row.values() if isinstance(value, str)]
    texts += [message["content"] for message in row.get("messages") or ()]
    return sum(map(len, texts))


def _arrow_schema(staging: Staging) -> pa.Schema:
    return (
        staging.connection.execute(f"SELECT * FROM staging.{staging.table.name} LIMIT 0")
        .to_arrow_table()
        .schema
    )
