"""Rows as the command shows or writes them: a table, CSV, JSON, Parquet or Markdown."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from alignment_assets.commands.terminal import Format, as_text
from alignment_assets.host.durable import written_whole
from alignment_assets.host.expected import Expected
from alignment_assets.host.shown import ascii_controls, cell_text, json_text
from alignment_assets.pages.markdown import markdown_table
from alignment_assets.warehouse.query import QueryError, Rows

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ROWS = 200
# A longer cell is cut where people read it.
CELL_CHARACTERS = 300
# How narrow a column of texts may become: its cells then take at most so many lines, unless it has
# the width that suffices. Numbers, ids and dates are never divided.
LEAST_WIDTH, CELL_LINES, ENOUGH_WIDTH = 12, 6, 40
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".parquet": "parquet",
    ".md": "markdown",
}
# What a spreadsheet takes for the begin of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def chosen_format(format: Format | None, output: Path | None) -> Format:
    """Return the format that the user names, else that of the file's suffix, else a table.

    Raises:
        Expected: no format has the suffix, or Parquet has no file to go to.
    """
    if format == "parquet" and output is None:
        raise Expected("parquet goes to a file: add -o FILE.parquet")
    if format is not None or output is None:
        return format or "table"
    if output.suffix.lower() not in SUFFIXES:
        raise Expected(
            f"{output}: which format? Name the file {', '.join(SUFFIXES)}, or add --format"
        )
    return SUFFIXES[output.suffix.lower()]


def write(
    rows: pa.Table | Rows,
    form: Format,
    output: Path | None,
    console: Console,
    safe_csv: bool = False,
) -> None:
    """Write rows to a file or to the console.

    Args:
        rows: the rows.
        form: the format; Parquet needs a file.
        output: the file; None writes to the console. A terminal shows control characters in CSV and
            JSON as escapes.
        console: where people read.
        safe_csv: in CSV, no text is a formula to a spreadsheet.

    Raises:
        QueryError: the file cannot be written, or Parquet has no such type.
    """
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        if isinstance(rows, Rows):
            named = enumerate(rows.columns)
            rows = pa.table({name: [row[place] for row in rows.values] for place, name in named})
        assert output
        try:
            with written(output) as file:
                pq.write_table(rows, file)
        except pa.ArrowException as error:
            raise QueryError(f"{output}: {error}; cast that column in the query") from error
    elif form == "table":
        if output is None:
            show(rows, console)
            return
        drawn = io.StringIO()
        show(rows, Console(file=drawn, width=200))
        with written(output) as file:
            file.write(drawn.getvalue().encode())
    else:
        if form == "csv":
            text = as_csv(rows, safe_csv)
        else:
            text = as_json(rows) if form == "json" else as_markdown(rows)
        if output is not None:
            with written(output) as file:
                file.write(text.encode())
        elif console.is_terminal:
            console.file.write(_for_eyes(text, form))
        else:
            console.file.write(text)


@contextmanager
def written(output: Path) -> Iterator[BinaryIO]:
    """Yield what becomes a file when it is whole: until then the old one stays.

    Raises:
        QueryError: it cannot be written.
    """
    if output.suffix == ".duckdb" and output.exists():
        raise QueryError(f"-o {output}: is a database, which would be lost; name another file")
    try:
        if output.exists() and not output.is_file():  # a pipe, or a terminal
            with output.open("wb") as file:
                yield file
        else:
            with written_whole(output) as file:
                yield file
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)  # Arrow says more
        raise QueryError(f"-o {output}: {reason}; name a file that you may write") from error


def show(
    rows: pa.Table | Rows,
    console: Console,
    title: str | None = None,
    most: int | None = CELL_CHARACTERS,
) -> None:
    """Print rows as a table, or a block for each where a table of them cannot be read.

    Args:
        rows: the rows; it says so where it leaves some out.
        console: where to print; its width decides.
        title: a line above them.
        most: the characters of a cell, a longer one is cut; None cuts none.
    """
    rows = _plain(rows)
    values = rows.values[:TABLE_ROWS]
    lines = [[_shown(value, most) for value in row] for row in (rows.columns, *values)]
    columns = [
        Column(
            Text(name),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=bool(values)
            and not any(isinstance(row[place], str | list | dict) for row in values),
        )
        for place, (name, is_number) in enumerate(zip(lines[0], rows.are_numbers, strict=True))
    ]
    least = map(_least_width, columns, zip(*lines, strict=True))
    if values and sum(least) + 3 * len(columns) - 1 > console.width:
        if title:
            console.print(Text(title, style="bold"))
        for number, row in enumerate(values, start=1):
            show_record(f"row {number}", zip(rows.columns, row, strict=True), console, most)
    else:
        words = sum(max(map(_longest_word, column)) for column in zip(*lines, strict=True))
        table = Table(
            *columns,
            title=title,
            title_justify="left",
            title_style="bold",
            pad_edge=False,
            # Rather than to cut a name, cells stand close.
            padding=(0, int(words + 3 * len(columns) - 1 <= console.width)),
        )
        for line in lines[1:]:
            table.add_row(*map(Text, line))
        console.print(table)
    if len(rows.values) > TABLE_ROWS:
        console.print(
            f"… {len(rows.values) - TABLE_ROWS:,} more rows: use --format csv, json or parquet"
        )


def show_record(
    title: str,
    fields: Iterable[tuple[str, Any]],
    console: Console,
    most: int | None = CELL_CHARACTERS,
) -> None:
    """Print a block: a line with its title, then each field's name and value, as `show` does."""
    shown = [(_shown(name, most), _shown(value, most)) for name, value in fields]
    table = Table(box=box.SQUARE, show_header=False, show_edge=False, pad_edge=False)
    table.add_column(width=max(min(cell_len(name), ENOUGH_WIDTH) for name, _ in shown))
    table.add_column(overflow="fold")
    for name, value in shown:
        table.add_row(Text(name), Text(value))
    console.print(Rule(as_text(title), align="left"))
    console.print(table)


