"""A DuckDB file: how rows are stored in it, how much they take, and how they are taken away.

DuckDB puts new rows beside the old ones, whose room is free afterwards but stays the file's: to
replace most of a file in place doubles it, and to remove most of it leaves it as it was. So there
is another way, to write the file anew; when it is taken is said here, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from alignment_assets.host.durable import sync
from alignment_assets.host.machine import MEBI
from alignment_assets.warehouse import sql_files

# Every DuckDB since this version reads the file. Long texts take half the room in it, at the same
# speed, when they are compressed as Zstandard does; ids, which are shorter, are searched faster as
# they are by default.
STORAGE = "v1.2.0"
ZSTD_FROM_CHARACTERS = 200

# DuckDB guesses for each part of a column which compression suits it, and of long texts wrongly at
# times. Those of messages, which are nested, cannot be told theirs: see `compress_messages`.
_LONG_TEXTS = re.compile(r"^ +(?:text|reasoning|raw_answer) VARCHAR", re.MULTILINE)
_MESSAGES = 'STRUCT("role" VARCHAR, "content" VARCHAR)[]'

# What takes more than this share of a file that is not small is replaced by rewriting the file;
# so the file stays below one and a half times what is in it.
REWRITE_SHARE = 1 / 3
REWRITE_FROM_BYTES = 64 * MEBI
# DuckDB's own number.
MERGES = 100

# Rows of tables: for each table the condition that they meet, and its parameters.
Rows = Mapping[str, tuple[str, Mapping[str, str]]]

_STORED = """
SELECT (SELECT any_value(block_size) FROM pragma_database_size() WHERE database_name = '{database}')
    * count(DISTINCT block)
FROM (
    SELECT unnest(additional_block_ids || [block_id]) AS block
    FROM pragma_storage_info('{database}.main.{table}')
    WHERE persistent
)
"""
# Of a DuckLake: the bytes of a table's files.
_STORED_IN_LAKE = """
SELECT file_size_bytes FROM ducklake_table_info('{database}') WHERE table_name = '{table}'
"""
_LAKE = "SELECT coalesce(sum(file_size_bytes), 0) FROM ducklake_table_info('{database}')"
_FILE = """
SELECT coalesce(any_value(total_blocks * block_size), 0)
FROM pragma_database_size()
WHERE database_name = '{database}'
"""
_KIND = "SELECT type FROM duckdb_databases() WHERE database_name = '{database}'"
_USED = """
SELECT coalesce(any_value(used_blocks * block_size), 0)
FROM pragma_database_size()
WHERE database_name = 'warehouse'
"""

_TABLES = """
SELECT schema_name, table_name FROM duckdb_tables()
WHERE database_name = 'warehouse'
ORDER BY ALL
"""


def compressed(ddl: str) -> str:
    """Return a table's declaration that has its columns of long texts compressed as Zstandard does.

    `force_compression` would take what is short and repeats out of its dictionaries, too.
    """
    return _LONG_TEXTS.sub(r"\g<0> USING COMPRESSION zstd", ddl)


def compress_messages(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[sql_files.Column]
) -> None:
    """Have a table's messages compressed as Zstandard does, in what the connection writes next.

    The choice is between that and FSST, which makes them nearly twice as large. Hashes, which FSST
    makes a little smaller, are few in such a table.
    """
    methods = "fsst" if any(column.type == _MESSAGES for column in columns) else ""
    connection.execute(f"SET disabled_compression_methods = '{methods}'")


def settle_row_groups(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Say whether DuckDB may put the rows of groups together when it next writes to a file.

    In a small file it may: each write leaves groups of a few rows. In a large one it would compress
    long texts again to save a group in four, which takes as long as loading them, and leave the
    room of the first time in the file.
    """
    tasks = MERGES if path.stat().st_size <= REWRITE_FROM_BYTES else 0
    connection.execute(f"SET max_vacuum_tasks = {tasks}")


def temporary_sibling(path: Path) -> Path:
    """Return where the successor of ``path`` is made; what a dead writer left there is removed."""
    sibling = _sibling(path)
    for left in path.parent.glob(f"{sibling.name}*"):
        left.unlink(missing_ok=True)
    return sibling


