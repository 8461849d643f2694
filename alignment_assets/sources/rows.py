"""Rows of our tables from rows as read: prompts, personas and people's labels.

Pure functions over one row. A row that cannot be used becomes one with a ``malformed_reason``.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from alignment_assets.recipe.datasets import PROMPT_COLUMNS, Personas, PromptSource
from alignment_assets.sources import conversations
from alignment_assets.sources.conversations import Message
from alignment_assets.sources.files import Row
from alignment_assets.sources.origins import read_origin
from alignment_assets.sources.texts import Malformed, refuse_placeholder, shown, usable_text

# Of ISO 639: the language is not known.
UNDETERMINED = "und"
_CONFIG_LANGUAGE = re.compile(r"[-_]([a-z]{2})$")

# Of a label that names its prompt by id alone.
_NO_PROMPT = dict.fromkeys(("prompt_hash", "messages", "messages_hash"))

# How deep values of other columns may lie in each other; what lies deeper is left out.
NESTING = 100


def source_prompt_row(
    source: PromptSource, number: int, row: Row, placeholders: Collection[str] = ()
) -> dict[str, Any]:
    """Return a row of ``source_prompts``.

    Args:
        source: the recipe's entry; its form says how the prompt is read.
        number: the row's position in the source, from 0.
        row: the row as read, with our column names.
        placeholders: texts that stand for none.
    """
    values = row.values
    origin = read_origin(values.get("origin_url"))
    return {
        "dataset": source.name,
        "row_number": number,
        **_prompt(source, number, row, placeholders),
        "source": _text(values.get("source")) if "source" in source.columns else row.origin,
        "language": _language(source, row),
        "upstream_id": _text(values.get("upstream_id")),
        "origin_url": origin.written,
        "origin_pages": [page.url for page in origin.pages] if origin.written else None,
        "origin_domain": origin.pages[0].host if origin.pages else None,
        "extra": _extra(source, row),
    }


def _language(source: PromptSource, row: Row) -> str:
    """Return a row's language as its source tells it; nothing guesses."""
    if "language" in source.columns:
        return _name(row.values.get("language")) or UNDETERMINED
    ending = _CONFIG_LANGUAGE.search(row.origin or "") if source.configs else None
    return ending[1] if ending else UNDETERMINED


def persona_row(
    personas: Personas, number: int, row: Row, placeholders: Collection[str] = ()
) -> dict[str, Any]:
    """Return a row of ``personas``; a persona is stripped of white space around it."""
    fault: Malformed | None = None
    try:
        persona = usable_text(_value(row, "persona"), "persona").strip()
        refuse_placeholder(persona, placeholders)
        limit = personas.max_characters
        if limit is not None and len(persona) > limit:
            raise Malformed("longer than personas.max_characters", str(len(persona)))
        hashed = conversations.messages_hash([{"role": "persona", "content": persona}])
    except Malformed as malformed:
        fault, persona, hashed = malformed, None, conversations.row_hash(row.values)
    return {
        "row_number": number,
        "persona_id": conversations.as_id(hashed),
        "persona_hash": hashed,
        "persona": persona,
        **_fault(fault),
    }


def human_label_row(number: int, row: Row) -> dict[str, Any]:
    """Return a row of ``human_labels``: one person's grade of one prompt.

    The prompt is named by its text or by its id; of both the id counts, and the text where it is
    the text of that prompt.
    """
    fault: Malformed | None = None
    label = row.values.get("label")
    try:
        prompt_id, prompt = _labelled_prompt(row)
        if str(label).strip().removesuffix(".0") not in {"0", "1", "2", "3"}:
            raise Malformed("a label that is not 0 to 3", shown(label))
        label = int(float(str(label)))
    except Malformed as malformed:
        fault, label = malformed, None
        prompt_id = conversations.as_id(conversations.row_hash(row.values))
        prompt = _NO_PROMPT
    annotator = _name(row.values.get("annotator"))
    return {
        "row_number": number,
        "prompt_id": prompt_id,
        **prompt,
        "annotator": annotator,
        "label": label,
        **_fault(fault),
    }


def _labelled_prompt(row: Row) -> tuple[str, dict[str, Any]]:
    """Return the id of the prompt that a label is about, and the prompt where the row has it."""
    text = _value(row, "prompt")
    named = _name(row.values.get("prompt_id"))
    if named is not None:
        try:
            prompt_id = str(uuid.UUID(named))
        except ValueError:
            raise Malformed("not a prompt_id", shown(named)) from None
        with suppress(Malformed):
            if prompt_id == (found := _as_asked(text))[0]:
                return found
        return prompt_id, _NO_PROMPT
    return _as_asked(text)


def _as_asked(text: Any) -> tuple[str, dict[str, Any]]:
    messages = conversations.prompt_of_text(text)
    hashed = conversations.prompt_hash(messages)
    return conversations.as_id(hashed), {
        "prompt_hash": hashed,
        "messages": messages,
        "messages_hash": conversations.messages_hash(messages),
    }


def _name(value: Any) -> str | None:
    """Return a name, stripped; None for what stands for none. Numbers are names, 5.0 as 5."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    text = _text(value)
    return (text.strip() or None) if text else None


def _fault(fault: Malformed | None) -> dict[str, Any]:
    return {
        "malformed_reason": fault.reason if fault else None,
        "malformed_detail": fault.detail if fault else None,
    }


def _prompt(
    source: PromptSource, number: int, row: Row, placeholders: Collection[str]
) -> dict[str, Any]:
    try:
        messages, form = _messages(source, row, placeholders)
    except Malformed as malformed:
        hashed = conversations.row_hash([row.origin, number, _named_as_ever(row.values)])
        return {
            "prompt_id": conversations.as_id(hashed),
            "prompt_hash": hashed,
            "messages": None,
            "messages_hash": None,
            "read_as": None,
            **_fault(malformed),
        }
    hashed = conversations.prompt_hash(messages)
    return {
        "prompt_id": conversations.as_id(hashed),
        "prompt_hash": hashed,
        "messages": messages,
        "messages_hash": conversations.messages_hash(messages),
        "read_as": form,
        **_fault(None),
    }


def _messages(
    source: PromptSource, row: Row, placeholders: Collection[str]
) -> tuple[list[Message], str]:
    value = _value(row, PROMPT_COLUMNS[source.form])
    if source.form == "conversation":
        before = row.values.get("prompt") if "prompt" in source.columns else None
        return conversations.prompt_of_conversation(value, before, placeholders)
    return conversations.prompt_of_text(value, placeholders), conversations.TEXT


def _named_as_ever(values: dict[str, Any]) -> dict[str, Any]:
    # The column `conversation` was once called `chosen`: the ids of malformed rows stay.
    return {"chosen" if name == "conversation" else name: value for name, value in values.items()}


def _extra(source: PromptSource, row: Row) -> str | None:
    """Return the columns that are not ours as a JSON object; None where the entry maps none."""
    if not source.extra_columns:
        return None
    extra = {column: _storable(row.values.get(column)) for column in source.extra_columns}
    return json.dumps(extra, ensure_ascii=False, default=str)


def _storable(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON can hold it: texts as `_text` gives them, numbers that are numbers."""
    if depth > NESTING:
        return None
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_storable(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_text(name): _storable(item, depth + 1) for name, item in value.items()}
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
