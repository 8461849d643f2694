"""Looking after the spool: what is in it, what of it is damaged, what nobody asks any more.

Here belongs what a person has done to answers on disk. How engines write them and runs read them
is `inference.spool`; which requests there are is `request_sets`.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.spool import (
    ANSWERED_ID,
    EMPTY_FILE,
    UNREADABLE,
    as_patterns,
    raise_unreadable,
    spool_folder,
    what_is_wrong,
    whole_files,
)
from alignment_assets.inference.spool_files import QUARANTINED, quarantine, write_file
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import asked_partitions, waits_for
from alignment_assets.requests.runner import RequestSet
from alignment_assets.warehouse.resource import Warehouse

# A file in the making is younger; an older one has lost its writer.
LEFT_OVER_SECONDS = 3600.0

_CONTENT = """
SELECT
    count(*) AS answers,
    count(*) FILTER (finish_reason IN ('context_length', 'rejected')) AS refused,
    count(*) FILTER (finish_reason = 'failed') AS failed,
    date_trunc('second', min(answered_at)) AS oldest,
    date_trunc('second', max(answered_at)) AS newest,
    array_to_string(list_sort(list(DISTINCT engine || ' ' || engine_version)), ', ') AS engines
FROM read_parquet($files)
"""

_REPEATED = f"""
SELECT count(*) AS requests, coalesce(sum(answers - 1), 0)::BIGINT AS spare
FROM (
    SELECT count(*) AS answers FROM read_parquet($files) GROUP BY {ANSWERED_ID} HAVING count(*) > 1
)
"""

# Of each file, how many answers it has and the rows that answer no current request.
_UNREFERENCED = f"""
SELECT
    filename,
    count(*) AS answers,
    list(file_row_number ORDER BY file_row_number)
        FILTER (coalesce({ANSWERED_ID} NOT IN (FROM current_requests), true)) AS dropped
FROM read_parquet($files, filename = true, file_row_number = true)
GROUP BY filename
ORDER BY filename
"""


@dataclass(frozen=True)
class Folder:
    """The answers of an asset, or of one partition of it.

    Attributes:
        asked: whether the recipe still has the asset and partition.
    """

    path: Path
    asset: str
    partition: str | None
    asked: bool

    @property
    def label(self) -> str:
        """The asset, with its partition in brackets."""
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset

    @property
    def files(self) -> list[Path]:
        """The files that hold answers."""
        return [path for path in whole_files(self.path) if path.name != EMPTY_FILE]

    @property
    def quarantined(self) -> int:
        """How many files could not be read and are quarantined."""
        return len(list(self.path.glob(f"*{QUARANTINED}")))

    @property
    def left_over(self) -> list[Path]:
        """What writers left that died while they wrote."""
        before = time.time() - LEFT_OVER_SECONDS
        return [path for path in self.path.glob("*.tmp") if path.stat().st_mtime < before]


@dataclass(frozen=True)
class Removal:
    """What pruning takes from a folder.

    Attributes:
        dropped_rows: for each file that loses answers, its rows that answer no current request.
        freed: bytes, before the files are written: in proportion to the rows.
        left_alone: why nothing is taken, if the folder's requests cannot be told yet.
    """

    folder: Folder
    dropped_rows: dict[Path, list[int]]
    answers: int
    freed: int = 0
    left_alone: str | None = None

    @property
    def dropped(self) -> int:
        """How many answers go."""
        return sum(map(len, self.dropped_rows.values()))


def spool_folders(run: Run) -> list[Folder]:
    """Return the spool's folders: those the recipe asks for in its order, then all others."""
    known = [
        Folder(spool_folder(run.spool, asset, partition), asset, partition, True)
        for asset, partition in asked_partitions(run.recipe)
    ]
    paths = {folder.path for folder in known}
    others = [
        Folder(path, path.parent.name, path.name, False)
        for path in sorted(run.spool.glob("*/*"))
        if path.is_dir() and path not in paths
    ]
    return [folder for folder in known if _has_files(folder.path)] + others


def list_spool(run: Run) -> pa.Table:
    """Return one row for each folder: what answers it has.

    Columns: asset, partition, in_recipe, files, quarantined (files that could not be read), bytes,
    answers, refused, failed, oldest, newest, engines.

    Raises:
        SpoolError: a file cannot be read.
    """
    lines = []
    with _scratch(run) as connection:
        for folder in spool_folders(run):
            files = folder.files
            content = _query(connection, _CONTENT, files) if files else [{"answers": 0}]
            lines.append(
                {
                    "asset": folder.asset,
                    "partition": folder.partition,
                    "in_recipe": folder.asked,
                    "files": len(files),
                    "quarantined": folder.quarantined,
                    "bytes": sum(path.stat().st_size for path in files),
                    **content[0],
                }
            )
    return pa.Table.from_pylist(lines, schema=_LISTED)


_LISTED = pa.schema(
    [
        ("asset", pa.string()),
        ("partition", pa.string()),
        ("in_recipe", pa.bool_()),
        ("files", pa.int64()),
        ("quarantined", pa.int64()),
        ("bytes", pa.int64()),
        ("answers", pa.int64()),
        ("refused", pa.int64()),
        ("failed", pa.int64()),
        ("oldest", pa.timestamp("s")),
        ("newest", pa.timestamp("s")),
        ("engines", pa.string()),
    ]
)