def _sibling(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def stored_bytes(
    connection: duckdb.DuckDBPyConnection, rows: Rows, database: str = "warehouse"
) -> int:
    """Return about how many bytes rows take in a database that is attached."""
    total = 0
    (kind,) = connection.execute(_KIND.format(database=database)).fetchone() or ("",)
    query = _STORED_IN_LAKE if kind == "ducklake" else _STORED
    for table, (condition, values) in rows.items():
        (stored,) = connection.execute(query.format(database=database, table=table)).fetchone() or (
            0,
        )
        ours, all_rows = connection.execute(
            f'SELECT count(*) FILTER ({condition}), count(*) FROM "{database}".main.{table}',
            dict(values),
        ).fetchone() or (0, 0)
        total += int(stored * ours / all_rows) if all_rows else 0
    return total


def database_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Return about how many bytes the connection's own database takes."""
    (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
    (kind,) = connection.execute(_KIND.format(database=database)).fetchone() or ("",)
    query = _LAKE if kind == "ducklake" else _FILE
    (taken,) = connection.execute(query.format(database=database)).fetchone() or (0,)
    return int(taken)


def used_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many bytes of the file of ``warehouse`` are in use."""
    (used,) = connection.execute(_USED).fetchone() or (0,)
    return int(used)


def is_most_of_the_file(connection: duckdb.DuckDBPyConnection, rows: Rows) -> bool:
    """Say whether taking rows away in place would leave the file half empty, or nearly."""
    used = used_bytes(connection)
    if used <= REWRITE_FROM_BYTES:  # nothing in it is more
        return False
    old = stored_bytes(connection, rows)
    return old > REWRITE_FROM_BYTES and old > REWRITE_SHARE * used


@contextmanager
def without_rows(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    dropped: Rows,
    *,
    rewrite: bool,
    prepare: Callable[[str], object] = str,
) -> Iterator[str]:
    """Take rows away, together with what else the body does, or not at all if it raises.

    The database is attached to write, so nobody else has it.

    Args:
        connection: has ``warehouse`` attached, and ``staging``.
        path: the database's file.
        dropped: the rows.
        rewrite: whether they are left out of a new file, which takes the old one's place, and not
            deleted in it; see `is_most_of_the_file`.
        prepare: told the name that the body's transaction writes to before that begins.

    Yields:
        That name.
    """
    temporary_sibling(path)  # so that a killed writer's part of a file does not stay
    if rewrite:
        with _fresh_file(connection, path, dropped) as database:
            prepare(database)
            with _transaction(connection, _sibling(path)):
                yield database
        return
    prepare("warehouse")
    with _transaction(connection, path):
        for table, (condition, values) in dropped.items():
            connection.execute(
                f"DELETE FROM warehouse.main.{table} WHERE {condition}", dict(values)
            )
        yield "warehouse"


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[None]:
    connection.begin()
    try:
        yield
        settle_row_groups(connection, path)
        connection.commit()
    except BaseException:
        connection.interrupt()  # see `detach`
        with suppress(duckdb.Error):
            connection.rollback()
        raise


@contextmanager
def _fresh_file(connection: duckdb.DuckDBPyConnection, path: Path, dropped: Rows) -> Iterator[str]:
    """Attach a copy without some rows; it takes the file's place when the body has ended."""
    sibling = temporary_sibling(path)
    try:
        connection.execute(
            f"ATTACH {sql_files.text_literal(sibling)} AS fresh (STORAGE_VERSION '{STORAGE}')"
        )
        try:
            connection.execute("COPY FROM DATABASE warehouse TO fresh (SCHEMA)")
            for schema, name in connection.execute(_TABLES).fetchall():
                place = f'"{schema}"."{name}"'
                ours = schema == "main"
                table = sql_files.tables().get(name) if ours else None
                compress_messages(connection, table.columns if table else ())
                condition, values = dropped.get(name, ("false", {})) if ours else ("false", {})
                connection.execute(
                    f"INSERT INTO fresh.{place} SELECT * FROM warehouse.{place} "
                    f"WHERE NOT ({condition})",
                    dict(values),
                )
            yield "fresh"
        except BaseException:
            with suppress(duckdb.Error):
                detach(connection, "fresh")
            raise
        detach(connection, "fresh")
        sibling.replace(path)
        sync(path.parent)
    finally:
        temporary_sibling(path)


@contextmanager
def attached(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    name: str,
    *,
    read_only: bool,
    log: Callable[[str], None],
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach a database under a name, and detach it at the end."""
    connection.execute(
        f"ATTACH {sql_files.text_literal(path)} AS {name}{' (READ_ONLY)' if read_only else ''}"
    )
    try:
        yield connection
    except BaseException:
        with suppress(duckdb.Error):
            detach(connection, name)
        raise
    try:
        detach(connection, name)
    except duckdb.IOException as error:
        # What was committed is in the log beside the file, and is read from there.
        log(f"{path}: written, but its log stays beside it; make room: {error}")


def detach(connection: duckdb.DuckDBPyConnection, database: str) -> None:
    """Detach a database that names were searched in."""
    # A query that a signal broke off goes on inside DuckDB, and the next statement waits for it.
    connection.interrupt()
    connection.execute("SET search_path = 'staging.main'")
    connection.execute(f"DETACH {database}")
