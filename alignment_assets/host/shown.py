"""Values and texts from outside as they are shown: in messages, logs, tables and reports."""

from __future__ import annotations

import json
from typing import Any


def ascii_controls(text: str) -> str:
    """Return a text with its control characters and half surrogates written as escapes."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


def with_text_keys(value: Any) -> Any:
    """Return a value whose maps have texts for keys, as JSON wants them: ids are none."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(key): with_text_keys(part)
            for key, part in value.items()
        }
    return [with_text_keys(part) for part in value] if isinstance(value, list) else value


def json_text(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON; what JSON lacks is a text in it."""
    return json.dumps(with_text_keys(value), ensure_ascii=False, default=str, indent=indent)


def cell_text(value: Any) -> str:
    """Return a value as people read it in a table: figures grouped, lists and maps as JSON.

    What a text holds is left as it is.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return json_text(value) if isinstance(value, list | dict) else str(value)
