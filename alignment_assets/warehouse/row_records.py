"""What is on record of a part's rows, in ``lineage`` and ``losses``: written anew, or as it stands.

A making that gives the same rows of the same things puts nothing in place: the file stays as it is,
no reader waits, and what was made of the rows still names the making that stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import duckdb

from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.schema import RECORDS_OF_ROWS

if TYPE_CHECKING:
    import pyarrow as pa

# What is on record of rows, by table; None where there is nothing to say.
Records = Mapping[str, "pa.Table | None"]

# What names the making, and not what was made.
_MAKING = {"lineage": "version, made_at", "losses": "run_id"}

_DIFFERENT = """
WITH before AS (
    SELECT * EXCLUDE ({making}) FROM {database}.main.{table} WHERE {ours}
),
now AS (
    SELECT * EXCLUDE ({making}) FROM {made}
)
SELECT EXISTS (FROM before EXCEPT ALL FROM now) OR EXISTS (FROM now EXCEPT ALL FROM before)
"""


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


def records_stand(
    connection: duckdb.DuckDBPyConnection, database: str, part: TablePart, records: Records
) -> bool:
    """Say whether what is on record of a part says the same, but for who made it and when.

    Takes the arguments of `write_records`. Records that are only added to say more each time.
    """
    for table, rows in records.items():
        if table not in RECORDS_OF_ROWS:
            if rows is not None:
                return False
            continue
        if rows is not None:
            connection.register("made", rows)
        query = _DIFFERENT.format(
            making=_MAKING[table],
            database=database,
            table=table,
            ours=_ours(table),
            made="made" if rows is not None else f"{database}.main.{table} WHERE false",
        )
        (different,) = connection.execute(query, _values(part)).fetchone() or (True,)
        if rows is not None:
            connection.unregister("made")
        if different:
            return False
    return True


def _ours(table: str) -> str:
    return f"{RECORDS_OF_ROWS[table]} = $table AND ($partition IS NULL OR partition = $partition)"


def _values(part: TablePart) -> dict[str, str | None]:
    return {"table": part.table, "partition": part.partition}
