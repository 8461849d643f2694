"""Questions to the database: read-only, without access to any other file, in several formats."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignment_assets.host.locking import LockTimeout
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse, WarehouseError

Format = Literal["table", "csv", "json", "parquet"]
TABLE_ROWS = 200
_PLAIN = re.compile(r"-?\d{1,18}(\.\d+)?|true|false|null|\[.*\]")


class QueryError(ValueError):
    """A question that cannot be answered; the message says what is wrong and what to do."""


def question_text(name: str) -> str:
    """Return the SQL of a question of ``sql/analysis``, or of a file.

    Raises:
        QueryError: neither; the message lists the questions.
    """
    if name in sql_files.sql_names("analysis"):
        return sql_files.read_sql("analysis", name)
    path = Path(name)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    raise QueryError(
        f"no question {name!r} and no such file; questions are "
        f"{', '.join(sql_files.sql_names('analysis'))}"
    )


def parse_parameters(given: list[str]) -> dict[str, Any]:
    """Return ``k=v`` arguments as values: numbers, booleans, null and lists as JSON, else text."""
    values: dict[str, Any] = {}
    for argument in given:
        name, separator, value = argument.partition("=")
        if not separator or not name.isidentifier():
            raise QueryError(f"--param {argument}: write it as name=value")
        values[name] = json.loads(value) if _PLAIN.fullmatch(value) else value
    return values


def answer(
    warehouse: Warehouse,
    recipe: Recipe,
    text: str,
    parameters: Mapping[str, Any],
    *,
    snapshot: bool = False,
) -> pa.Table:
    """Run one statement and return its rows.

    The recipe's settings stand ready as parameters, those given come first.

    Args:
        warehouse: the database.
        recipe: whose settings are parameters.
        text: the statement.
        parameters: values that it names.
        snapshot: ask the last snapshot, for which no writer waits.

    Raises:
        QueryError: DuckDB refuses the statement, a parameter has no value, or the database cannot
            be read.
    """
    if not (snapshot or warehouse.is_there):
        raise QueryError(
            f"no database {warehouse.path} yet; "
            f"run `alignment-assets materialize --recipe {recipe.name}`"
        )
    values = {**recipe.settings(), **parameters}
    try:
        statements = duckdb.extract_statements(text)
        if len(statements) != 1:
            raise QueryError(f"one statement at a time, these are {len(statements)}")
        opened = warehouse.read_snapshot if snapshot else warehouse.read
        with opened(isolated=True) as connection:
            return connection.execute(
                text, sql_files.named_parameters(text, values)
            ).to_arrow_table()
    except KeyError as error:
        raise QueryError(f"{error.args[0]}; give it with --param name=value") from error
    except (duckdb.Error, WarehouseError, LockTimeout) as error:
        raise QueryError(str(error)) from error


def write(rows: pa.Table, form: Format, output: Path | None, console: Console) -> None:
    """Write rows to a file or to the console."""
    if form == "parquet":
        if output is None:
            raise QueryError("parquet goes to a file: add -o FILE")
        pq.write_table(rows, output)
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
