"""How much of a database's file rows take, and writing the file anew without some of them.

DuckDB puts new rows beside the old ones, whose room is free afterwards but stays the file's: to
replace most of a file in place doubles it, and to remove most of it leaves it as it was. Here
belongs that other way, and when it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
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

# What takes more than this share of a file that is not small is replaced by rewriting the file;
# so the file stays below one and a half times what is in it.
REWRITE_SHARE = 1 / 3
REWRITE_FROM_BYTES = 64 * MEBI

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


def temporary_sibling(path: Path) -> Path:
    """Return where the successor of ``path`` is made; what a dead writer left there is removed."""
    sibling = path.with_name(f"{path.name}.new")
    for left in path.parent.glob(f"{sibling.name}*"):
        left.unlink(missing_ok=True)
    return sibling


def stored_bytes(
    connection: duckdb.DuckDBPyConnection, rows: Rows, database: str = "warehouse"
) -> int:
    """Return about how many bytes rows take in a database that is attached."""
    total = 0
    for table, (condition, values) in rows.items():
        (stored,) = connection.execute(
            _STORED.format(database=database, table=table)
        ).fetchone() or (0,)
        ours, all_rows = connection.execute(
            f"SELECT count(*) FILTER ({condition}), count(*) FROM {database}.main.{table}",
            dict(values),
        ).fetchone() or (0, 0)
        total += int(stored * ours / all_rows) if all_rows else 0
    return total


def used_bytes(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many bytes of the file of ``warehouse`` are in use."""
    (used,) = connection.execute(_USED).fetchone() or (0,)
    return int(used)


def is_most_of_the_file(connection: duckdb.DuckDBPyConnection, rows: Rows) -> bool:
    """Say whether taking rows away in place would leave the file half empty, or nearly."""
    old = stored_bytes(connection, rows)
    return old > REWRITE_FROM_BYTES and old > REWRITE_SHARE * used_bytes(connection)


def rewrite_file(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    dropped: Rows,
    finish: Callable[[str], None],
) -> None:
    """Write a new file without some rows, and put it in place.

    Until then the old file is whole. The database is attached to write, so nobody else has it.

    Args:
        connection: has ``warehouse`` attached.
        path: the database's file.
        dropped: the rows that are left out.
        finish: told the name that the new file is attached by, does what else there is to do in it.
    """
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
                condition, values = dropped.get(name, ("false", {})) if ours else ("false", {})
                connection.execute(
                    f"INSERT INTO fresh.{place} SELECT * FROM warehouse.{place} "
                    f"WHERE NOT ({condition})",
                    dict(values),
                )
            finish("fresh")
        except BaseException:
            with suppress(duckdb.Error):
                connection.execute("DETACH fresh")
            raise
        connection.execute("DETACH fresh")
        sibling.replace(path)
        sync(path.parent)
    finally:
        temporary_sibling(path)
