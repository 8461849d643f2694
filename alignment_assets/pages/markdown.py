"""Rows as a table of GitHub's Markdown, in which no text of theirs is Markdown or HTML."""

from __future__ import annotations

import re

from alignment_assets.host.shown import ascii_controls, cell_text
from alignment_assets.warehouse.query import Rows

# What may mean something in a line of Markdown, `<` and `&` apart, which are written as entities.
_MARKDOWN = re.compile(r"[\\`*_\[\]!|~$]|(?<=www)\.|:(?=//)")


def markdown_table(rows: Rows) -> str:
    """Return rows as a table. Line breaks of a text are ``<br>``, other controls escapes."""
    rules = ["---:" if is_number else "---" for is_number in rows.are_numbers]
    lines = [
        [markdown_text(name) for name in rows.columns],
        rules,
        *([markdown_text(cell_text(value)) for value in row] for row in rows.values),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_text(text: str) -> str:
    """Return a text as a line of Markdown that shows it."""
    lines = (ascii_controls(line) for line in re.split(r"\r\n|\r|\n", text))
    return "<br>".join(
        _MARKDOWN.sub(r"\\\g<0>", line.replace("&", "&amp;").replace("<", "&lt;")) for line in lines
    )
