"""Rewriting a database's file with one table's new rows in it.

DuckDB puts new rows beside the old ones, whose room is free afterwards but stays the file's: to
replace most of a file in place doubles it. Here belongs that other way; which of the two is taken
is `staging`'s part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import duckdb

from alignment_assets.host.durable import sync
from alignment_assets.warehouse import sql_files

# Every DuckDB since this version reads the file. Long texts take half the room in it, at the same
# speed, when they are compressed as Zstandard does; ids, which are shorter, are searched faster as
# they are by default.
STORAGE = "v1.2.0"
ZSTD_FROM_CHARACTERS = 200

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


def rewrite_file(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    condition: str,
    values: Mapping[str, str],
    finish: Callable[[str], None],
) -> None:
    """Write a new file with ``staging``'s rows for a table's old ones, and put it in place.

    Until then the old file is whole. The database is attached to write, so nobody else has it.

    Args:
        connection: has ``staging`` and ``warehouse`` attached.
        path: the database's file.
        table: whose rows are replaced.
        condition: which of its rows are.
        values: the parameters of the condition.
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
                ours = (schema, name) == ("main", table)
                kept = f"WHERE NOT ({condition})" if ours else ""
                connection.execute(
                    f"INSERT INTO fresh.{place} SELECT * FROM warehouse.{place} {kept}",
                    dict(values) if ours else {},
                )
            connection.execute(
                f"INSERT INTO fresh.main.{table} BY NAME SELECT * FROM staging.{table}"
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
