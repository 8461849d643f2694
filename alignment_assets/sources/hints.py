"""What to tell about a source of which no row can be read: how it looks, and what would fit it."""

from __future__ import annotations

from typing import Any

from alignment_assets.host.shown import ascii_controls
from alignment_assets.recipe.datasets import PromptSource
from alignment_assets.sources.conversations import prompt_of_conversation, prompt_of_text
from alignment_assets.sources.texts import Malformed

SHOWN_COLUMNS = 10
# What people call a column that has a prompt and no answer.
PROMPTS = ("prompt", "question", "instruction", "query")
VALUE_CHARACTERS = 160


def unreadable(source: PromptSource, rows: int, reasons: str, first: dict[str, Any]) -> str:
    """Return the message about a source whose every row is malformed.

    Args:
        source: the recipe's entry.
        rows: how many it has.
        reasons: what is wrong with them, counted.
        first: its first row, with all columns.
    """
    entries = fitting_entries(first)
    fit = f"What fits it: {' or '.join(entries)}" if entries else "No form reads it: convert it"
    return (
        f"prompts.{source.name} ({source.dataset}): none of its {rows:,} rows can be read as form "
        f"{source.form}: {reasons}. The first row is {_shown_row(first)}. {fit}"
    )


def fitting_entries(row: dict[str, Any]) -> list[str]:
    """Return what an entry under ``prompts`` may say so that a row is read."""
    before = row.get("prompt")
    entries = []
    for column, value in row.items():
        if _is_read(value):
            entries.append(f"form: conversation, columns: {{conversation: {column}}}")
        elif column != "prompt" and before is not None and _is_read(value, before):
            entries.append(
                f"form: conversation, columns: {{prompt: prompt, conversation: {column}}}"
            )
    if entries:
        return entries
    return [
        f"form: text, columns: {{prompt: {column}}}"
        for column, value in row.items()
        if column in PROMPTS and _is_text(value)
    ]


def _is_read(value: Any, before: Any = None) -> bool:
    try:
        prompt_of_conversation(value, before)
    except Malformed:
        return False
    return True


def _is_text(value: Any) -> bool:
    try:
        prompt_of_text(value)
    except Malformed:
        return False
    return True


def _shown_row(row: dict[str, Any]) -> str:
    if not row:
        return "not to be read"
    columns = [
        f"{name}: {value if isinstance(value, str) else repr(value)}"[:VALUE_CHARACTERS]
        for name, value in list(row.items())[:SHOWN_COLUMNS]
    ]
    return ascii_controls(f"{{{', '.join(columns)}}}")
