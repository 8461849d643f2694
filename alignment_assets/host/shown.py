"""Texts from outside as they are shown: in messages, logs and reports."""

from __future__ import annotations

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
