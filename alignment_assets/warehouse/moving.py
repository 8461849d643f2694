"""All tables of a database taken into another one, as they are at one moment, and checked.

The other database is empty before, and whole after: a DuckDB file is made beside its place, and a
DuckLake gets its files in one commit, each time after the rows have been read again and compared.
So a move that is killed leaves the old database as it is, and nothing that is half a new one.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from alignment_assets.host.leftovers import remove_left
from alignment_assets.host.machine import ensure_room
from alignment_assets.warehouse import rewrite, sql_files
from alignment_assets.warehouse.access import closing
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.database_file import DatabaseFile
from alignment_assets.warehouse.lake import Lake
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS, TablePart
from alignment_assets.warehouse.schema import RECORDS, WarehouseError

# Rows of each table and partition, and a hash over them that their order does not change.
Contents = Mapping[TablePart, tuple[int, str]]
Report = Callable[[str], None]

# DuckDB's hash takes 0 and -0 for the same, a list that is NULL and one that is empty, and a struct
# that is NULL and one of NULLs. As texts they differ.
_ALIKE = re.compile(r"FLOAT|DOUBLE|STRUCT|MAP|\[")
_CONTENT = """
SELECT part, count(*), sum(hash(one))
FROM (SELECT {partition} AS part, {told} FROM {place}) AS one
GROUP BY part
"""
_THERE = """
SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'warehouse'
UNION ALL
SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = 'warehouse' AND NOT internal
ORDER BY ALL
"""
# A database says what it is in this table; it has a row of it before it has others.
_INFO = "database_info"
_SHOWN = 5
# Each thread has a group of rows in memory, and with texts the 122,880 rows of DuckDB's are many.
_GROUP = "32MB"
_ORPHANS = "CALL ducklake_delete_orphaned_files('warehouse', cleanup_all => true)"


@dataclass
class Moved:
    """A table that was copied.

    Attributes:
        table: its name.
        contents: its rows and their hash, by partition.
        bytes: what they take in the new database.
        seconds: what copying them took; checking them is not in it.
    """

    table: str
    contents: Contents
    bytes: int = 0
    seconds: float = 0.0
    # For a lake: the table's files, those of records in the spill folder, others in their place.
    files: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(rows for rows, _ in self.contents.values())


def holds_rows(database: Database) -> bool:
    """Return whether a database has rows; one that is not there, or was only prepared, has none."""
    if not database.is_there:
        return False
    with _attached(database, "looking for rows") as connection:
        return _has_rows(connection)


def contents_of_all(database: Database) -> Contents:
    """Return the rows of every table and partition, and a hash over each, of one moment."""
    with _attached(database, "hashing its rows") as connection:
        return row_hashes(connection, "warehouse", sql_files.tables().values())


def tables_of_users(database: Database) -> list[str]:
    """Return what a database has that `sql/schema` does not declare: it is not moved."""
    with _attached(database, "looking for tables") as connection:
        found = connection.execute(_THERE).fetchall()
    return [
        name if schema == "main" else f"{schema}.{name}"
        for schema, name in found
        if schema != "main" or name not in sql_files.tables()
    ]


def differences(before: Contents, after: Contents) -> list[str]:
    """Return what differs between the rows of two databases, by table and partition."""
    found = []
    for part in sorted({*before, *after}, key=lambda part: part.label):
        (rows, content), (rows_after, content_after) = (
            contents.get(part, (0, "")) for contents in (before, after)
        )
        if rows != rows_after:
            found.append(f"{part.label}: {rows:,} rows before, {rows_after:,} after")
        elif content != content_after:
            found.append(f"{part.label}: other content in {rows:,} rows")
    return found


def shown_differences(found: Sequence[str]) -> str:
    """Return differences for a message, the first of many."""
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more


def move_tables(source: Database, target: Database, report: Report) -> list[Moved]:
    """Copy all tables, those of records too, and check every row.

    Args:
        source: is read, and held for that as any reader holds it.
        target: has no rows.
        report: told what is done.

    Returns:
        What was copied, by table.

    Raises:
        WarehouseError: the target has rows, or rows in it are other ones than in the source; it is
            empty then.
        OSError: a disk has no room.
        LockTimeout: one of the files stayed with somebody else.
    """
    if isinstance(target, Lake):
        return _into_lake(source, target, report)
    assert isinstance(target, DatabaseFile)
    return _into_file(source, target, report)


def _into_file(source: Database, target: DatabaseFile, report: Report) -> list[Moved]:
    with target.made_whole("moving tables in") as new, _attached(source, "moving") as connection:
        if target.is_there:
            with closing(target.connect(target.database, read_only=True)) as there:
                _refuse_rows(there, target)
        needed = rewrite.stored_bytes(connection, _everything())
        ensure_room(new.parent, needed, f"{target.path}: moving tables in")
        with rewrite.attached(connection, new, "taken", read_only=False, log=report):
            moved = [
                _into_table(connection, table, target, new, report)
                for table in sql_files.tables().values()
            ]
        with rewrite.attached(connection, new, "taken", read_only=True, log=report):
            for one in moved:
                one.bytes = rewrite.stored_bytes(connection, {one.table: ("true", {})}, "taken")
            _check(connection, "taken", moved, target, report)
    return moved


def _into_table(
    connection: duckdb.DuckDBPyConnection,
    table: sql_files.Table,
    target: DatabaseFile,
    new: Path,
    report: Report,
) -> Moved:
    report(f"copying {table.name}")
    moved = Moved(table.name, row_hashes(connection, "warehouse", [table]))
    begin = time.monotonic()
    connection.execute("SET search_path = 'taken.main'")
    connection.execute(target.declaration(table))
    rewrite.compress_messages(connection, table.columns)
    # Part by part, so that the groups of rows are each of one: it may be replaced alone.
    for part in moved.contents:
        rewrite.settle_row_groups(connection, new)
        rows, values = _rows_of(table, part)
        connection.execute(f"INSERT INTO taken.main.{table.name} {rows}", values)
    moved.seconds = time.monotonic() - begin
    return moved


def _into_lake(source: Database, target: Lake, report: Report) -> list[Moved]:
    target.spill_folder.mkdir(parents=True, exist_ok=True)
    remove_left(target.spill_folder.glob("*-*.parquet"))
    scratch = target.spill_folder / f"{os.getpid()}-{uuid.uuid4().hex}"
    with _to_commit(target) as connection:
        _refuse_rows(connection, target)
        connection.execute(_ORPHANS)  # of a move that was killed
    try:
        with _attached(source, "moving") as connection:
            needed = rewrite.stored_bytes(connection, _everything())
            target.files.ensure_room(needed, f"{target.shown}: moving tables in")
            moved = [
                _into_files(connection, table, target, scratch, report)
                for table in sql_files.tables().values()
            ]
        with (
            _to_commit(target) as connection,
            target.committing(connection, f"moving tables in from {source.shown}"),
        ):
            _refuse_rows(connection, target)
            for one in moved:
                _register(connection, one)
            _check(connection, "warehouse", moved, target, report)
    except BaseException:
        with suppress(Exception), _to_commit(target) as connection:
            if not _has_rows(connection):
                connection.execute(_ORPHANS)
        raise
    finally:
        for left in target.spill_folder.glob(f"{scratch.name}*.parquet"):
            left.unlink()
    return moved


def _into_files(
    connection: duckdb.DuckDBPyConnection,
    table: sql_files.Table,
    target: Lake,
    scratch: Path,
    report: Report,
) -> Moved:
    """Write a file for each partition, so that a partition goes with its files."""
    report(f"copying {table.name}")
    moved = Moved(table.name, row_hashes(connection, "warehouse", [table]))
    begin = time.monotonic()
    for number, part in enumerate(moved.contents):
        file = scratch.with_name(f"{scratch.name}-{table.name}-{number}.parquet")
        rows, values = _rows_of(table, part)
        connection.execute(
            f"COPY ({rows}) TO {sql_files.text_literal(file)} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE_BYTES '{_GROUP}')",
            values,
        )
        moved.bytes += file.stat().st_size
        kept = table.name in RECORDS
        moved.files.append(str(file) if kept else target.files.put(file, table.name))
        if not kept:
            file.unlink(missing_ok=True)  # of what is in object storage now
    moved.seconds = time.monotonic() - begin
    return moved


def _register(connection: duckdb.DuckDBPyConnection, moved: Moved) -> None:
    begin, table = time.monotonic(), moved.table
    if table == _INFO:
        connection.execute(f"DELETE FROM warehouse.main.{table}")
    if not moved.files:
        return
    files = {"files": moved.files}
    if table in RECORDS:  # which the catalog holds itself while they are few
        connection.execute(
            f"INSERT INTO warehouse.main.{table} BY NAME FROM read_parquet($files)", files
        )
    else:
        connection.execute(
            "CALL ducklake_add_data_files('warehouse', $table, $files)", {"table": table, **files}
        )
    moved.seconds += time.monotonic() - begin


def _check(
    connection: duckdb.DuckDBPyConnection,
    database: str,
    moved: Sequence[Moved],
    target: Database,
    report: Report,
) -> None:
    """Read all rows again; raise a WarehouseError where they are not those that were copied."""
    found = []
    for one in moved:
        report(f"checking {one.table}")
        after = row_hashes(connection, database, [sql_files.tables()[one.table]])
        found += differences(one.contents, after)
    if found:
        raise WarehouseError(
            f"{target.shown}: nothing is moved, for rows came out other than they went in: "
            f"{shown_differences(found)}; see that the disk is sound, then run this again"
        )


def row_hashes(
    connection: duckdb.DuckDBPyConnection, database: str, tables: Iterable[sql_files.Table]
) -> Contents:
    """Return the rows of some tables of an attached database, and a hash over each part's."""
    found: dict[TablePart, tuple[int, str]] = {}
    for table in tables:
        partition = PARTITION_COLUMNS.get(table.name)
        told = [
            f'"{column.name}"{text}'
            for column in table.columns
            for text in (["", "::VARCHAR"] if _ALIKE.search(column.type) else [""])
        ]
        query = _CONTENT.format(
            partition=f'"{partition}"' if partition else "NULL",
            told=", ".join(f"{value} AS told_{place}" for place, value in enumerate(told)),
            place=f'"{database}".main.{table.name}',
        )
        for name, rows, total in connection.execute(query).fetchall():
            found[TablePart(table.name, name)] = (rows, f"{total:x}")
    return found