def _shown(value: Any, most: int | None) -> str:
    text = cell_text(value)
    if most is None or len(text) <= most:
        return ascii_controls(text)
    return ascii_controls(text[: most - 1]) + "…"


def _least_width(column: Column, texts: Sequence[str]) -> int:
    """Return how wide a column of a table has to be for people to read it."""
    longest = max(map(cell_len, texts))
    if column.no_wrap:
        return longest
    return max(min(longest, LEAST_WIDTH), min(-(-longest // CELL_LINES), ENOUGH_WIDTH))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def as_csv(rows: pa.Table | Rows, safe: bool = False) -> str:
    """Return rows as CSV; lists and structs as JSON.

    Args:
        rows: the rows.
        safe: put an apostrophe before a text that a spreadsheet would take for a formula.
    """
    rows = _plain(rows)
    return "".join(_csv_line(row, safe) for row in (rows.columns, *rows.values))


def _csv_line(row: Sequence[Any], safe: bool) -> str:
    cells = [json_text(value) if isinstance(value, list | dict) else value for value in row]
    if safe:
        cells = [
            f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
            for cell in cells
        ]
    line = io.StringIO(newline="")
    # The writer quotes a text with a character that ends lines, and CR ends them to many readers.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def as_markdown(rows: pa.Table | Rows) -> str:
    """Return rows as a table of GitHub's Markdown, in which no text of theirs is Markdown or HTML.

    Line breaks of a text are ``<br>``, other control characters escapes.
    """
    return markdown_table(_plain(rows))


def as_json(rows: pa.Table | Rows) -> str:
    """Return rows as a JSON array of objects."""
    rows = _plain(rows)
    return json_text(rows.records, indent=2) + "\n"


def _for_eyes(text: str, form: Format) -> str:
    """Return CSV or JSON with escapes for control characters: in JSON they are the same value."""

    def escaped(line: str) -> str:
        if form == "json":
            return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
        return ascii_controls(line)

    return "\n".join(line if line.isprintable() else escaped(line) for line in text.split("\n"))


def _plain(rows: pa.Table | Rows) -> Rows:
    if isinstance(rows, Rows):
        return rows
    types = [str(field.type) for field in rows.schema]
    columns = [column.to_pylist() for column in rows.columns]
    return Rows(rows.column_names, types, list(zip(*columns, strict=True)))
