"""Rows of sources, models and policies that the recipe no longer has.

Nothing makes them again, and no later change of the recipe reaches them. So answers to questions
and exports leave them out; here they are hidden, counted and removed. In SQL the full name of a
table, ``alignment.completions``, still has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

import duckdb

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS, TablePart
from alignment_assets.warehouse.rewrite import Rows, stored_bytes
from alignment_assets.warehouse.schema import RECORDS_OF_ROWS

# Whom the recipe has, by the column that names them in tables; see `Recipe.members`.
Members = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class RemovedPart:
    """Rows of one who left the recipe.

    Attributes:
        part: the table and partition.
        rows: how many.
        bytes: about how many they take in the database.
    """

    part: TablePart
    rows: int
    bytes: int


@contextmanager
def rows_hidden(
    connection: duckdb.DuckDBPyConnection, members: Members, database: str, *, but: str
) -> Iterator[None]:
    """Hide rows as `hide_removed` does while the body runs.

    Args:
        connection: has the database attached.
        members: whose rows are seen.
        database: its name there.
        but: a table whose name means what it meant.
    """
    hidden = hide_removed(connection, members, database, but=but)
    try:
        yield
    finally:
        # Where a question failed in a transaction, that takes the views along.
        with suppress(duckdb.TransactionException):
            for table in hidden:
                connection.execute(f"DROP VIEW temp.{table}")


def hide_removed(
    connection: duckdb.DuckDBPyConnection,
    members: Members,
    database: str | None = None,
    *,
    but: str | None = None,
) -> list[str]:
    """Let the plain names of tables mean the rows of those whom the recipe has.

    Args:
        connection: to the database itself, read-only or not, or has it attached.
        members: whom it has.
        database: the name that it is attached by.
        but: a table whose name means what it meant.

    Returns:
        The tables whose names mean another thing now.
    """
    database, hidden = database or _database(connection), []
    # Not as a parameter: with one, DuckDB loads pandas. `duckdb_tables` would count a lake's rows.
    there = connection.execute(
        "SELECT DISTINCT table_name FROM duckdb_columns() "
        f"WHERE database_name = {sql_files.text_literal(database)}"
    ).fetchall()
    for table, column in PARTITION_COLUMNS.items():
        # An old snapshot may lack it.
        if column in members and (table,) in there and table != but:
            names = ", ".join(map(sql_files.text_literal, members[column]))
            connection.execute(
                f'CREATE OR REPLACE TEMP VIEW {table} AS SELECT * FROM "{database}".main.{table} '
                f"WHERE {f'{column} IN ({names})' if names else 'false'}"
            )
            hidden.append(table)
    return hidden


def find_removed(connection: duckdb.DuckDBPyConnection, members: Members) -> list[RemovedPart]:
    """Return the rows of those who left the recipe, by table and partition.

    Args:
        connection: to the database itself.
        members: whom the recipe has.
    """
    database, found = _database(connection), []
    for table, column in PARTITION_COLUMNS.items():
        if column not in members:
            continue
        rows = connection.execute(
            f'SELECT {column}, count(*) FROM "{database}".main.{table} '
            f"WHERE NOT list_contains($members, {column}) GROUP BY ALL ORDER BY ALL",
            {"members": list(members[column])},
        ).fetchall()
        for name, count in rows:
            part = TablePart(table, name)
            found.append(
                RemovedPart(part, count, stored_bytes(connection, _rows([part]), database))
            )
    return found


def remove_rows(
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[TablePart],
    without: Callable[[duckdb.DuckDBPyConnection, Rows], AbstractContextManager[str]],
) -> int:
    """Remove partitions of tables, and what is on record of their making; return how many rows.

    Args:
        connection: has the database attached as ``warehouse``, to write.
        parts: the partitions.
        without: takes rows away, with what else is done in the database that it yields.
    """
    dropped, count = _rows(parts), 0
    for table, (condition, values) in dropped.items():
        (rows,) = connection.execute(
            f"SELECT count(*) FROM warehouse.main.{table} WHERE {condition}", values
        ).fetchone() or (0,)
        count += rows
    with without(connection, dropped) as database:
        _forget(connection, database, parts)
    return count


def _rows(parts: Sequence[TablePart]) -> Rows:
    by_table: dict[str, list[str]] = {}
    for part in parts:
        by_table.setdefault(part.table, []).append(part.partition or "")
    return {
        table: (
            " OR ".join(f"{PARTITION_COLUMNS[table]} = $name_{at}" for at in range(len(names))),
            {f"name_{at}": name for at, name in enumerate(names)},
        )
        for table, names in by_table.items()
    }


def _forget(
    connection: duckdb.DuckDBPyConnection, database: str, parts: Sequence[TablePart]
) -> None:
    for records, column in RECORDS_OF_ROWS.items():
        connection.executemany(
            f"DELETE FROM {database}.main.{records} WHERE {column} = ? AND partition = ?",
            [(part.table, part.partition) for part in parts],
        )


def _database(connection: duckdb.DuckDBPyConnection) -> str:
    (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    return str(name)
