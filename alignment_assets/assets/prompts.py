"""Stage one: prompts, personas, labels and wordings come in; licence, consent and repeats go out.

Rows come from outside in Python; the rules over them are ``sql/assets/prompt_exclusions.sql``.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult

from alignment_assets.assets.factory import count_values, publish, sql_asset, table_asset
from alignment_assets.recipe import wordings
from alignment_assets.recipe.model import DatasetReference
from alignment_assets.recipe.run import Run
from alignment_assets.sources import consent, conversations, readers
from alignment_assets.sources.conversations import Malformed, Message
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Staging, Warehouse

GROUP = "prompts"
BATCH_ROWS = 5_000

RowMaker = Callable[[int, readers.Row], dict[str, Any]]


def prompt_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets of the stage."""
    recipe = run.recipe
    labels = recipe.sources.human_labels
    return [
        _source_asset(run, "preference_mix", recipe.sources.preference_mix, preference_mix_row),
        _source_asset(
            run,
            "polyglot_toxicity_prompts",
            recipe.sources.polyglot_toxicity_prompts,
            polyglot_row,
        ),
        _source_asset(run, "prism_prompts", recipe.sources.prism_prompts, prism_row),
        _source_asset(run, "personas", recipe.sources.personas, persona_row),
        _source_asset(run, "human_labels", labels, human_label_row, group="controversy"),
        _wordings_asset(run),
        _origin_consent_asset(run),
        sql_asset(
            run,
            "prompt_exclusions",
            group=GROUP,
            deps=["preference_mix", "polyglot_toxicity_prompts", "prism_prompts", "origin_consent"],
            counts="rule",
        ),
        sql_asset(
            run,
            "licensed_prompts",
            group=GROUP,
            deps=["preference_mix", "prompt_exclusions", "origin_consent"],
            counts="consent_basis",
        ),
    ]


def preference_mix_row(number: int, row: readers.Row) -> dict[str, Any]:
    """Return a row of ``preference_mix``: the prompt is what stands before the last assistant turn.

    The prompt is read from ``chosen``, whose prompt ``rejected`` shares.
    """
    values = row.values
    url = _text(values.get("origin_url"))
    return {
        **_prompt(number, row, lambda: conversations.prompt_of_conversation(values.get("chosen"))),
        "source": _text(values.get("source")),
        "upstream_id": _text(values.get("upstream_id")),
        "origin_url": url if consent.domain_of(url) else None,
        "origin_domain": consent.domain_of(url),
    }


def polyglot_row(number: int, row: readers.Row) -> dict[str, Any]:
    """Return a row of ``polyglot_toxicity_prompts``."""
    return {
        **_prompt(number, row, lambda: conversations.prompt_of_text(row.values.get("prompt"))),
        "source": row.origin,
        "upstream_id": _text(row.values.get("upstream_id")),
    }


def prism_row(number: int, row: readers.Row) -> dict[str, Any]:
    """Return a row of ``prism_prompts``."""
    return {
        **polyglot_row(number, row),
        "conversation_type": _text(row.values.get("conversation_type")),
    }


def persona_row(number: int, row: readers.Row) -> dict[str, Any]:
    """Return a row of ``personas``."""
    try:
        persona, reason = conversations.usable_text(_value(row, "persona"), "persona"), None
        persona_id = conversations.messages_hash([{"role": "persona", "content": persona}])
    except Malformed as malformed:
        persona, reason, persona_id = None, str(malformed), conversations.row_hash(row.values)
    return {
        "row_number": number,
        "persona_id": persona_id,
        "persona": persona,
        "malformed_reason": reason,
    }


def human_label_row(number: int, row: readers.Row) -> dict[str, Any]:
    """Return a row of ``human_labels``: one person's grade of one prompt."""
    label, reason = row.values.get("label"), None
    try:
        prompt_id = conversations.prompt_id(conversations.prompt_of_text(_value(row, "prompt")))
        if str(label).strip().removesuffix(".0") not in {"0", "1", "2", "3"}:
            raise Malformed(f"label is {label!r:.40}, not 0 to 3")
        label = int(float(str(label)))
    except Malformed as malformed:
        prompt_id, label, reason = conversations.row_hash(row.values), None, str(malformed)
    return {
        "row_number": number,
        "prompt_id": prompt_id,
        "annotator": _text(row.values.get("annotator")),
        "label": label,
        "malformed_reason": reason,
    }