def _rows_of(table: sql_files.Table, part: TablePart) -> tuple[str, dict[str, str]]:
    """Return the SELECT of a part's rows in the source, and its parameters."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    where = " AND ".join(f'"{column}" = ${column}' for column in part.values) or "true"
    return f"SELECT {columns} FROM warehouse.main.{table.name} WHERE {where}", part.values


def _everything() -> rewrite.Rows:
    return {table: ("true", {}) for table in sql_files.tables()}


def _has_rows(connection: duckdb.DuckDBPyConnection, database: str = "warehouse") -> bool:
    there = sql_files.describe_tables(connection, database).keys() & sql_files.tables().keys()
    asked = (f'SELECT EXISTS (FROM "{database}".main.{table})' for table in there - {_INFO})
    return any((connection.execute(query).fetchone() or (False,))[0] for query in asked)


def _refuse_rows(connection: duckdb.DuckDBPyConnection, target: Database) -> None:
    """Refuse to write to a database that has rows; it is attached, or the connection's own."""
    (own,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    if _has_rows(connection, "warehouse" if own == "staging" else own):
        raise WarehouseError(
            f"{target.shown} has rows, which a move would mix with others: {target.rebuild(None)}"
        )


@contextmanager
def _attached(database: Database, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach a database as ``warehouse`` to a connection of its own, to read one moment of it."""
    with closing(database.connect(":memory:", spill=_spill())) as connection:
        connection.execute("ATTACH ':memory:' AS staging")
        with database.attach_in_turn(connection, exclusive=False, purpose=purpose):
            yield connection


@contextmanager
def _to_commit(target: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(target.connect(":memory:", spill=_spill())) as connection:
        connection.execute("ATTACH ':memory:' AS staging")
        with target.attach_in_turn(connection, exclusive=True, purpose="moving tables in"):
            yield connection


def _spill() -> str:
    return f"{os.getpid()}-{uuid.uuid4().hex}"
