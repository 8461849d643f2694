"""The spool: the durable journal of an engine's answers, append-only Parquet files.

``<spool>/<asset>/<partition>/<writer>-<number>.parquet``, each written as a temporary
file, synced and renamed, so that a file is there whole or not at all; several writers may fill one
folder. Here belong writing and the queries that read it back. Which answer belongs to which row is
SQL, and looking after old answers is `alignment_assets.requests.spool_care`'s part.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.host.durable import sync
from alignment_assets.inference.types import (
    ANSWER_SCHEMA,
    LATER_COLUMNS,
    PROBABILITY_SLACK,
    Answer,
    AnsweredBy,
    accepted,
)

logger = logging.getLogger(__name__)
Report = Callable[[str], None]

FLUSH_ROWS = 1000
FLUSH_SECONDS = 5.0

# A Parquet file begins and ends with these bytes, and has a length of four before the last.
PARQUET_MAGIC = b"PAR1"
PARQUET_ENDS = 12
# Stands before all others and gives them their columns, those of `ANSWER_SCHEMA`.
EMPTY_FILE = "0-empty.parquet"
# What is put behind the name of a file that cannot be read: it is quarantined.
QUARANTINED = ".torn"
# What DuckDB raises at a file that it cannot read.
UNREADABLE = (duckdb.Error, UnicodeDecodeError)
# Files that are pruned while they are read make a reader start again, at most so often.
READINGS = 5

_FILES = """read_parquet(
    getvariable('answer_files'), union_by_name = true, filename = true, file_row_number = true)"""
# The id of an answered request, whose text is a UUID, or in older files the whole sha256; what is
# neither answers nothing.
ANSWERED_ID = "try_cast(left(replace(request_id, '-', ''), 32) AS UUID)"
# False for what `accepted` turns down, which files of earlier versions may hold as final.
_MASS = "list_sum(list_transform(label_logprobs, lambda entry: exp(least(entry.logprob, 700))))"
_POSSIBLE = (
    f"coalesce(isfinite(value), true) AND coalesce({_MASS} <= 1 + {PROBABILITY_SLACK}, true)"
)
# Answers that do not count. A refusal does not if no engine has its limits now. Of several answers
# to one request one counts: a final one (`stop`, `length`) before a refusal, a refusal before a
# failure, and among equals the first in file order; it supersedes the others. Only narrow columns
# are read here: texts are read when rows are made of them.
_SUPERSEDED = f"""
CREATE OR REPLACE TEMP TABLE superseded AS
SELECT filename, file_row_number
FROM (
    SELECT
        *,
        (
            finish_reason IN ('stop', 'length', 'failed')
            OR list_contains(getvariable('answer_limits')::VARCHAR[], engine_settings)
        ) AND {_POSSIBLE} AS stands
    FROM {_FILES}
)
QUALIFY NOT stands OR row_number() OVER (
    PARTITION BY {ANSWERED_ID}
    ORDER BY
        NOT stands, finish_reason NOT IN ('stop', 'length'), finish_reason = 'failed',
        filename, file_row_number
) > 1
"""
_ANSWERS = f"""
CREATE OR REPLACE TEMP VIEW answers AS
SELECT {", ".join(ANSWER_SCHEMA.names).replace("request_id", f"{ANSWERED_ID} AS request_id")}
FROM {_FILES}"""
# A join with a table that is empty would cost nothing, but mislead what plans the joins after it.
_WITHOUT_SUPERSEDED = " ANTI JOIN superseded USING (filename, file_row_number)"

_FINAL = f"""
CREATE OR REPLACE TEMP TABLE final AS
SELECT DISTINCT {ANSWERED_ID} AS request_id
FROM read_parquet($files)
WHERE {ANSWERED_ID} IS NOT NULL AND {_POSSIBLE} AND (
    finish_reason IN ('stop', 'length')
    OR (finish_reason <> 'failed' AND list_contains($limits, engine_settings)))
"""


def spool_folder(spool: Path, asset: str, partition: str | None) -> Path:
    """Return the folder of an asset's answers, or of one partition of it."""
    return spool / asset / (partition or "all")


class SpoolError(RuntimeError):
    """Answers that cannot be read; the message names the file and what to do."""


def whole_files(folder: Path, report: Report = logger.warning) -> list[Path]:
    """Return a spool folder's files in their order.

    A file without its end (a copy that was broken off, say), and what is no file, is quarantined,
    which is another name, and reported; what it answered is asked again.
    """
    files = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            # A pipe would never open, and a folder never be read.
            if path.is_file() and _is_whole(path):
                files.append(path)
                continue
            what = "the file is torn" if path.is_file() else "this is no file"
            moved = quarantine(path)
        except FileNotFoundError:  # pruned, or quarantined by another reader
            continue
        report(f"{path}: {what}; quarantined as {moved.name}, its requests are asked again")
    return files


def as_patterns(files: Sequence[Path]) -> list[str]:
    """Return files for ``read_parquet``, which takes names for patterns."""
    return [glob.escape(str(path)) for path in files]


