"""The spool: the durable journal of an engine's answers.

``<spool>/<asset>/<partition>/<writer>-<number>.parquet``, each written as a temporary
file, synced and renamed, so that a file is there whole or not at all; several writers may fill one
folder. What is in no such file yet is in its writer's answer log. Here belong what a writer takes
and the queries that read it back. Which answer belongs to which row is SQL, and looking after old
answers is `alignment_assets.requests.spool_care`'s part.
"""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.inference.answer_log import settle_logs
from alignment_assets.inference.log_writer import LogWriter
from alignment_assets.inference.spool_files import (
    EMPTY_FILE,
    is_whole,
    merge_files,
    mergeable,
    quarantine,
    remove_files,
    what_is_wrong,
    write_file,
)
from alignment_assets.inference.spool_queries import (
    ANSWERS,
    ANY_SUPERSEDED,
    FINAL,
    SUPERSEDED,
    WITHOUT_SUPERSEDED,
)
from alignment_assets.inference.stored_spool import (
    PUT_ROWS,
    PUT_SECONDS,
    Putter,
    stored_folder,
)
from alignment_assets.inference.types import (
    ANSWER_SCHEMA,
    Answer,
    AnsweredBy,
    accepted,
)

logger = logging.getLogger(__name__)
Report = Callable[[str], None]

# Answers are in a Parquet file, where others than their writer see them, when there are so many or
# the first of them is so old.
FLUSH_ROWS = 4096
FLUSH_SECONDS = 60.0

# What DuckDB raises at a file that it cannot read.
UNREADABLE = (duckdb.Error, UnicodeDecodeError)
# Files that go while they are read make a reader start again, at most so often.
READINGS = 5


def spool_folder(spool: Path, asset: str, partition: str | None) -> Path:
    """Return the folder of an asset's answers, or of one partition of it."""
    return spool / asset / (partition or "all")


class SpoolError(Expected):
    """Answers that cannot be read; the message names the file and what to do."""


def whole_files(folder: Path, report: Report = logger.warning) -> list[Path]:
    """Return a spool folder's files in their order.

    A file without its end (a copy that was broken off, say), and what is no file, is quarantined,
    which is another name, and reported; what it answered is asked again. What is in the logs of
    writers that are gone is put into files before. A folder of copies is made the same as its
    objects.

    Raises:
        SpoolError: a log cannot be read or put into a file.
        StoreError: object storage cannot be asked.
    """
    try:
        settle_logs(folder, report)
    except OSError as error:
        raise SpoolError(
            f"{folder}: a dead writer's answers cannot be put into a file ({error}); they are kept "
            f"in its log: put that right, then run this again"
        ) from error
    stored = stored_folder(folder)
    if stored:
        stored.settle(report)
    files = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            # A pipe would never open, and a folder never be read.
            if path.is_file() and is_whole(path):
                files.append(path)
                continue
            what = "the file is torn" if path.is_file() else "this is no file"
            moved = set_aside(path)
        except FileNotFoundError:  # pruned, merged, or quarantined by another reader
            continue
        if moved is None:
            report(f"{path}: {what}; fetched again from object storage")
            files.append(path)
        else:
            report(f"{path}: {what}; quarantined as {moved.name}, its requests are asked again")
    return files


def set_aside(path: Path) -> Path | None:
    """Quarantine a file that cannot be read; return its new name.

    Where it is the copy of an object that can be read, it is fetched again, and there is none.

    Raises:
        FileNotFoundError: it has gone.
        StoreError: object storage cannot be asked.
    """
    moved, stored = quarantine(path), stored_folder(path.parent)
    if stored is None or not stored.mend(path):
        return moved
    moved.unlink()
    return None


def merge_small_files(
    folder: Path,
    alone: Callable[[], AbstractContextManager[object]],
    report: Report = logger.warning,
) -> None:
    """Put a folder's small files together where there are many; which answers count stays.

    Args:
        folder: the spool folder.
        alone: keeps others from its files; entered if there is something to do.
        report: told of it, and of torn files.

    Raises:
        SpoolError: see `whole_files`.
        OSError: the disk does not take the merged files; nothing is lost.
    """

    def found() -> list[Path]:
        return [path for path in whole_files(folder, report) if path.name != EMPTY_FILE]

    if mergeable(found()):
        with alone():
            files, stored = found(), stored_folder(folder)
            fewer = merge_files(files, stored.replace if stored else remove_files)
            if stored:
                stored.settle(report)
        if fewer:
            report(f"{folder}: {len(files):,} files of answers are {len(files) - fewer:,} now")


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

    Raises:
        SpoolError: a file cannot be read.
    """
    limits, some = sorted(set(limits)), False

    def find_superseded(files: list[Path]) -> None:
        nonlocal some
        # Apart from the caller's transaction, which a file that has gone would end.
        with connection.cursor() as asking:
            for each in (asking, connection):
                each.execute("SET VARIABLE answer_files = $files", {"files": as_patterns(files)})
                each.execute("SET VARIABLE answer_limits = $limits", {"limits": limits})
            some = asking.execute(ANY_SUPERSEDED).fetchone() is not None
        if some:
            connection.execute(SUPERSEDED)

    files = _read(folder, report, find_superseded)
    connection.execute(ANSWERS + (WITHOUT_SUPERSEDED if some else ""))
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
    values = {"limits": sorted(set(limits))}
    _read(
        folder,
        report,
        lambda files: connection.execute(FINAL, {**values, "files": as_patterns(files)}),
    )


def _read(folder: Path, report: Report, execute: Callable[[list[Path]], object]) -> list[Path]:
    """Do something with a folder's files, again if one of them goes meanwhile; return them."""
    for reading in range(1, READINGS + 1):
        files = _readable_files(folder, report)
        try:
            execute(files)
            break
        except UNREADABLE as error:
            if reading < READINGS and not all(path.exists() for path in files):
                continue
            raise_unreadable(files, error)
            raise
    return files


