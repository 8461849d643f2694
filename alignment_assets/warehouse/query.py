"""Questions to the database: read-only, and without access to any other file."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import LockTimeout
from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lake import Lake
from alignment_assets.warehouse.removed import Members, hide_removed
from alignment_assets.warehouse.schema import WarehouseError

if TYPE_CHECKING:
    import pyarrow as pa

# The names of types, Arrow's and DuckDB's, whose values are numbers.
_NUMBERS = {
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double"),
    *("tinyint", "smallint", "integer", "bigint", "hugeint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
}
_PLAIN = re.compile(r"-?\d{1,18}(\.\d+)?|true|false|null|\[.*\]")

# Functions of a lake's extensions that take SQL or a connection, or remove files though the catalog
# is read-only (ducklake_cleanup_old_files); and DuckDB's that take SQL, or files: a lake's own are
# open, and an address that begins as theirs may lead away (s3://…/../, ?s3_endpoint=).
_OF_SERVERS = re.compile(
    r"(postgres|sqlite|read_postgres|pg_clear|ducklake)_\w+|query|query_table"
    r"|json_execute_serialized_sql|(read|parquet)_\w+|\w+_scan|glob|sniff_csv|duckdb_secrets"
)
_NAME = re.compile(r'"([^"]+)"|(\w+)')
# What DuckDB says of a text where a UUID should be.
_NO_ID = re.compile(r"Could not convert string ('.*') to INT128", re.DOTALL)
_NO_ID_EITHER = re.compile(r"Unimplemented type for cast \(\S+ -> UUID\)")


class QueryError(Expected):
    """A question that cannot be answered; the message says what is wrong and what to do."""


def question_text(asked: str) -> str:
    """Return the SQL of a question of ``sql/analysis`` or of a file, or a text that is SQL itself.

    Raises:
        QueryError: it is no question or file, and no SQL either, for it has no white space.
    """
    names = sql_files.sql_names("analysis")
    if asked in names:
        return sql_files.read_sql("analysis", asked)
    if os.path.isfile(asked):  # noqa: PTH113  # a long text is no error to it
        try:
            return Path(asked).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise QueryError(f"{asked}: no file of UTF-8 text: {error}") from error
    if re.search(r"\s", asked):
        return asked
    if asked.endswith(".sql"):
        raise QueryError(f"no file {asked}")
    from difflib import get_close_matches

    near = get_close_matches(asked, names, n=1, cutoff=0.5)
    hint = (
        f"did you mean {near[0]}?"
        if near
        else "`alignment-assets query` alone lists the questions; SQL goes in quotes"
    )
    raise QueryError(f"no question {asked!r}; {hint}")


def questions() -> Rows:
    """Return the questions of ``sql/analysis``, each with the first sentence of its comment."""
    return Rows(
        ["question", "about"],
        ["VARCHAR", "VARCHAR"],
        [
            (name, _first_sentence(sql_files.read_sql("analysis", name)))
            for name in sql_files.sql_names("analysis")
        ],
    )


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s", sql_files.comment(text), maxsplit=1)[0]


def parse_parameters(given: Sequence[str]) -> dict[str, Any]:
    """Return ``k=v`` arguments as values: numbers, booleans, null and lists as JSON, else text.

    Raises:
        QueryError: an argument has another form, or what looks like JSON is none.
    """
    values: dict[str, Any] = {}
    for argument in given:
        name, separator, value = argument.partition("=")
        if not separator or not name.isidentifier():
            raise QueryError(f"--param {argument}: write it as name=value")
        try:
            values[name] = json.loads(value) if _PLAIN.fullmatch(value) else value
        except (RecursionError, ValueError) as error:
            raise QueryError(f"--param {name}: {value[:100]} is no JSON: {error}") from error
    return values


def check_named(text: str, given: Mapping[str, Any]) -> None:
    """Refuse parameters that a query does not name.

    Raises:
        QueryError: there are some, and the message lists those that it names; or it is no query.
    """
    try:
        names = sql_files.parameter_names(only_statement(text))
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    for name in given:
        if name not in names:
            has = f"has {', '.join(sorted(names))}" if names else "has none"
            raise QueryError(f"--param {name}: the query has no such parameter; it {has}")


def only_statement(text: str) -> str:
    """Return the one statement of a text, if all that it can do is read.

    DuckDB says what kind a statement is: DESCRIBE, SUMMARIZE, SHOW and VALUES are SELECT to it.

    Raises:
        QueryError: there is none, there are several, or it is of another kind.
        duckdb.Error: it is no SQL.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the SQL is no UTF-8 text: {error}") from error
    statements = duckdb.extract_statements(text)
    if not statements:
        raise QueryError("no statement in it: write a SELECT")
    kinds = [statement.type for statement in statements]
    made = [duckdb.StatementType.CREATE, duckdb.StatementType.SELECT]
    if kinds == made and re.search(r"\bpivot\b", text, re.IGNORECASE):
        raise QueryError(
            "a PIVOT whose values are not named creates a type: name them, "
            "`PIVOT … ON column IN (value, …)`"
        )
    if len(statements) != 1:
        raise QueryError(f"one statement at a time, these are {len(statements)}")
    if kinds == [duckdb.StatementType.EXPLAIN]:
        if _explain_runs(text):
            raise QueryError("EXPLAIN ANALYZE runs what it explains: use EXPLAIN, or SELECT")
    elif kinds != [duckdb.StatementType.SELECT]:
        raise QueryError(f"a query is a SELECT, this is {kinds[0].name}")
    return statements[0].query


