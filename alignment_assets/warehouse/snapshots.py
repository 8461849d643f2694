"""Copies of the database for readers who want to stay: no lock on the original, nobody waits.

Here belong copies and where they are; reading one is the warehouse's part.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from alignment_assets.host.durable import read_record, sync, write_record
from alignment_assets.host.machine import ensure_room
from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.rewrite import settle_row_groups
from alignment_assets.warehouse.schema import WarehouseError

# Has the name of the snapshot that was made last.
_LAST = "last.json"
# A copy of a DuckDB file; a note that names a snapshot of a DuckLake.
COPY_SUFFIX, NOTE_SUFFIX = ".duckdb", ".lake"

# In the type of a column, be it a list or a struct.
_UUID = re.compile(r"\bUUID\b")


def snapshots_folder(home: Path) -> Path:
    """Return where a recipe's snapshots are unless a user names another place."""
    return home / "snapshots"


def new_name(home: Path) -> Path:
    """Return the path of a snapshot taken now, without an ending."""
    return snapshots_folder(home) / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def note_last(home: Path, snapshot: Path) -> None:
    """Note which snapshot of the recipe's own folder was made last."""
    if snapshot.parent == snapshots_folder(home):
        write_record(snapshots_folder(home) / _LAST, {"snapshot": snapshot.name})


def last_snapshot(home: Path) -> Path | None:
    """Return the snapshot of the recipe's own folder that was made last; None without one.

    Names go by the clock, which may have run ahead; they count where that one is gone.
    """
    folder = snapshots_folder(home)
    made = folder / read_record(folder / _LAST).get("snapshot", "none")
    return made if made.is_file() else max(all_snapshots(home), default=None)


def all_snapshots(home: Path) -> list[Path]:
    """Return the snapshots of the recipe's own folder."""
    folder = snapshots_folder(home)
    return [*folder.glob(f"*{COPY_SUFFIX}"), *folder.glob(f"*{NOTE_SUFFIX}")]


def database_of(snapshot: Path) -> Path:
    """Return a snapshot that is a DuckDB file.

    Raises:
        WarehouseError: it is the note of another kind of database.
    """
    if snapshot.suffix == NOTE_SUFFIX:
        raise WarehouseError(
            f"{snapshot} is of a DuckLake, and the recipe's database is a file; name another"
        )
    return snapshot


def snapshot_to_read(home: Path) -> Path:
    """Return the last snapshot; raise a WarehouseError if there is none."""
    last = last_snapshot(home)
    if last is None:
        raise WarehouseError(
            f"no snapshot in {snapshots_folder(home)} yet; run `{proposed('snapshot')}`"
        )
    return last


@contextmanager
def written_aside(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` that becomes it when the block ends well, synced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        for path in (*sorted(part.glob("*")), part, part.parent):
            sync(path)
        part.replace(target)
        sync(target.parent)
    finally:
        for left in target.parent.glob(f"{part.name}*"):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def copy_database(database: Path, target: Path) -> None:
    """Copy a database that nobody writes meanwhile, with the log that may stand beside it.

    Where the file system can, the copy shares the original's blocks and takes no time.
    """
    # Another process copies: a file that is closed here would free DuckDB's own lock on it.
    for file in sorted(database.parent.glob(f"{database.name}.wal*")):
        _copy(file, Path(f"{target}{file.name.removeprefix(database.name)}"))
    try:
        subprocess.run(
            ["cp", "--reflink=always", "--", database, target], check=True, capture_output=True
        )
    except subprocess.CalledProcessError:
        ensure_room(target.parent, database.stat().st_size, "the snapshot")
        _copy(database, target)


def settle(database: Path) -> None:
    """Put what a copy's log has into the copy, and open it once to see that it can be."""
    with duckdb.connect(str(database)) as connection:
        settle_row_groups(connection, database)
        connection.execute("CHECKPOINT")


def write_parquet(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[str], folder: Path
) -> None:
    """Write tables as ``<folder>/<table>.parquet``, all as they are at one moment.

    Ids are written as text: `datasets` does not read Parquet's UUID.
    """
    folder.mkdir(parents=True)
    for table in tables:
        file = sql_files.text_literal(folder / f"{table}.parquet")
        columns = connection.execute(f'DESCRIBE "{table}"').fetchall()
        as_text = ", ".join(
            f'"{name}"::{_UUID.sub("VARCHAR", kind)} AS "{name}"' for name, kind, *_ in columns
        )
        connection.execute(
            f'COPY (SELECT {as_text} FROM "{table}") TO {file} (FORMAT parquet, COMPRESSION zstd)'
        )


def check_target(target: Path, database: Path | None, *, folder: bool) -> None:
    """Refuse a target that is not ours to write.

    Raises:
        WarehouseError: it is the database itself, or there is already what is no snapshot.
    """
    if database and target.resolve() == database.resolve():
        raise WarehouseError(f"{target} is the database itself; name another file")
    if target.is_dir() or (folder and target.exists()):
        raise WarehouseError(
            f"{target} is there already; name a new {'folder' if folder else 'file'}"
        )
    if target.exists() and not _is_snapshot(target):
        raise WarehouseError(f"{target} is there already and is no snapshot; name another file")


def _is_snapshot(path: Path) -> bool:
    """Return whether a file is a copy of a database of ours, and no database that is in use."""
    if not path.is_file() or path.with_name(f"{path.name}.queue").exists():
        return False
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            connection.execute("FROM database_info LIMIT 1")
    except duckdb.Error:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    done = subprocess.run(
        ["cp", "--reflink=auto", "--", source, target], capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(f"the snapshot was not written: {done.stderr.strip()}")
