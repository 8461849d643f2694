"""Files of a spool folder: written whole or not at all, put aside, and put together.

Which of them are read, and which answers count, is `spool`'s part.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.host.durable import written_whole
from alignment_assets.inference.types import ANSWER_SCHEMA, LATER_COLUMNS

# Stands before all others and gives them their columns, those of `ANSWER_SCHEMA`.
EMPTY_FILE = "0-empty.parquet"
# A Parquet file begins and ends with these bytes, and has a length of four before the last.
PARQUET_MAGIC = b"PAR1"
PARQUET_ENDS = 12
# What is put behind the name of a file that cannot be read: it is quarantined.
QUARANTINED = ".torn"
ROW_GROUP = 16_384
# Files are put together where that leaves so many fewer to open.
SPARED_FILES = 64
# A file below is small.
SMALL_BYTES = 1 << 20
# Small files are put together up to so many bytes, all of which are in memory then.
MERGED_BYTES = 32 << 20
# Stands in a name before the part that no other merged file has; sorts before "-" and ".".
MERGED = "+"


def missing_columns(names: Iterable[str]) -> list[str]:
    """Return the columns that answers lack of those that every version has written."""
    there = {*names, *LATER_COLUMNS}
    return [name for name in ANSWER_SCHEMA.names if name not in there]


def write_file(table: pa.Table, path: Path) -> None:
    """Write answers to a file that is there whole or not at all, also when the machine stops."""
    with written_whole(path) as file:
        pq.write_table(
            table, file, compression="zstd", write_page_checksum=True, row_group_size=ROW_GROUP
        )


def is_whole(path: Path) -> bool:
    """Return whether a file has its end, as one does that was not cut off."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < PARQUET_ENDS:
            return False
        file.seek(-len(PARQUET_MAGIC), os.SEEK_END)
        return file.read() == PARQUET_MAGIC


def what_is_wrong(path: Path) -> str | None:
    """Read a spool file to its last byte; return why that cannot be done, or None if it can.

    Raises:
        OSError: the disk does not give it; that says nothing about its content.
    """
    content = pa.BufferReader(path.read_bytes())
    try:
        with pq.ParquetFile(content, page_checksum_verification=True) as file:
            names = file.read(use_threads=False).schema.names
    except Exception as error:  # damaged bytes fail in many ways
        return (str(error).splitlines() or [type(error).__name__])[0]
    missing = missing_columns(names)
    return f"it lacks the columns {', '.join(missing)}" if missing else None


def quarantine(path: Path) -> Path:
    """Give a file that cannot be read a name that is no answer's; return it. Nothing is lost."""
    moved, number = path.with_name(path.name + QUARANTINED), 1
    while moved.exists():
        number += 1
        moved = path.with_name(f"{path.name}.{number}{QUARANTINED}")
    return path.rename(moved)


def remove_files(files: Sequence[Path], instead: Path) -> bool:
    """Remove files that another has the place of; return that it may have."""
    for path in files:
        path.unlink(missing_ok=True)
    return True


def merge_files(
    files: Sequence[Path], replace: Callable[[Sequence[Path], Path], bool] = remove_files
) -> int:
    """Put small files together where there are many; return how many fewer there are then.

    A merged file stands in the order of names where those stood that it takes the place of, and
    has their rows in their order, so the first answer to a request stays the first. It is written
    before they are removed: when this is killed, answers are there twice, which does no harm. Files
    that cannot be read are left as they are.

    Args:
        files: those of a folder, in their order.
        replace: given files and what has their rows, has it take their place, if it may.
    """
    before = dict(zip(files[1:], files, strict=False))
    return sum(
        len(run) - 1
        for run in mergeable(files)
        if (merged := _merge(run, before.get(run[0]))) and replace(run, merged)
    )


def mergeable(files: Sequence[Path]) -> list[list[Path]]:
    """Return stretches of small files to put together, if that spares enough of them."""
    runs = [run for run in _small_runs(files) if len(run) > 1]
    return runs if sum(len(run) - 1 for run in runs) >= SPARED_FILES else []


def _small_runs(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield stretches of small files with no large one between, each of `MERGED_BYTES` at most."""
    sizes = {path: path.stat().st_size for path in files}
    for small, stretch in groupby(files, lambda path: sizes[path] < SMALL_BYTES):
        run: list[Path] = []
        room = MERGED_BYTES
        for path in stretch if small else ():
            if sizes[path] > room:
                yield run
                run, room = [], MERGED_BYTES
            run.append(path)
            room -= sizes[path]
        yield run


def new_name(first: Path) -> Path:
    """Return a name that no file has, for one that stands where a file stands."""
    return first.with_name(
        f"{first.stem.split(MERGED)[0]}{MERGED}{uuid.uuid4().hex[:8]}{first.suffix}"
    )


def _merge(run: Sequence[Path], before: Path | None) -> Path | None:
    merged = new_name(run[0])
    if merged > run[-1] or (before is not None and merged < before):
        return None  # names that no writer gives: it would stand elsewhere
    try:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            table = pa.concat_tables(threads.map(_read, run), promote_options="default")
    except Exception:  # damaged bytes fail in many ways; who reads the file says how
        return None
    write_file(table, merged)
    return merged


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read(use_threads=False)