def refuse_server_functions(text: str) -> None:
    """Refuse a question to a lake that speaks to the server or file of its catalog directly.

    DuckDB takes them for reading, but what they send may end the transaction that may only read.
    ``query`` runs a text that may name them.

    Raises:
        QueryError: it calls such a function.
    """
    content = text.encode()
    places = [place for place, _ in duckdb.tokenize(text)]
    words = [content[place:].decode(errors="replace") for place in places]
    for word, following in pairwise(words):
        named = _NAME.match(word)
        name = (named[1] or named[2]).lower() if named else ""
        if following.startswith("(") and _OF_SERVERS.fullmatch(name):
            raise QueryError(f"{name} asks no table: a question is put to tables, by SQL alone")


def refuse_files(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Refuse a question to a lake that names files where tables should be.

    Raises:
        QueryError: it does.
        duckdb.Error: it is no question to this connection.
    """
    for name in sorted(connection.get_table_names(text, qualified=True)):
        if "/" in name:
            raise QueryError(f"{name} is no table: a question is put to tables, and to no file")


def _explain_runs(text: str) -> bool:
    """Return whether ANALYZE follows EXPLAIN, alone or among options in brackets."""
    content = text.encode()
    places = [place for place, _ in duckdb.tokenize(text)][1:]
    words = [content[place:].decode(errors="replace").lower() for place in places]
    options = takewhile(lambda word: not word.startswith(")"), words)
    named = options if words[0].startswith("(") else words[:1]
    return any(word.startswith(("analyze", "analyse")) for word in named)


def isolate(connection: duckdb.DuckDBPyConnection, members: Members) -> None:
    """Leave a connection no other file, and in plain tables no rows of who left the recipe.

    Args:
        connection: to the database, read-only.
        members: whom the recipe has.
    """
    hide_removed(connection, members)
    connection.execute("SET enable_external_access = false; SET lock_configuration = true")


@contextmanager
def pandas_left_out() -> Iterator[None]:
    """Keep DuckDB from importing pandas, which it does to see whether a parameter is of its kind.

    It takes longer than a small question. What is imported already stays.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        yield
    finally:
        del sys.modules["pandas"]


def run_query(
    warehouse: Database,
    text: str,
    values: Mapping[str, Any],
    *,
    snapshot: bool = False,
    as_of: str | None = None,
) -> pa.Table:
    """Run one statement that reads, and return its rows.

    It has no access to any other file, and plain names of tables leave out the rows of those who
    left the recipe.

    Args:
        warehouse: the database.
        text: a SELECT, or EXPLAIN without ANALYZE.
        values: the parameters that it may name, and more.
        snapshot: ask the last snapshot, for which no writer waits.
        as_of: of a DuckLake, ask an earlier state: a snapshot's number, or a moment.

    Raises:
        QueryError: the statement is no SELECT, or DuckDB refuses it, a parameter has no value, or
            the database cannot be read.
    """
    with _asked(warehouse, text, values, snapshot, as_of) as connection:
        return connection.to_arrow_table()


@dataclass(frozen=True)
class Rows:
    """Rows of an answer as Python values, which need no Arrow: it takes longer to load than to ask.

    Attributes:
        columns: their names.
        types: DuckDB's name of each column's type, or Arrow's.
        values: row by row.
    """

    columns: Sequence[str]
    types: Sequence[str]
    values: Sequence[Sequence[Any]]

    @property
    def num_rows(self) -> int:
        """How many they are."""
        return len(self.values)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Each row with its columns' names."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.values]

    @property
    def are_numbers(self) -> list[bool]:
        """Of each column, whether its values are numbers, which stand flush right."""
        return [kind.lower() in _NUMBERS for kind in self.types]


def fetch_rows(
    warehouse: Database,
    text: str,
    values: Mapping[str, Any],
    *,
    snapshot: bool = False,
    as_of: str | None = None,
) -> Rows:
    """Run one statement as `run_query` does, for those who need no Arrow."""
    with _asked(warehouse, text, values, snapshot, as_of) as connection:
        return _fetched(connection)


@contextmanager
def _asked(
    warehouse: Database, text: str, values: Mapping[str, Any], snapshot: bool, as_of: str | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    with opened_to_ask(warehouse, snapshot=snapshot, as_of=as_of) as connection:
        statement = only_statement(text)
        if isinstance(warehouse, Lake):
            refuse_server_functions(statement)
            refuse_files(connection, statement)
        isolate(connection, warehouse.members)
        _execute(connection, statement, values)
        yield connection


def ask(connection: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Any]) -> pa.Table:
    """Return the rows of a statement.

    Raises:
        QueryError: a parameter has no value.
        duckdb.Error: DuckDB refuses it.
    """
    _execute(connection, text, values)
    return connection.to_arrow_table()


def fetch(connection: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Any]) -> Rows:
    """Return the rows of a statement as `ask` does, for those who need no Arrow."""
    _execute(connection, text, values)
    return _fetched(connection)


