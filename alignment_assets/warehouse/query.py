"""Questions to the database: read-only, and without access to any other file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from alignment_assets.host.locking import LockTimeout
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse, WarehouseError

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


def run_query(
    warehouse: Warehouse,
    text: str,
    values: Mapping[str, Any],
    *,
    snapshot: bool = False,
) -> pa.Table:
    """Run one statement and return its rows.

    Args:
        warehouse: the database.
        text: the statement.
        values: the parameters that it may name, and more.
        snapshot: ask the last snapshot, for which no writer waits.

    Raises:
        QueryError: DuckDB refuses the statement, a parameter has no value, or the database cannot
            be read.
    """
    if not (snapshot or warehouse.is_there):
        raise QueryError(
            f"no database {warehouse.path} yet; "
            f"run `alignment-assets materialize --recipe {warehouse.recipe}`"
        )
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
