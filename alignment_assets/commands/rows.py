"""Rows as the command shows or writes them: a table, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignment_assets.commands.terminal import Format
from alignment_assets.warehouse.query import QueryError, Rows

if TYPE_CHECKING:
    import pyarrow as pa

TABLE_ROWS = 200
# The names of types, Arrow's and DuckDB's, whose values stand flush right.
_NUMBERS = {
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double"),
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
}


def write(rows: pa.Table | Rows, form: Format, output: Path | None, console: Console) -> None:
    """Write rows to a file or to the console; to Parquet such as are Arrow's.

    Raises:
        QueryError: the file cannot be written, or Parquet has no such type.
    """
    try:
        _write(rows, form, output, console)
    except OSError as error:
        if output is None:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)  # Arrow says more
        raise QueryError(f"-o {output}: {reason}; name a file that you may write") from error


def _write(rows: pa.Table | Rows, form: Format, output: Path | None, console: Console) -> None:
    if form == "parquet":
        if output is None:
            raise QueryError("parquet goes to a file: add -o FILE")
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            pq.write_table(rows, output)
        except pa.ArrowException as error:
            raise QueryError(f"{output}: {error}; cast that column in the query") from error
    elif form == "table":
        if output is None:
            show(rows, console)
            return
        with output.open("w", encoding="utf-8") as file:
            show(rows, Console(file=file, width=200))
    else:
        text = as_csv(rows) if form == "csv" else as_json(rows)
        if output is None:
            console.file.write(text)
        else:
            output.write_text(text, encoding="utf-8")


def show(rows: pa.Table | Rows, console: Console, title: str | None = None) -> None:
    """Print rows as a table; says so where it leaves some out."""
    rows = _plain(rows)
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for name, kind in zip(rows.columns, rows.types, strict=True):
        numeric = kind.lower() in _NUMBERS
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows.values[:TABLE_ROWS]:
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    if len(rows.values) > TABLE_ROWS:
        console.print(
            f"… {len(rows.values) - TABLE_ROWS:,} more rows: use --format csv, json or parquet"
        )


def as_csv(rows: pa.Table | Rows) -> str:
    """Return rows as CSV; lists and structs as JSON."""
    rows = _plain(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.columns)
    for row in rows.values:
        writer.writerow([_json(v) if isinstance(v, (list, dict)) else v for v in row])
    return text.getvalue()


def as_json(rows: pa.Table | Rows) -> str:
    """Return rows as a JSON array of objects."""
    rows = _plain(rows)
    listed = [dict(zip(rows.columns, row, strict=True)) for row in rows.values]
    return _json(listed, indent=2) + "\n"


def _plain(rows: pa.Table | Rows) -> Rows:
    if isinstance(rows, Rows):
        return rows
    types = [str(field.type) for field in rows.schema]
    columns = [column.to_pylist() for column in rows.columns]
    return Rows(rows.column_names, types, list(zip(*columns, strict=True)))


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_with_text_keys(value), ensure_ascii=False, default=str, indent=indent)


def _with_text_keys(value: Any) -> Any:
    """Return a value whose maps have texts for keys, as JSON wants them: ids are none."""
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(key): _with_text_keys(part)
            for key, part in value.items()
        }
    return [_with_text_keys(part) for part in value] if isinstance(value, list) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return _json(value) if isinstance(value, (list, dict)) else str(value)