def raise_unreadable(files: Sequence[Path], error: Exception) -> None:
    """Raise a `SpoolError` if one of the files explains an error of a query that read them."""
    for path in files:
        if not path.exists():
            raise SpoolError(
                f"{path}: was there and is gone, quarantined or removed meanwhile; run this again"
            ) from error
        if reason := what_is_wrong(path):
            raise SpoolError(
                f"{path}: cannot be read ({reason}); run `{proposed('spool verify')}`, which "
                f"quarantines such files, then run this again"
            ) from error


class SpoolWriter:
    """Appends answers to a spool folder, each on disk within 0.25 s.

    They are there for good then, whatever happens to the process or the machine; others see them
    when they are in a file: with `flush`, or when the writer ends, however it does. Of a folder of
    copies that is a file on object storage.
    """

    def __init__(self, folder: Path, answered_by: AnsweredBy) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._answered_by = answered_by
        stored = stored_folder(folder)
        self._putter = Putter(stored) if stored else None
        rows, seconds = (PUT_ROWS, PUT_SECONDS) if stored else (FLUSH_ROWS, FLUSH_SECONDS)
        self._log = LogWriter(folder, self._batch, rows, seconds, self._put)

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._log.close()
        finally:
            if self._putter:
                self._putter.close()

    def add(self, answer: Answer) -> Answer:
        """Append one answer; return what is kept: its failure where it cannot be (`accepted`).

        Raises:
            UnwritableError: answers cannot be put on disk.
            StoreError: object storage has not taken answers for minutes; they are on disk.
        """
        kept = accepted(answer)
        self._log.add(kept)
        if self._putter:
            self._putter.check()
        return kept

    def tick(self) -> None:
        """Raise what has kept answers off the disk; to be called now and then while none come.

        Raises:
            UnwritableError: something has.
            StoreError: object storage has not taken answers for minutes.
        """
        self._log.check()
        if self._putter:
            self._putter.check()

    def flush(self) -> None:
        """Wait until all answers so far are in files, where every reader sees them.

        Raises:
            UnwritableError: they cannot be put on disk.
            StoreError: object storage does not take them; they are on disk.
        """
        self._log.flush()
        if self._putter:
            self._putter.flush()

    def _put(self, file: Path) -> None:
        if self._putter:
            self._putter.put(file)

    def _batch(self, answers: Sequence[Answer]) -> pa.RecordBatch:
        """Return answers as rows, column by column, which takes half as long as row by row."""
        texts = [answer.text for answer in answers]
        logprobs = [answer.label_logprobs for answer in answers]
        columns: dict[str, list[Any]] = {
            # Here and not when it is loaded: the engine takes far longer than this.
            "text_hash": [None if text is None else _hash(text) for text in texts],
            "label_logprobs": [
                None
                if values is None
                else [{"label": label, "logprob": value} for label, value in values.items()]
                for values in logprobs
            ],
            "engine": [self._answered_by.engine] * len(answers),
            "engine_version": [self._answered_by.version] * len(answers),
            "engine_settings": [self._answered_by.limits] * len(answers),
        }
        for name in ANSWER_SCHEMA.names:
            if name not in columns:
                columns[name] = [getattr(answer, name) for answer in answers]
        arrays = [pa.array(columns[field.name], field.type) for field in ANSWER_SCHEMA]
        return pa.RecordBatch.from_arrays(arrays, schema=ANSWER_SCHEMA)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _readable_files(folder: Path, report: Report) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files, empty = whole_files(folder, report), folder / EMPTY_FILE
    if empty in files and pq.read_schema(empty).names == ANSWER_SCHEMA.names:
        return files
    try:
        write_file(ANSWER_SCHEMA.empty_table(), empty)
    except OSError as error:
        raise SpoolError(
            f"{folder}: cannot be written ({error}); run this again when it can"
        ) from error
    return [empty, *(file for file in files if file != empty)]
