"""What is on record of a part's rows, in ``lineage`` and ``losses``: written anew, or as it stands.

A making that gives the same rows of the same things is the same making: it keeps its version, so
that what was made of its rows stands as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import duckdb

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.schema import RECORDS_OF_ROWS

if TYPE_CHECKING:
    import pyarrow as pa

# What is on record of rows, by table; None where there is nothing to say.
Records = Mapping[str, "pa.Table | None"]

# What names a making, and not what was made.
_MAKING = {"lineage": {"version", "upstream_version", "made_at"}, "losses": {"run_id"}}

_DIFFERENT = """
WITH before AS (
    SELECT {columns} FROM {database}.main.{table} WHERE {ours}
),
now AS (
    SELECT {columns} FROM {made}
)
SELECT EXISTS (FROM before EXCEPT ALL FROM now) OR EXISTS (FROM now EXCEPT ALL FROM before)
"""
_VERSION = "SELECT version FROM {database}.main.lineage WHERE {ours} AND upstream IS NULL"


def content_of(
    connection: duckdb.DuckDBPyConnection,
    table: sql_files.Table,
    place: str,
    values: Mapping[str, Any],
    *,
    texts: bool,
) -> tuple[int, str]:
    """Return how many rows of a table there are in a place, and a version of their content.

    Args:
        connection: sees the place.
        table: the table.
        place: what follows FROM.
        values: the parameters that it names.
        texts: whether texts that stand there by their hash too are read; they may be compressed.
    """
    types = {column.name: column.type for column in table.columns}
    told = [name for name in types if texts or f"{name}_hash" not in types]
    # Of a list that is NULL and of one that is empty DuckDB's hash is the same.
    lengths = [f"len({name}) AS length_of_{name}" for name in told if types[name].endswith("[]")]
    rows, total = connection.execute(
        f"SELECT count(*), coalesce(sum(hash(one)), 0) "
        f"FROM (SELECT {', '.join([*told, *lengths])} FROM {place}) AS one",
        dict(values),
    ).fetchone() or (0, 0)
    return rows, f"{rows}-{total:x}"


def write_records(
    connection: duckdb.DuckDBPyConnection, database: str, part: TablePart, records: Records
) -> None:
    """Put what is on record of a part's new rows in place of what was.

    Args:
        connection: has the database attached, to write.
        database: its name there.
        part: whose rows they are.
        records: what is on record of them.
    """
    for table, rows in records.items():
        if table in RECORDS_OF_ROWS:
            connection.execute(
                f"DELETE FROM {database}.main.{table} WHERE {_ours(table)}", _values(part)
            )
        if rows is not None:
            connection.register("made", rows)
            connection.execute(f"INSERT INTO {database}.main.{table} BY NAME FROM made")
            connection.unregister("made")


def standing_version(
    connection: duckdb.DuckDBPyConnection, database: str, part: TablePart, records: Records
) -> str | None:
    """Return the version of the making that stands, if what is on record of it says the same.

    Takes the arguments of `write_records`. Who made it, and when, may differ.
    """
    for table in _MAKING:
        rows = records[table]
        if rows is not None:
            connection.register("made", rows)
        columns = [column.name for column in sql_files.tables()[table].columns]
        query = _DIFFERENT.format(
            columns=", ".join(name for name in columns if name not in _MAKING[table]),
            database=database,
            table=table,
            ours=_ours(table),
            made="made" if rows is not None else f"{database}.main.{table} WHERE false",
        )
        (different,) = connection.execute(query, _values(part)).fetchone() or (True,)
        if rows is not None:
            connection.unregister("made")
        if different:
            return None
    query = _VERSION.format(database=database, ours=_ours("lineage"))
    (version,) = connection.execute(query, _values(part)).fetchone() or (None,)
    return None if version is None else str(version)


def _ours(table: str) -> str:
    return f"{RECORDS_OF_ROWS[table]} = $table AND ($partition IS NULL OR partition = $partition)"


def _values(part: TablePart) -> dict[str, str | None]:
    return {"table": part.table, "partition": part.partition}
