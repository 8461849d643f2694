"""The files in ``sql/``: reading them, the parameters they name, and the tables they declare.

Here belongs what is true of the files alone. Running them is the warehouse's part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.host.expected import Expected
from alignment_assets.host.paths import project_folder


class SqlFileError(Expected):
    """A file of ``sql`` that cannot be used; the message names it and what to do."""


@dataclass(frozen=True)
class Column:
    """A column of a table in ``sql/schema``."""

    name: str
    type: str
    nullable: bool
    description: str


@dataclass(frozen=True)
class Table:
    """A table in ``sql/schema``."""

    name: str
    description: str
    columns: tuple[Column, ...]
    ddl: str


@cache
def read_sql(kind: str, name: str) -> str:
    """Return the text of ``sql/<kind>/<name>.sql``.

    Raises:
        FileNotFoundError: there is no such file; the message lists the names there are.
        SqlFileError: the file is not one statement.
    """
    path = project_folder("sql") / kind / f"{name}.sql"
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; sql/{kind} has {sql_names(kind)}")
    text = path.read_text(encoding="utf-8")
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise SqlFileError(f"{path}: {error}") from error
    if len(statements) != 1 or text.rstrip().endswith(";"):
        raise SqlFileError(f"{path}: holds {len(statements)} statements; write one, without a `;`")
    return text


def sql_names(kind: str) -> list[str]:
    """Return the names of the files in ``sql/<kind>``, folders included (``completions/keys``).

    A folder is listed once a process, as its files are read once.
    """
    return list(_names(project_folder("sql") / kind))


@cache
def _names(folder: Path) -> tuple[str, ...]:
    found = (str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.sql"))
    return tuple(sorted(found))


def comment(sql: str) -> str:
    """Return what a file says of itself: the comment that it begins with, in one line.

    Lines ``-- Page: …`` and ``-- Lines: …`` are for the product and left out.
    """
    lines = takewhile(lambda line: line.startswith("--"), sql.splitlines())
    ours = ("-- Page:", "-- Lines:")
    told = (line.removeprefix("--").strip() for line in lines if not line.startswith(ours))
    return " ".join(told)


@cache
def macros() -> str:
    """Return the temporary macros that queries use."""
    return (project_folder("sql") / "macros.sql").read_text(encoding="utf-8")


@cache
def parameter_names(sql: str) -> frozenset[str]:
    """Return the parameters that a single statement names as ``$name``."""
    (statement,) = duckdb.extract_statements(sql)
    return frozenset(statement.named_parameters)


def named_parameters(sql: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of ``values`` that the statement names.

    Raises:
        KeyError: the statement names a parameter that has no value.
    """
    names = parameter_names(sql)
    missing = sorted(names - values.keys())
    if missing:
        raise KeyError(f"no value for the parameter(s) {', '.join('$' + name for name in missing)}")
    return {name: values[name] for name in names}


def code_version(*sql: str, settings: Mapping[str, Any]) -> str:
    """Return a version that changes with the queries or with the settings they name."""
    named = {
        key: value
        for text in sql
        for key, value in settings.items()
        if key in parameter_names(text)
    }
    return digest([macros(), sql, named])


def digest(value: Any) -> str:
    """Return a short hash of a JSON-like value, for code versions."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@cache
def tables() -> dict[str, Table]:
    """Return every table of ``sql/schema`` by name, as DuckDB understands the files."""
    connection = duckdb.connect(":memory:", config={"threads": 1})
    files: dict[str, Path] = {
        path.stem: path for path in sorted((project_folder("sql") / "schema").glob("*.sql"))
    }
    ddl = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    connection.begin()  # one transaction: two thirds of the time went to ending hundreds
    for text in ddl.values():
        connection.execute(text)
    declared = describe_tables(connection, "memory")
    connection.close()
    return {name: replace(declared[name], ddl=ddl[name]) for name in ddl}


def describe_tables(connection: duckdb.DuckDBPyConnection, database: str) -> dict[str, Table]:
    """Return the tables that an attached database has, by name, without their statements."""
    # Not as a parameter: with one, DuckDB loads pandas.
    where = f"database_name = {text_literal(database)} AND schema_name = 'main'"
    columns: dict[str, list[Column]] = {}
    for table, *column in connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable, coalesce(comment, '') "
        f"FROM duckdb_columns() WHERE {where} ORDER BY table_name, column_index"
    ).fetchall():
        columns.setdefault(table, []).append(Column(*column))
    return {
        name: Table(name, comment, tuple(columns[name]), ddl="")
        for name, comment in connection.execute(
            f"SELECT table_name, coalesce(comment, '') FROM duckdb_tables() WHERE {where}"
        ).fetchall()
    }


def text_literal(value: object) -> str:
    """Return a text as SQL, for statements that take no parameter."""
    return "'" + str(value).replace("'", "''") + "'"


@cache
def schema_version() -> str:
    """Return a hash of every table, column, type and comment of ``sql/schema``."""
    return digest([asdict(replace(table, ddl="")) for table in tables().values()])