def verify_spool(run: Run) -> tuple[pa.Table, list[str]]:
    """Read every file to its last byte; give those that cannot be read a name that no run reads.

    Returns:
        One row for each folder (asset, partition, files, quarantined, quarantined_before,
        left_over, answered_again: requests with several answers, spare_answers: those of them
        that do not count), and a line for each file that was quarantined now or cut off.
    """
    lines, found = [], []
    with _scratch(run) as connection, ThreadPoolExecutor(os.cpu_count()) as threads:
        for folder in spool_folders(run):
            before = folder.quarantined
            bad: list[str] = []
            files, whole = whole_files(folder.path, bad.append), []
            for path, reason in zip(files, threads.map(what_is_wrong, files), strict=True):
                if reason is None:
                    whole.append(path)
                else:
                    bad.append(f"{path}: {reason}; quarantined as {quarantine(path).name}")
            repeated = _query(connection, _REPEATED, whole) if whole else [{}]
            lines.append(
                {
                    "asset": folder.asset,
                    "partition": folder.partition,
                    "files": sum(path.name != EMPTY_FILE for path in whole),
                    "quarantined": folder.quarantined - before,
                    "quarantined_before": before,
                    "left_over": len(folder.left_over),
                    "answered_again": repeated[0].get("requests", 0),
                    "spare_answers": repeated[0].get("spare", 0),
                }
            )
            found += bad
    return pa.Table.from_pylist(lines), found


def plan_removals(
    connection: duckdb.DuckDBPyConnection,
    run: Run,
    requests: Mapping[tuple[str, str | None], Sequence[RequestSet]],
) -> list[Removal]:
    """Find the answers that no current request refers to.

    A folder that the recipe no longer asks for loses all. One whose requests cannot be told,
    because a table that they read is empty or behind, is left alone.

    Args:
        connection: to the warehouse; its present tables say which requests there are.
        run: the recipe and its home.
        requests: see `all_request_sets`.

    Raises:
        SpoolError: a file cannot be read.
    """
    removals = []
    for folder in spool_folders(run):
        reason = None
        connection.execute("CREATE OR REPLACE TEMP TABLE current_requests (request_id UUID)")
        if folder.asked:
            missing = waits_for(connection, run.recipe, folder.asset, folder.partition)
            reason = f"waits for {missing}" if missing else None
            for asked in () if reason else requests[folder.asset, folder.partition]:
                connection.execute(
                    f"INSERT INTO current_requests SELECT request_id FROM ({asked.sql}\n)",
                    asked.values,
                )
            if not reason and not connection.execute("FROM current_requests LIMIT 1").fetchone():
                reason = "has no requests now"
        removals.append(_removal(connection, folder, reason))
    return removals


def removals_table(removals: Sequence[Removal]) -> pa.Table:
    """Return one row for each folder: answers kept and dropped, bytes freed, why it is left."""
    return pa.Table.from_pylist(
        [
            {
                "asset": removal.folder.asset,
                "partition": removal.folder.partition,
                "in_recipe": removal.folder.asked,
                "kept": removal.answers - removal.dropped,
                "dropped": removal.dropped,
                "bytes_dropped": removal.freed,
                "left_over_files": len(removal.folder.left_over),
                "left_alone": removal.left_alone,
            }
            for removal in removals
        ]
    )


def prune_spool(
    warehouse: Warehouse,
    run: Run,
    requests: Mapping[tuple[str, str | None], Sequence[RequestSet]],
) -> list[Removal]:
    """Drop what `plan_removals` finds, and what dead writers left; return what went.

    The database is held alone meanwhile, so that no run reads or publishes; engines go on writing
    files, which are left alone. Each file is replaced in one step: when this is killed, every
    answer that is asked for is still there, and another call does the rest.

    Raises:
        SpoolError: a file cannot be read; nothing is dropped.
    """
    warehouse.prepare()
    with warehouse.get_connection() as connection:
        removals = plan_removals(connection, run, requests)
        for removal in removals:
            for path, rows in removal.dropped_rows.items():
                _drop(path, rows)
            for path in removal.folder.left_over:
                path.unlink(missing_ok=True)
            if not removal.folder.asked:
                _remove_if_empty(removal.folder.path)
    return removals


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.name != EMPTY_FILE for path in folder.iterdir())


def _removal(connection: duckdb.DuckDBPyConnection, folder: Folder, reason: str | None) -> Removal:
    files = folder.files
    rows = _query(connection, _UNREFERENCED, files) if files else []
    answers = sum(row["answers"] for row in rows)
    if reason:
        return Removal(folder, {}, answers, left_alone=reason)
    dropped = {Path(row["filename"]): row["dropped"] for row in rows if row["dropped"]}
    freed = sum(
        Path(row["filename"]).stat().st_size * len(row["dropped"]) // row["answers"]
        for row in rows
        if row["dropped"]
    )
    return Removal(folder, dropped, answers, freed)


def _drop(path: Path, rows: Sequence[int]) -> None:
    with pq.ParquetFile(path) as file:
        table = file.read()
    dropped = set(rows)
    kept = [row for row in range(table.num_rows) if row not in dropped]
    if kept:
        write_file(table.take(kept), path)
    else:
        path.unlink()


def _remove_if_empty(folder: Path) -> None:
    (folder / EMPTY_FILE).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _query(
    connection: duckdb.DuckDBPyConnection, query: str, files: Sequence[Path]
) -> list[dict[str, Any]]:
    try:
        rows = connection.execute(query, {"files": as_patterns(files)}).to_arrow_table()
    except UNREADABLE as error:
        raise_unreadable(files, error)
        raise
    return cast("list[dict[str, Any]]", rows.to_pylist())


@contextmanager
def _scratch(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database of no file that spills where the warehouse's leftovers are removed."""
    folder = run.staging
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())
    spill = folder / f"{os.getpid()}-spool.spill"
    with duckdb.connect(config={"temp_directory": str(spill)}) as connection:
        yield connection
