"""The formats of an export: one SELECT each, ``sql/exports/<format>.sql``.

A format's rows are each of one prompt, and its first column is a row's id. It gives the column
``prompt_id``. Rows become Parquet; a line in the comment that a file begins with makes them lines
of JSON, of the columns that it names::

    -- Lines: input, preferred_output, non_preferred_output
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from alignment_assets.host.expected import Expected
from alignment_assets.warehouse import sql_files

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
