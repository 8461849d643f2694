"""Looking after a DuckLake: its snapshots, and the files that nothing needs any more.

DuckLake keeps every state until somebody says which it may forget. What is done here is DuckLake's
own; here belongs in which order, and what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from alignment_assets.host.durable import read_record
from alignment_assets.warehouse import snapshots
from alignment_assets.warehouse.lake import Lake
from alignment_assets.warehouse.lake_catalog import PostgresCatalog, keep_records_in_catalog
from alignment_assets.warehouse.lake_staging import refusal
from alignment_assets.warehouse.query import Rows
from alignment_assets.warehouse.schema import RECORDS, WarehouseError

# A file that no commit names may be a writer's that is about to name it.
YOUNG = timedelta(days=1)

_SNAPSHOTS = """
SELECT snapshot_id, snapshot_time, author, commit_message FROM ducklake_snapshots('warehouse')
ORDER BY snapshot_id DESC
"""
_ORPHANS = """
CALL ducklake_delete_orphaned_files('warehouse', older_than => {before}, dry_run => {dry_run})
"""
_OLD_FILES = """
CALL ducklake_cleanup_old_files('warehouse', cleanup_all => true, dry_run => {dry_run})
"""
_EXPIRED = """
CALL ducklake_expire_snapshots('warehouse', versions => {versions}, dry_run => {dry_run})
"""


@dataclass(frozen=True)
class Step:
    """What maintenance does, or would do.

    Attributes:
        what: it does.
        count: how many there are of it.
    """

    what: str
    count: int


def list_snapshots(lake: Lake) -> Rows:
    """Return the states that a lake keeps, newest first.

    Columns: ``snapshot`` (its number), ``committed_at`` (UTC), ``author`` (the Dagster run or
    process), ``what`` (the asset and partition), ``kept_as`` (the name that `Lake.snapshot` gave).
    """
    kept = _kept(lake)
    with lake.read() as connection:
        found = connection.execute(_SNAPSHOTS).fetchall()
    return Rows(
        ["snapshot", "committed_at", "author", "what", "kept_as"],
        ["BIGINT", "TIMESTAMP", "VARCHAR", "VARCHAR", "VARCHAR"],
        [
            (number, made.astimezone(UTC).replace(tzinfo=None), author, what, kept.get(number))
            for number, made, author, what in found
        ],
    )


def maintain(lake: Lake, keep: timedelta, *, apply: bool) -> list[Step]:
    """Forget old states, and remove the files that only those or nobody needed.

    The state at the beginning of that time is kept, too, and those that were noted. Rows of records
    that a catalog in PostgreSQL holds are put into files first, small files of records into
    larger ones. Writers wait meanwhile.

    Args:
        lake: it.
        keep: how long a state is kept. Files that no commit names go after as long, or a day.
        apply: do it; else only count.

    Raises:
        WarehouseError, LockTimeout: it cannot be opened to write.
    """
    lake.prepare()
    try:
        return _maintained(lake, keep, apply=apply)
    except duckdb.Error as error:
        raise WarehouseError(
            f"{lake.shown} is not maintained: {refusal(error)}; see that its catalog and files can "
            f"be reached and written, then run this again"
        ) from error


def _maintained(lake: Lake, keep: timedelta, *, apply: bool) -> list[Step]:
    with lake.get_connection() as connection:
        if apply:
            keep_records_in_catalog(connection)
            # In SQLite's, a reader at that moment may see a table of records without rows.
            for table in sorted(RECORDS) if isinstance(lake.catalog, PostgresCatalog) else ():
                _compact(connection, table)
        now = datetime.now(UTC)
        expired = _expired(connection, lake, now - keep)
        orphaned = _literal(now - min(keep, YOUNG))
        dry_run = not apply
        return [
            Step("snapshots forgotten", _expire(connection, expired, dry_run)),
            Step("files removed that only those needed", _count(connection, _OLD_FILES, dry_run)),
            Step(
                "files removed that nobody named",
                _count(connection, _ORPHANS.replace("{before}", orphaned), dry_run),
            ),
        ]


def _compact(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    for function in ("flush_inlined_data", "merge_adjacent_files", "rewrite_data_files"):
        named = "table_name => $table" if function == "flush_inlined_data" else "$table"
        connection.execute(f"CALL ducklake_{function}('warehouse', {named})", {"table": table})


def _expired(connection: duckdb.DuckDBPyConnection, lake: Lake, before: datetime) -> list[int]:
    found, kept = connection.execute(_SNAPSHOTS).fetchall(), _kept(lake)
    # The newest of them was the lake as it was at that moment, and may have been for days since.
    older = [number for number, made, *_ in found if made < before][1:]
    return [number for number in older if number not in kept]


def _expire(connection: duckdb.DuckDBPyConnection, versions: list[int], dry_run: bool) -> int:
    if versions:
        _count(connection, _EXPIRED.replace("{versions}", str(versions)), dry_run)
    return len(versions)


def _count(connection: duckdb.DuckDBPyConnection, query: str, dry_run: bool) -> int:
    # As a CALL: counted by a SELECT, DuckLake 1.5.5 lists what goes, and removes nothing.
    return len(connection.execute(query.format(dry_run=str(dry_run).lower())).fetchall())


def _kept(lake: Lake) -> dict[int, str]:
    """Return the snapshots that were noted in this home, with their names."""
    notes = snapshots.snapshots_folder(lake.home).glob(f"*{snapshots.NOTE_SUFFIX}")
    read = ((read_record(note).get("lake_snapshot"), note.stem) for note in sorted(notes))
    return {int(version): name for version, name in read if version}


def _literal(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.isoformat()}'"