def view_answers(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    limits: Sequence[str],
    report: Report = logger.warning,
) -> list[Path]:
    """Make the temporary view ``answers``: the answer to each request that counts.

    Its columns are those of `ANSWER_SCHEMA`, with ``request_id`` as UUID. It reads the files when
    it is used; an error then may be a file's: see `raise_unreadable`.

    Args:
        connection: takes the view.
        folder: the spool folder.
        limits: of the models' backends now; refusals under these limits stand.
        report: told of torn files.

    Returns:
        The files.
    """
    files = _readable_files(folder, report)
    connection.execute("SET VARIABLE answer_files = $files", {"files": as_patterns(files)})
    connection.execute("SET VARIABLE answer_limits = $limits", {"limits": sorted(set(limits))})
    connection.execute(_SUPERSEDED)
    some = connection.execute("FROM superseded LIMIT 1").fetchone()
    connection.execute(_ANSWERS + (_WITHOUT_SUPERSEDED if some else ""))
    return files


def read_final(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    limits: Sequence[str],
    report: Report = logger.warning,
) -> None:
    """Make the temporary table ``final`` of the requests that need not be asked again.

    Args: see `view_answers`.

    Raises:
        SpoolError: a file cannot be read.
    """
    for reading in range(1, READINGS + 1):
        files = _readable_files(folder, report)
        values = {"files": as_patterns(files), "limits": sorted(set(limits))}
        try:
            connection.execute(_FINAL, values)
            return
        except UNREADABLE as error:
            if reading < READINGS and not all(path.exists() for path in files):
                continue
            raise_unreadable(files, error)
            raise


def raise_unreadable(files: Sequence[Path], error: Exception) -> None:
    """Raise a `SpoolError` if one of the files explains an error of a query that read them."""
    for path in files:
        if not path.exists():
            raise SpoolError(
                f"{path}: was there and is gone, quarantined or removed meanwhile; run this again"
            ) from error
        if reason := what_is_wrong(path):
            raise SpoolError(
                f"{path}: cannot be read ({reason}); run `alignment-assets spool verify`, which "
                f"quarantines such files, then run this again"
            ) from error


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
    missing = [name for name in ANSWER_SCHEMA.names if name not in {*names, *LATER_COLUMNS}]
    return f"it lacks the columns {', '.join(missing)}" if missing else None


def quarantine(path: Path) -> Path:
    """Give a file that cannot be read a name that is no answer's; return it. Nothing is lost."""
    moved, number = path.with_name(path.name + QUARANTINED), 1
    while moved.exists():
        number += 1
        moved = path.with_name(f"{path.name}.{number}{QUARANTINED}")
    return path.rename(moved)


class SpoolWriter:
    """Appends answers to a spool folder; on disk at the latest after 1,000 rows or 5 s.

    The five seconds count when `tick` is called, which an engine does on every step.
    """

    def __init__(self, folder: Path, answered_by: AnsweredBy) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._answered_by = answered_by
        self._writer = uuid.uuid4().hex
        self._number = 0
        self._rows: list[Answer] = []
        self._flushed_at = time.monotonic()

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def add(self, answer: Answer) -> Answer:
        """Append one answer; return what is kept: its failure where it cannot be (`accepted`)."""
        kept = accepted(answer)
        self._rows.append(kept)
        self.tick()
        return kept

    def tick(self) -> None:
        """Write what has waited long enough."""
        due = time.monotonic() - self._flushed_at >= FLUSH_SECONDS
        if len(self._rows) >= FLUSH_ROWS or (due and self._rows):
            self.flush()

    def flush(self) -> None:
        """Write all answers that are not on disk yet."""
        self._flushed_at = time.monotonic()
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        table = pa.Table.from_pylist([self._row(answer) for answer in rows], schema=ANSWER_SCHEMA)
        write_file(table, self._folder / f"{self._writer}-{self._number:08d}.parquet")
        self._number += 1

    def _row(self, answer: Answer) -> dict[str, object]:
        logprobs, text = answer.label_logprobs, answer.text
        return {
            **vars(answer),
            # Here and not when it is loaded: the engine takes far longer than this.
            "text_hash": None if text is None else hashlib.sha256(text.encode()).hexdigest(),
            "label_logprobs": None
            if logprobs is None
            else [{"label": label, "logprob": value} for label, value in logprobs.items()],
            "engine": self._answered_by.engine,
            "engine_version": self._answered_by.version,
            "engine_settings": self._answered_by.limits,
        }


def write_file(table: pa.Table, path: Path) -> None:
    """Write answers to a file that is there whole or not at all, also when the machine stops."""
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    with temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync(path.parent)


def _readable_files(folder: Path, report: Report) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files, empty = whole_files(folder, report), folder / EMPTY_FILE
    if empty in files and pq.read_schema(empty).names == ANSWER_SCHEMA.names:
        return files
    write_file(ANSWER_SCHEMA.empty_table(), empty)
    return [empty, *(file for file in files if file != empty)]


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < PARQUET_ENDS:
            return False
        file.seek(-len(PARQUET_MAGIC), os.SEEK_END)
        return file.read() == PARQUET_MAGIC
