"""The database's tables against ``sql/schema``: what differs, and bringing them forward.

What loses nothing is done, in one transaction; anything else is refused with what to rebuild. Here
belong also the casts that change no value, and whether new rows fit a table. Whose turn it is to
write is `access`'s part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import duckdb
from duckdb import sqltype
from duckdb.sqltypes import DuckDBPyType

from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse import sql_files

# Tables that no asset makes: they cannot be made again.
RECORDS = {
    *("database_info", "inference_forecasts", "inference_runs"),
    *("lineage", "losses", "shown_texts"),
}
# Those that come and go with the rows of an asset's table, by the column that names it.
RECORDS_OF_ROWS = {"lineage": "table_name", "losses": "asset"}
# More that have to be made again are a reason to begin a new database.
MANY_TABLES = 4

_SIGNED = {"tinyint": 8, "smallint": 16, "integer": 32, "bigint": 64, "hugeint": 128}
_UNSIGNED = {"utinyint": 8, "usmallint": 16, "uinteger": 32, "ubigint": 64, "uhugeint": 128}
_INTEGERS = {*_SIGNED, *_UNSIGNED}
# The bits of whole numbers that a floating-point number holds exactly, and its decimal digits.
_MANTISSA = {"float": 24, "double": 53}
_DIGITS = {"float": 6, "double": 15}
_WIDER = {
    ("float", "double"),
    ("date", "timestamp"),
    ("timestamp_s", "timestamp"),
    ("timestamp_ms", "timestamp"),
    ("timestamp_s", "timestamp_ms"),
    ("enum", "varchar"),
    ("uuid", "varchar"),
}


class WarehouseError(Expected):
    """Rows or tables that do not fit; the message says which and what to do."""


@dataclass(frozen=True)
class Migration:
    """What brings a database forward.

    Attributes:
        statements: to run in one transaction.
        changes: what they change, for people; none on a new database.
    """

    statements: tuple[str, ...]
    changes: tuple[str, ...]


class Described(Protocol):
    """A database, to whom messages about its tables are told."""

    @property
    def shown(self) -> str:
        """How it is named."""

    @property
    def recipe(self) -> str | None:
        """The recipe that wants to use it; None if any may."""

    def declaration(self, table: sql_files.Table) -> str:
        """Return the statement that makes a table."""

    def rebuild(self, tables: Sequence[str] | None) -> str:
        """Return the command that takes tables away, or all if there is None."""


def plan_migration(
    connection: duckdb.DuckDBPyConnection, database: str, described: Described
) -> Migration | None:
    """Compare an attached database with ``sql/schema``.

    Args:
        connection: where it is attached.
        database: the name it is attached by.
        described: what it is.

    Returns:
        What to do; None if all is as it should be.

    Raises:
        WarehouseError: it is another recipe's, or a difference cannot be mended without loss.
    """
    found = sql_files.describe_tables(connection, database)
    info = _read_info(connection, database) if "database_info" in found else {}
    owner, recipe = info.get("recipe"), described.recipe
    named = owner or recipe
    if recipe and owner and owner != recipe:
        raise WarehouseError(
            f"{described.shown} is the database of the recipe {owner}, not of {recipe}; "
            f"set ALIGNMENT_HOME to a folder of {recipe}'s own, or unset it for data/{recipe}"
        )
    statements: list[str] = []
    changes: list[str] = []
    obstacles: dict[str, list[str]] = {}
    new: list[str] = []
    for name, table in sql_files.tables().items():
        there = found.get(name)
        if there is None:
            statements.append(described.declaration(table))
            new.append(name)
            changes.append(f"{name}: a new table")
            continue
        for step in _differences(table, there):
            if step.statement is None:
                obstacles.setdefault(name, []).append(step.text)
            else:
                statements.append(step.statement)
                changes.append(f"{name}: {step.text}")
    if obstacles:
        raise WarehouseError(_refusal(described, obstacles, info.get("product_version")))
    # Of what was in a table that somebody has dropped nothing is left.
    statements += [f"DELETE FROM lineage WHERE table_name = '{name}'" for name in new]
    if not statements and (owner, info.get("schema_version")) == (
        named,
        sql_files.schema_version(),
    ):
        return None
    return Migration(tuple(statements), tuple(changes) if found else ())


def migrate(
    connection: duckdb.DuckDBPyConnection, migration: Migration, recipe: str | None
) -> None:
    """Bring the connection's own database forward, in one transaction."""
    connection.begin()
    try:
        for statement in migration.statements:
            connection.execute(statement)
        (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        info = _read_info(connection, database)
        moment = datetime.now(UTC).replace(tzinfo=None)
        connection.execute("DELETE FROM database_info")
        connection.execute(
            "INSERT INTO database_info BY NAME SELECT $recipe AS recipe, $schema AS schema_version,"
            " $product AS product_version, $created AS created_at, $moment AS migrated_at",
            {
                "recipe": info.get("recipe") or recipe,
                "schema": sql_files.schema_version(),
                "product": product_version(),
                "created": info.get("created_at") or moment,
                "moment": moment,
            },
        )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def product_version() -> str:
    """Return the version of alignment-assets that runs."""
    try:
        return version("alignment-assets")
    except PackageNotFoundError:  # a checkout on the path
        return "unknown"


def loses_nothing(old: str, new: str) -> bool:
    """Say whether every value of a DuckDB type is the same value in another, wider one."""
    return _fits(sqltype(old), sqltype(new), may_fail=False)


def cast_is_checked(found: str, declared: str) -> bool:
    """Say whether a cast keeps each value or fails on it, so that none changes silently."""
    return _fits(sqltype(found), sqltype(declared), may_fail=True)


def check_columns(table: sql_files.Table, found: Sequence[str]) -> None:
    """Raise a WarehouseError if new rows lack a column of their table, or have one too many."""
    wanted = [column.name for column in table.columns]
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra:
        raise WarehouseError(
            f"{table.name}: new rows lack the columns {missing} and have {extra} too "
            f"many; make sql/schema/{table.name}.sql and the query agree"
        )


def check_types(
    connection: duckdb.DuckDBPyConnection,
    table: sql_files.Table,
    query: str,
    values: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    """Raise a WarehouseError where DuckDB would cast what a query gives, and could change it.

    It rounds, truncates, and drops what a column's type does not have.

    Args:
        connection: runs the query.
        table: takes its rows.
        query: the query.
        values: its parameters.
        names: the columns that it gives.
    """
    # Of a query's NULL, a description says that it is an INTEGER; this says what it is.
    types = ", ".join(f'typeof(one."{name}")' for name in names)
    found = connection.execute(
        f"SELECT {types} FROM (SELECT 1) LEFT JOIN (FROM ({query}\n) LIMIT 0) AS one ON true",
        values,
    ).fetchone()
    declared = {column.name: column.type for column in table.columns}
    wrong = [
        f"{name} is {kind} and should be {declared[name]}"
        for name, kind in zip(names, found or (), strict=True)
        if not cast_is_checked(kind, declared[name])
    ]
    if wrong:
        raise WarehouseError(
            f"{table.name}: new rows have other types, and a cast could change their "
            f"values: {'; '.join(wrong)}; cast them in the query, or change "
            f"sql/schema/{table.name}.sql"
        )


@dataclass(frozen=True)
class _Difference:
    """One difference of a table, and the statement that mends it; None if none does."""

    text: str
    statement: str | None


def _differences(wanted: sql_files.Table, found: sql_files.Table) -> Iterator[_Difference]:
    alter = f"ALTER TABLE {wanted.name}"
    columns = {column.name: column for column in found.columns}
    for column in wanted.columns:
        there = columns.pop(column.name, None)
        name = f'"{column.name}"'
        text = sql_files.text_literal(column.description)
        comment = f"COMMENT ON COLUMN {wanted.name}.{name} IS {text}"
        if there is None:
            statement = f"{alter} ADD COLUMN {name} {column.type}; {comment}"
            null = "" if column.nullable else " NOT NULL"
            yield _Difference(
                f"new column {column.name} {column.type}{null}",
                statement if column.nullable else None,
            )
            continue
        if there.type != column.type:
            wider = loses_nothing(there.type, column.type)
            yield _Difference(
                f"column {column.name} is {there.type} there and {column.type} here",
                f"{alter} ALTER {name} TYPE {column.type}" if wider else None,
            )
        if there.nullable != column.nullable:
            yield _Difference(
                f"column {column.name} may {'be NULL now' if column.nullable else 'not be NULL'}",
                f"{alter} ALTER {name} DROP NOT NULL" if column.nullable else None,
            )
        if there.description != column.description:
            yield _Difference(f"new comment on {column.name}", comment)
    for name in columns:
        yield _Difference(f"column {name} is there and not in sql/schema", None)
    if wanted.description != found.description:
        statement = (
            f"COMMENT ON TABLE {wanted.name} IS {sql_files.text_literal(wanted.description)}"
        )
        yield _Difference("new comment", statement)


def _refusal(described: Described, obstacles: dict[str, list[str]], made_by: str | None) -> str:
    lines = [
        f"{described.shown} differs from sql/schema in what cannot be changed without losing rows:"
    ]
    lines += [f"  {table}: {'; '.join(texts)}" for table, texts in obstacles.items()]
    if made_by not in (None, product_version()):
        lines.append(f"alignment-assets {made_by} wrote it, this is {product_version()}.")
    made_again = [table for table in obstacles if table not in RECORDS]
    if len(made_again) > MANY_TABLES:
        lines.append(
            "To rebuild, put it aside and materialize all again (answers come from the spool):\n"
            f"  {described.rebuild(None)}\n"
            f"  {proposed('materialize')}"
        )
    elif made_again:
        selected = " or ".join(f"+key:{table}" for table in made_again)
        lines.append(
            "To rebuild, drop them and materialize them again (answers come from the spool):\n"
            f"  {described.rebuild(made_again)}\n"
            f"  {proposed(f'materialize --select {selected!r}')}"
        )
    for table in obstacles:
        if table in RECORDS:
            lines.append(
                f"No asset makes {table}: to keep its rows, ALTER TABLE {table} RENAME TO another "
                f"name, or drop it."
            )
    return "\n".join(lines)


def _read_info(connection: duckdb.DuckDBPyConnection, database: str) -> dict[str, Any]:
    result = connection.execute(f'SELECT * FROM "{database}".main.database_info LIMIT 1')
    names = [column[0] for column in result.description]
    row = result.fetchone()
    return dict(zip(names, row, strict=True)) if row else {}


def _fits(old: DuckDBPyType, new: DuckDBPyType, *, may_fail: bool) -> bool:
    if old == new or old.id == "null":
        return True
    if (old.id, new.id) == ("varchar", "uuid"):  # a text that is no UUID fails
        return may_fail
    if old.id == new.id == "varchar":  # of the two, JSON is the one that not every text is
        return may_fail or str(new) == "VARCHAR"
    if old.id in _INTEGERS and new.id in _INTEGERS:
        return may_fail or _widens(old.id, new.id)
    if old.id in _INTEGERS and new.id in _MANTISSA:
        return {**_SIGNED, **_UNSIGNED}[old.id] <= _MANTISSA[new.id]
    if old.id == "decimal":
        digits, scale = _parts(old).values()
        if new.id == "decimal":
            wider, finer = _parts(new).values()
            return bool(finer >= scale and wider - finer >= digits - scale)
        return new.id in _DIGITS and bool(digits <= _DIGITS[new.id])
    if old.id == new.id in ("list", "map", "array", "struct"):
        return _parts_fit(old, new, may_fail)
    return (old.id, new.id) in _WIDER


def _parts_fit(old: DuckDBPyType, new: DuckDBPyType, may_fail: bool) -> bool:
    """Compare the parts by name: a struct's part too many would be lost, one too few be NULL."""
    theirs, ours = _parts(old), _parts(new)
    if theirs.keys() != ours.keys():
        return False
    for name, part in theirs.items():
        if isinstance(part, DuckDBPyType):
            if not _fits(part, ours[name], may_fail=may_fail):
                return False
        elif part != ours[name]:  # the size of an array
            return False
    return True


def _parts(kind: DuckDBPyType) -> dict[str, Any]:
    """Return types by name, and the numbers of an array (size) or decimal (precision, scale)."""
    return dict(kind.children)


def _widens(old: str, new: str) -> bool:
    if old in _SIGNED:
        return new in _SIGNED and _SIGNED[new] >= _SIGNED[old]
    if new in _UNSIGNED:
        return _UNSIGNED[new] >= _UNSIGNED[old]
    return _SIGNED[new] > _UNSIGNED[old]
