"""The formats of an export: one SELECT each, ``sql/exports/<format>.sql``.

A format's rows are each of one prompt, and its first column is a row's id. It gives the column
``prompt_id``. Rows become Parquet; a line in the comment that a file begins with makes them lines
of JSON, of the columns that it names::

    -- Lines: input, preferred_output, non_preferred_output
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from alignment_assets.host.expected import Expected
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.sql_files import text_literal

_LINES = re.compile(r"^-- Lines: (.*)$", re.MULTILINE)


class ExportError(Expected):
    """An export that cannot be written; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Column:
    """A column of a format's files, with DuckDB's name of its type."""

    name: str
    type: str


@dataclass(frozen=True)
class Format:
    """A format of ``sql/exports``.

    Attributes:
        name: of its file.
        text: its SELECT.
        lines: the columns of its lines of JSON; none if it is Parquet.
    """

    name: str
    text: str
    lines: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """What its file says of it."""
        return sql_files.comment(self.text)

    @property
    def file(self) -> str:
        """Its file."""
        return f"sql/exports/{self.name}.sql"

    @property
    def suffix(self) -> str:
        """Of its files."""
        return "jsonl" if self.lines else "parquet"


def formats(names: Iterable[str] | None = None) -> list[Format]:
    """Return formats by name; by default all that ``sql/exports`` has.

    Raises:
        ExportError: there is no format of a name.
    """
    there = sql_files.sql_names("exports")
    wanted = there if names is None else list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise ExportError(
            f"no format {', '.join(unknown)}; sql/exports has {', '.join(there)}, and a file "
            f"{unknown[0]}.sql there makes one"
        )
    return [_format(name) for name in wanted]


def _format(name: str) -> Format:
    text = sql_files.read_sql("exports", name)
    named = _LINES.findall(text)
    lines = tuple(column.strip() for line in named for column in line.split(","))
    return Format(name, text, lines)


def with_template_arguments(
    connection: duckdb.DuckDBPyConnection, one: Format, arguments: Mapping[str, Any]
) -> Format:
    """Return a format of which each row also tells what the chat template is to be given.

    TRL reads that of the row's own ``chat_template_kwargs``, and gives nothing else; without it, it
    would train on other tokens than were counted. Lines of JSON stay as they are.

    Raises:
        ExportError: a column would have others, as of a list of text and numbers.
    """
    if not arguments or one.lines:
        return one
    given = json.dumps(arguments, sort_keys=True)
    (structure,) = connection.execute(
        "SELECT json_structure($given)::VARCHAR", {"given": given}
    ).fetchone() or ("",)
    literal = f"json_transform({text_literal(given)}, {text_literal(structure)})"
    (found,) = connection.execute(f"SELECT {literal}").fetchone() or (None,)
    if json.dumps(found, sort_keys=True, default=str) != given:
        raise ExportError(
            f"chat_template_arguments of the policy: {given} cannot be a column, of which a "
            f"trainer reads them; let a chat_template of the recipe say what they would"
        )
    return replace(one, text=f"SELECT *, {literal} AS chat_template_kwargs FROM ({one.text}\n)")


def columns_of(
    connection: duckdb.DuckDBPyConnection, one: Format, values: Mapping[str, Any]
) -> list[Column]:
    """Return the columns that a format's SELECT gives.

    Raises:
        ExportError: it fails, or lacks columns that it has to give.
    """
    try:
        given = sql_files.named_parameters(one.text, values)
        found = [
            Column(row[0], row[1])
            for row in connection.execute(f"DESCRIBE ({one.text}\n)", given).fetchall()
        ]
    except (duckdb.Error, KeyError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise ExportError(f"{one.file} fails: {reason}; mend it") from error
    names = [column.name for column in found]
    missing = [name for name in ("prompt_id", *one.lines) if name not in names]
    if missing:
        raise ExportError(f"{one.file} gives no column {', '.join(missing)}: add it")
    return found
