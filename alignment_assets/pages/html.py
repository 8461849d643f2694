"""A page of HTML that is one file: headings, answers as figures, pictures, texts and tables.

Here belongs how a cell is written as HTML and what stands on a page; which answers a page has is
its maker's to say. Nothing on it is loaded from elsewhere, and no script is in it: its own policy
forbids both to browsers. What texts of datasets and models hold is shown, and takes no effect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment_assets.host.shown import ascii_controls, cell_text
from alignment_assets.pages.answers import Answer
from alignment_assets.pages.pictures import as_url, picture
from alignment_assets.pages.questions import Form
from alignment_assets.warehouse.query import Rows

if TYPE_CHECKING:
    from jinja2 import Template

# Rows of a table and characters of a cell; what is left out is told.
ROWS, CHARACTERS = 50, 600
# So many rows stand open, beside a picture, and of examples; further ones are folded up.
OPEN_ROWS, BESIDE_A_PICTURE, EXAMPLES = 30, 8, 4
# A longer text of several words takes lines of its own.
SHORT_TEXT = 40


@dataclass(frozen=True)
class Block:
    """Rows under a title of their own.

    Attributes:
        title: what they are.
        rows: they.
        about: what they say, in a sentence or two.
        form: how they are shown; bars and lines have a picture beside the table.
        picture: a PNG.
        empty: what stands there if there are no rows.
        marked: the column whose first word says how a row stands, which is seen by its colour.
    """

    title: str
    rows: Rows
    about: str = ""
    form: Form = "table"
    picture: bytes | None = None
    empty: str = "No rows."
    marked: str | None = None

    @property
    def picture_url(self) -> str | None:
        """The picture in the page itself."""
        return None if self.picture is None else as_url(self.picture)

    @cached_property
    def shown(self) -> list[list[str]]:
        """The cells of the rows that are shown."""
        return [[cell(value) for value in row] for row in self.rows.values[:ROWS]]

    @cached_property
    def long(self) -> list[bool]:
        """Of each column, whether it has texts that need lines of their own."""
        rows = self.shown
        return [
            any(len(row[place]) > SHORT_TEXT and " " in row[place] for row in rows)
            for place in range(len(self.rows.columns))
        ]

    @property
    def open_rows(self) -> int:
        """How many rows stand open."""
        if self.form == "texts":
            return EXAMPLES
        return BESIDE_A_PICTURE if self.picture else OPEN_ROWS


@dataclass(frozen=True)
class Section:
    """What stands under a heading.

    Attributes:
        title: the heading.
        lines: sentences.
        command: what to call for what is missing there.
        blocks: answers and other rows.
        sections: the parts below it.
    """

    title: str
    lines: Sequence[str] = ()
    command: str | None = None
    blocks: Sequence[Block] = ()
    sections: Sequence[Section] = ()


def answer_block(answer: Answer, empty: str = "No rows.") -> Block:
    """Return an answer as a page has it."""
    question, about = answer.question, answer.question.about
    try:
        drawn = picture(answer)
    except Exception as error:  # whatever values are: the table shows them
        drawn, about = None, f"{about} The picture cannot be drawn: {cell(error)}"
    return Block(question.title, answer.rows, about, question.form, drawn, empty)


def cell(value: Any) -> str:
    """Return a value as the text of a cell: controls as escapes, what is long cut and counted."""
    text = cell_text(value)
    cut = text[:CHARACTERS]
    shown = "\n".join(map(ascii_controls, re.split(r"\r\n|\r|\n", cut)))
    return shown if len(text) == len(cut) else f"{shown}… ({len(text):,} characters)"


def html_page(title: str, facts: Sequence[tuple[str, Any]], sections: Sequence[Section]) -> str:
    """Return a page as HTML.

    Args:
        title: the page's.
        facts: what it is of, a line each.
        sections: what is on it; their titles, and those below them, are its table of contents.
    """
    told = [(name, cell(value)) for name, value in facts]
    return _template().render(title=cell(title), facts=told, sections=sections, most=ROWS)


@cache
def _template() -> Template:
    # Here, because only who makes a page needs it.
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "words": lambda name: name.replace("_", " "),
        "anchor": lambda text: re.sub(r"\W+", "-", text.lower()).strip("-"),
        "first_word": lambda text: next(iter(re.findall(r"[a-z]+", text)), ""),
    }
    return environment.from_string(Path(__file__).with_name("page.html").read_text("utf-8"))
