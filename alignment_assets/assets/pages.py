"""A table's page in the Dagster UI: the answers of its questions as metadata.

Here belongs how an answer becomes metadata, and the record of whose texts are shown: Dagster keeps
metadata of every run, so who withdraws a text has to find the runs that show it. Which questions
there are is said in ``sql/analysis``; see `alignment_assets.pages`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from alignment_assets.host.shown import ascii_controls, json_text
from alignment_assets.pages.answers import Answer
from alignment_assets.pages.pictures import as_url, picture
from alignment_assets.warehouse.query import Rows

ROWS, CHARACTERS = 50, 400
_TYPES = {
    **dict.fromkeys(("DOUBLE", "FLOAT", "DECIMAL"), "float"),
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"), "int"),
    **dict.fromkeys(("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"), "int"),
    "BOOLEAN": "bool",
}
_SHOWN = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "asset", "partition", "question")),
        *((name, pa.string()) for name in ("text_id", "prompt_id")),
        ("shown_at", pa.timestamp("us")),
    ]
)


def page_metadata(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return what a page shows, by name: tables, and numbers to follow over time."""
    shown: dict[str, Any] = {}
    for answer in answers:
        name = answer.question.name
        if answer.question.form == "numbers":
            for row in answer.rows.values[:1]:
                for column, value in zip(answer.rows.columns, row, strict=True):
                    if isinstance(value, int | float) and math.isfinite(value):
                        shown[column.replace("_", " ")] = value
            continue
        shown[name] = _table(answer.rows)
        if len(answer.rows.values) > ROWS:
            shown[f"{name}: rows"] = f"{len(answer.rows.values):,}, the first {ROWS} are shown"
    return shown


def drawn_answers(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the pictures of a page, by name."""
    shown: dict[str, Any] = {}
    for answer in answers:
        name = f"{answer.question.name}: picture"
        try:
            drawn = picture(answer)
        except Exception as error:  # whatever values are: the table shows them
            shown[name] = f"cannot be drawn: {error}"[:CHARACTERS]
        else:
            if drawn:
                shown[name] = MetadataValue.md(f"![{answer.question.title}]({as_url(drawn)})")
    return shown


def shown_texts(
    run_id: str, asset: str, partition: str | None, answers: Sequence[Answer]
) -> pa.Table | None:
    """Return rows of the table ``shown_texts``; None if a page shows no texts."""
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        {
            "run_id": run_id,
            "asset": asset,
            "partition": partition,
            "question": answer.question.name,
            "text_id": str(text_id),
            "prompt_id": str(prompt_id),
            "shown_at": now,
        }
        for answer in answers
        for text_id, prompt_id in answer.texts_of[:ROWS]
    ]
    return pa.Table.from_pylist(rows, schema=_SHOWN) if rows else None


def _table(rows: Rows) -> MetadataValue:
    kinds = [
        "string" if kind.endswith("]") else _TYPES.get(kind.split("(")[0].upper(), "string")
        for kind in rows.types
    ]
    columns = [
        TableColumn(name=name, type=kind) for name, kind in zip(rows.columns, kinds, strict=True)
    ]
    records = [
        TableRecord(
            {
                name: _cell(value, kind)
                for name, value, kind in zip(rows.columns, row, kinds, strict=True)
            }
        )
        for row in rows.values[:ROWS]
    ]
    return MetadataValue.table(records, TableSchema(columns))


def _cell(value: Any, kind: str) -> str | int | float | bool | None:
    if value is None or kind == "bool":
        return None if value is None else bool(value)
    if kind == "float":
        return float(value) if math.isfinite(value) else None  # JSON has no other
    if kind == "int":
        return int(value)
    text = ascii_controls(json_text(value) if isinstance(value, list | dict) else str(value))
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"