def _fetched(connection: duckdb.DuckDBPyConnection) -> Rows:
    described = connection.description or []
    return Rows(
        [column[0] for column in described],
        [str(column[1]) for column in described],
        connection.fetchall(),
    )


def _execute(connection: duckdb.DuckDBPyConnection, text: str, values: Mapping[str, Any]) -> None:
    try:
        given = sql_files.named_parameters(text, values)
    except KeyError as error:
        raise QueryError(f"{error.args[0]}; give it with --param name=value") from error
    for name, value in given.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as error:
            raise QueryError(f"the value of the parameter {name} is no UTF-8 text") from error
    with pandas_left_out():
        connection.execute(text, given)


def check_there(warehouse: Database) -> None:
    """Raise a QueryError if there is no database yet."""
    if not warehouse.is_there:
        raise QueryError(f"no database {warehouse.shown} yet; run `{proposed('materialize')}`")


@contextmanager
def opened_to_ask(
    warehouse: Database, *, snapshot: bool = False, as_of: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the database to read, as `run_query` does; all that is asked is of one moment.

    Raises:
        QueryError: there is no database, it cannot be read, or DuckDB refuses a question.
    """
    if not snapshot:
        check_there(warehouse)
    try:
        with warehouse.read_snapshot() if snapshot else warehouse.read(as_of) as connection:
            yield connection
    except (duckdb.Error, WarehouseError, LockTimeout) as error:
        found = _NO_ID.search(str(error))
        if found or _NO_ID_EITHER.search(str(error)):
            wrong = found[1] if found else "what was given for one"
            raise QueryError(
                f"{wrong} is no id: an id is a UUID, or its 32 digits; of an older one of 64 "
                f"digits the first 32 are it"
            ) from error
        raise QueryError(str(error)) from error


def created_at(warehouse: Database) -> str:
    """Return when a database was created, which tells it from others of its name."""
    (row,) = run_query(warehouse, "SELECT created_at FROM database_info", {}).to_pylist()
    return str(row["created_at"])
