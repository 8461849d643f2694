"""Rows of our tables from rows as read: prompts, personas and people's labels.

Pure functions over one row. A row that cannot be used becomes one with a ``malformed_reason``.
"""

from __future__ import annotations

import json
import math
from typing import Any

from alignment_assets.recipe.datasets import PROMPT_COLUMNS, PromptSource
from alignment_assets.sources import conversations
from alignment_assets.sources.conversations import Malformed, Message
from alignment_assets.sources.origins import read_origin
from alignment_assets.sources.readers import Row


def source_prompt_row(source: PromptSource, number: int, row: Row) -> dict[str, Any]:
    """Return a row of ``source_prompts``.

    Args:
        source: the recipe's entry; its form says how the prompt is read.
        number: the row's position in the source, from 0.
        row: the row as read, with our column names.
    """
    values = row.values
    origin = read_origin(values.get("origin_url"))
    return {
        "dataset": source.name,
        "row_number": number,
        **_prompt(source, number, row),
        "source": _text(values.get("source")) if "source" in source.columns else row.origin,
        "upstream_id": _text(values.get("upstream_id")),
        "origin_url": origin.written,
        "origin_pages": [page.url for page in origin.pages] if origin.written else None,
        "origin_domain": origin.pages[0].host if origin.pages else None,
        "extra": _extra(source, row),
    }


def persona_row(number: int, row: Row) -> dict[str, Any]:
    """Return a row of ``personas``."""
    try:
        persona, reason = conversations.usable_text(_value(row, "persona"), "persona"), None
        hashed = conversations.messages_hash([{"role": "persona", "content": persona}])
    except Malformed as malformed:
        persona, reason, hashed = None, str(malformed), conversations.row_hash(row.values)
    return {
        "row_number": number,
        "persona_id": conversations.as_id(hashed),
        "persona_hash": hashed,
        "persona": persona,
        "malformed_reason": reason,
    }


def human_label_row(number: int, row: Row) -> dict[str, Any]:
    """Return a row of ``human_labels``: one person's grade of one prompt."""
    label, reason = row.values.get("label"), None
    try:
        hashed = conversations.prompt_hash(conversations.prompt_of_text(_value(row, "prompt")))
        if str(label).strip().removesuffix(".0") not in {"0", "1", "2", "3"}:
            raise Malformed(f"label is {label!r:.40}, not 0 to 3")
        label = int(float(str(label)))
    except Malformed as malformed:
        hashed, label, reason = conversations.row_hash(row.values), None, str(malformed)
    return {
        "row_number": number,
        "prompt_id": conversations.as_id(hashed),
        "annotator": _text(row.values.get("annotator")),
        "label": label,
        "malformed_reason": reason,
    }


def _prompt(source: PromptSource, number: int, row: Row) -> dict[str, Any]:
    try:
        messages = _messages(source, row)
    except Malformed as malformed:
        hashed = conversations.row_hash([row.origin, number, _named_as_ever(row.values)])
        return {
            "prompt_id": conversations.as_id(hashed),
            "prompt_hash": hashed,
            "messages": None,
            "messages_hash": None,
            "malformed_reason": str(malformed),
        }
    hashed = conversations.prompt_hash(messages)
    return {
        "prompt_id": conversations.as_id(hashed),
        "prompt_hash": hashed,
        "messages": messages,
        "messages_hash": conversations.messages_hash(messages),
        "malformed_reason": None,
    }


def _messages(source: PromptSource, row: Row) -> list[Message]:
    value = _value(row, PROMPT_COLUMNS[source.form])
    if source.form == "conversation":
        return conversations.prompt_of_conversation(value)
    return conversations.prompt_of_text(value)


def _named_as_ever(values: dict[str, Any]) -> dict[str, Any]:
    # The column `conversation` was once called `chosen`: the ids of malformed rows stay.
    return {"chosen" if name == "conversation" else name: value for name, value in values.items()}


def _extra(source: PromptSource, row: Row) -> str | None:
    """Return the columns that are not ours as a JSON object; None where the entry maps none."""
    if not source.extra_columns:
        return None
    extra = {column: _storable(row.values.get(column)) for column in source.extra_columns}
    return json.dumps(extra, ensure_ascii=False, default=str)


def _storable(value: Any) -> Any:
    """Return a value as JSON can hold it: texts as `_text` gives them, numbers that are numbers."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_text(name): _storable(item) for name, item in value.items()}
    return value


def _value(row: Row, column: str) -> Any:
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
