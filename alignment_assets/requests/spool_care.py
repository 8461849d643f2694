"""Looking after the spool: what is in it, and what of it is damaged.

How engines write answers and runs read them is `inference.spool`; what goes is `removals`.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from alignment_assets.inference.spool import (
    UNREADABLE,
    as_patterns,
    raise_unreadable,
    set_aside,
    spool_folder,
    whole_files,
)
from alignment_assets.inference.spool_files import EMPTY_FILE, QUARANTINED, what_is_wrong
from alignment_assets.inference.spool_queries import ANSWERED_ID
from alignment_assets.inference.stored_spool import GONE, names_of_stored, stored_folder
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import asked_partitions

logger = logging.getLogger(__name__)

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
        """What writers left that died while they wrote; of who left, what else is no answer."""
        before = time.time() - LEFT_OVER_SECONDS
        found = [
            path
            for path in self.path.glob("*.tmp")
            if path.is_file() and path.stat().st_mtime < before
        ]
        if not self.asked:  # nobody mends what is quarantined here, or writes beside an empty file
            found += [path for path in self.path.glob(f"*{QUARANTINED}*") if path.is_file()]
            if not self.files and not list(self.path.glob("*.log")):
                found += self.path.glob(EMPTY_FILE)
        return found

    @property
    def is_link(self) -> bool:
        """Whether it is a link that the recipe does not ask for, to answers of somebody else."""
        return not self.asked and (self.path.is_symlink() or self.path.parent.is_symlink())


def spool_folders(run: Run) -> list[Folder]:
    """Return the spool's folders: those the recipe asks for in its order, then all others.

    Raises:
        StoreError: object storage cannot be asked.
    """
    asked = [Folder(path, *place, True) for path, place in _asked(run).items()]
    return [folder for folder in asked if _has_files(_settled(folder.path))] + other_folders(run)


def other_folders(run: Run) -> list[Folder]:
    """Return the spool's folders that the recipe does not ask for.

    Raises:
        StoreError: object storage cannot be asked.
    """
    paths = {run.spool / name for name in names_of_stored(run.spool)}
    paths.update(path for path in run.spool.glob("*/*") if path.is_dir())
    others = (_settled(path) for path in sorted(paths - _asked(run).keys()))
    return [
        Folder(path, path.parent.name, path.name, False) for path in others if not _is_emptied(path)
    ]


def _asked(run: Run) -> dict[Path, tuple[str, str | None]]:
    places = asked_partitions(run.recipe)
    return {
        spool_folder(run.spool, asset, partition): (asset, partition) for asset, partition in places
    }


def _settled(folder: Path) -> Path:
    """Return a folder, made the same as its objects if it has some."""
    if stored := stored_folder(folder):
        stored.settle(logger.info)
    return folder


def list_spool(run: Run) -> pa.Table:
    """Return one row for each folder: what answers it has.

    Columns: asset, partition, in_recipe, files, quarantined (files that could not be read), bytes,
    answers, refused, failed, oldest, newest, engines.

    Raises:
        SpoolError: a file cannot be read.
    """
    lines = []
    with scratch(run) as connection:
        for folder in spool_folders(run):
            files = folder.files
            content = [{"answers": 0}]
            if files:
                content = query_files(connection, _CONTENT, files).to_pylist()
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
        that do not count), and a line for each file that was quarantined or fetched again now,
        or cut off.

    Raises:
        StoreError: object storage cannot be asked.
    """
    lines, found = [], []
    with scratch(run) as connection, ThreadPoolExecutor(os.cpu_count()) as threads:
        for folder in spool_folders(run):
            before = folder.quarantined
            bad: list[str] = []
            files, whole = whole_files(folder.path, bad.append), []
            for path, reason in zip(files, threads.map(what_is_wrong, files), strict=True):
                if reason is None:
                    whole.append(path)
                elif (moved := set_aside(path)) is None:
                    bad.append(f"{path}: {reason}; fetched again from object storage")
                    whole.append(path)
                else:
                    bad.append(f"{path}: {reason}; quarantined as {moved.name}")
            repeated: list[dict[str, Any]] = [{}]
            if whole:
                repeated = query_files(connection, _REPEATED, whole).to_pylist()
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


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(
        path.name != EMPTY_FILE and path.suffix != GONE for path in folder.iterdir()
    )


def _is_emptied(folder: Path) -> bool:
    """Return whether all that a folder of copies tells is that its answers are gone."""
    return any(folder.glob(f"*{GONE}")) and not _has_files(folder)


def query_files(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    files: Sequence[Path],
    values: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Ask files of answers, which a query names as ``$files``, beside other values.

    Raises:
        SpoolError: a file cannot be read.
    """
    try:
        given = {"files": as_patterns(files), **(values or {})}
        return connection.execute(query, given).to_arrow_table()
    except UNREADABLE as error:
        raise_unreadable(files, error)
        raise


@contextmanager
def scratch(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database of no file that spills where the warehouse's leftovers are removed."""
    folder = run.staging
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir())
    spill = folder / f"{os.getpid()}-spool.spill"
    with duckdb.connect(config={"temp_directory": str(spill)}) as connection:
        yield connection
