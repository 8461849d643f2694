"""Rows as the command shows or writes them: a table, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignment_assets.commands.terminal import Format
from alignment_assets.warehouse.query import QueryError

TABLE_ROWS = 200


def write(rows: pa.Table, form: Format, output: Path | None, console: Console) -> None:
    """Write rows to a file or to the console."""
    if form == "parquet":
        if output is None:
            raise QueryError("parquet goes to a file: add -o FILE")
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


def show(rows: pa.Table, console: Console, title: str | None = None) -> None:
    """Print rows as a table; says so where it leaves some out."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    for field in rows.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        table.add_column(field.name, justify="right" if numeric else "left", overflow="fold")
    for row in rows.slice(0, TABLE_ROWS).to_pylist():
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console.print(table)
    if rows.num_rows > TABLE_ROWS:
        console.print(
            f"… {rows.num_rows - TABLE_ROWS:,} more rows: use --format csv, json or parquet"
        )


def as_csv(rows: pa.Table) -> str:
    """Return rows as CSV; lists and structs as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows.column_names)
    for row in rows.to_pylist():
        writer.writerow([_json(v) if isinstance(v, (list, dict)) else v for v in row.values()])
    return text.getvalue()


def as_json(rows: pa.Table) -> str:
    """Return rows as a JSON array of objects."""
    return _json(rows.to_pylist(), indent=2) + "\n"


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, indent=indent)


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