def _prompt(number: int, row: readers.Row, read: Callable[[], list[Message]]) -> dict[str, Any]:
    try:
        if row.problem:
            raise Malformed(row.problem)
        messages = read()
    except Malformed as malformed:
        return {
            "row_number": number,
            "prompt_id": conversations.row_hash([row.origin, number, row.values]),
            "messages": None,
            "messages_hash": None,
            "malformed_reason": str(malformed),
        }
    return {
        "row_number": number,
        "prompt_id": conversations.prompt_id(messages),
        "messages": messages,
        "messages_hash": conversations.messages_hash(messages),
        "malformed_reason": None,
    }


def _value(row: readers.Row, column: str) -> Any:
    if row.problem:
        raise Malformed(row.problem)
    return row.values.get(column)


def _text(value: Any) -> str | None:
    """Return a label of a row as text that any column can hold."""
    return (
        None
        if value is None
        else str(value).encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
    )


def _source_asset(
    run: Run,
    table: str,
    reference: DatasetReference | None,
    make_row: RowMaker,
    group: str = GROUP,
) -> AssetsDefinition:
    recipe = run.recipe

    @table_asset(
        table,
        group=group,
        kinds={"python", "huggingface"}
        if reference and reference.dataset.startswith("hf:")
        else {"python"},
        version=_source_version(reference, make_row),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        origin = {"dataset": reference.dataset if reference else "none"}
        with warehouse.stage(table, reads=False) as staging:
            if reference is None:
                context.log.warning(f"the recipe has no sources.{table}: the table stays empty")
            else:
                commit = readers.dataset_commit(reference, run.revisions)
                origin["commit"] = commit or "none"
                rows = readers.read_rows(table, reference, recipe, commit)
                _insert(staging, (make_row(number, row) for number, row in enumerate(rows)))
            counted = count_values(staging, "malformed_reason")
            return publish(context, run, staging, recipe.settings(), {**origin, **counted})

    return build


def _wordings_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    texts = [row["wording_hash"] for row in wordings.read_wordings(recipe)]

    @table_asset("wordings", group="completions", kinds={"python"}, version=sql_files.digest(texts))
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

    @table_asset(
        "origin_consent",
        group=GROUP,
        kinds={"python"},
        deps=["preference_mix"],
        version=sql_files.digest([rule.agents, inspect.getsource(consent)]),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        folder = recipe.resolve(rule.robots) if rule.robots else None
        if folder is not None and not folder.is_dir():
            raise FileNotFoundError(f"recipe {recipe.name}: consent.robots: no folder {folder}")
        with warehouse.stage("origin_consent") as staging:
            origins = staging.connection.execute(
                "SELECT DISTINCT origin_url, origin_domain FROM preference_mix "
                "WHERE origin_url IS NOT NULL ORDER BY ALL"
            ).fetchall()
            _insert(
                staging,
                (
                    consent.origin_consent(url, domain, rule.agents, folder)
                    for url, domain in origins
                ),
            )
            return publish(
                context, run, staging, recipe.settings(), count_values(staging, "status")
            )

    return build


def _source_version(reference: DatasetReference | None, make_row: RowMaker) -> str:
    parts = [
        inspect.getsource(conversations),
        inspect.getsource(readers),
        inspect.getsource(make_row),
    ]
    return sql_files.digest([reference.model_dump() if reference else None, parts])


def _insert(staging: Staging, rows: Iterable[dict[str, Any]]) -> None:
    schema = _arrow_schema(staging)
    for batch in _batches(rows):
        staging.insert_arrow(pa.Table.from_pylist(batch, schema=schema))


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH_ROWS)):
        yield batch


def _arrow_schema(staging: Staging) -> pa.Schema:
    return (
        staging.connection.execute(f"SELECT * FROM staging.{staging.table.name} LIMIT 0")
        .to_arrow_table()
        .schema
    )
