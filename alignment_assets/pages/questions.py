"""Which questions of ``sql/analysis`` are shown with which table, and in what form.

A question's file says so in a line of the comment that it begins with::

    -- Page: rewards
    -- Page: completions as bars: tokens, completions, variant
    -- Page: controversy_agreement as lines: threshold, accuracy, human_pairwise
    -- Page: completions as texts
    -- Page: rewards as numbers

Its answer is a table. Bars and lines are drawn beside it: of bars the columns are what stands along
the axis, the height, and what is told apart by colour, if anything; of lines the axis, and one line
for each more. Texts come from datasets or models: each row has the ``row_id`` that it is of, and
its ``prompt_id``. Numbers are one row, each column a number that is followed over time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

from alignment_assets.host.expected import Expected
from alignment_assets.warehouse import sql_files

Form = Literal["table", "bars", "lines", "texts", "numbers"]

_LINE = re.compile(r"^-- Page: (.*)$", re.MULTILINE)
_NAMES = r"\w+(?:, \w+)*"
_PAGE = re.compile(rf"(?P<tables>{_NAMES})(?: as (?P<form>\w+)(?:: (?P<columns>{_NAMES}))?)?")
_COLUMNS = {"bars": (2, 3), "lines": (2, 6)}
_PLAIN = {"texts", "numbers"}


class PageError(Expected):
    """A question that cannot be shown; the message names its file and what to write."""


@dataclass(frozen=True)
class Question:
    """A question as it is shown.

    Attributes:
        name: of its file.
        tables: with whose pages it is shown, if any.
        form: how.
        columns: of its answer, those that are drawn.
    """

    name: str
    tables: tuple[str, ...]
    form: Form = "table"
    columns: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Its SELECT."""
        return sql_files.read_sql("analysis", self.name)

    @property
    def title(self) -> str:
        """Its name as words."""
        return self.name.replace("_", " ")

    @property
    def about(self) -> str:
        """What its file says of it."""
        return sql_files.comment(self.text)


def questions_of(table: str) -> list[Question]:
    """Return the questions that are shown with a table, by name.

    Raises:
        PageError: a line that says where a question is shown is none.
    """
    return [question for question in _questions() if table in question.tables]


def question(name: str) -> Question:
    """Return a question of ``sql/analysis`` in its form; one that no table's page has is a table.

    Raises:
        PageError: a line that says where a question is shown is none.
    """
    shown = (one for one in _questions() if one.name == name)
    return next(shown, Question(name, ()))


def check_pages() -> None:
    """Raise a PageError if a line that says where a question is shown is none."""
    _questions()


@cache
def _questions() -> tuple[Question, ...]:
    return tuple(
        _question(name, line)
        for name in sql_files.sql_names("analysis")
        for line in _LINE.findall(sql_files.read_sql("analysis", name))
    )


def _question(name: str, line: str) -> Question:
    found = _PAGE.fullmatch(line.strip())
    form = (found and found["form"]) or "table"
    tables = tuple(found["tables"].split(", ")) if found else ()
    columns = tuple(found["columns"].split(", ")) if found and found["columns"] else ()
    unknown = sorted(set(tables) - sql_files.tables().keys())
    least, most = _COLUMNS.get(form, (0, 0))
    if not found or unknown or form not in {"table", *_COLUMNS, *_PLAIN}:
        raise PageError(
            f"sql/analysis/{name}.sql: `Page: {line}` cannot be read; write tables of sql/schema, "
            f"and as bars, lines, texts or numbers where it is one"
        )
    if not least <= len(columns) <= most:
        raise PageError(
            f"sql/analysis/{name}.sql: `Page: {line}` names {len(columns)} columns; as {form} it "
            f"names {f'{least} to {most}' if most else 'none'}"
        )
    return Question(name, tables, cast("Form", form), columns)
