"""Two threads that put answers on disk while their engine goes on.

One appends them to an answer log as they come; when there are enough, the other writes them into a
Parquet file, which takes the log's place. What an answer is, and who gave it, is `spool`'s part.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from alignment_assets.host.expected import Expected
from alignment_assets.inference.answer_log import AnswerLog
from alignment_assets.inference.spool_files import write_file
from alignment_assets.inference.types import Answer

# So many answers are written once they are there.
SYNC_ROWS = 64
# Fewer are after so long, so that with the time to sync they are on disk within 0.25 s.
SYNC_SECONDS = 0.1
# But not sooner after the last ones than this: a fast engine's answers then go in larger parts.
PACE_SECONDS = 0.05
# With so many on their way to the disk the engine waits for it.
MOST_WAITING = 4096


class UnwritableError(Expected):
    """Answers cannot be put on disk; the message says where, why and what to do."""


class LogWriter:
    """Takes answers from one thread, in order.

    Args:
        folder: the spool folder.
        as_batch: makes answers into rows.
        file_rows: so many make a Parquet file.
        file_seconds: so old the first of them is at most when they become one.
        finished: told each file, by a thread of ours.
    """

    def __init__(
        self,
        folder: Path,
        as_batch: Callable[[Sequence[Answer]], pa.RecordBatch],
        file_rows: int,
        file_seconds: float,
        finished: Callable[[Path], None],
    ) -> None:
        self._folder = folder
        self._as_batch = as_batch
        self._finished = finished
        self._file_rows, self._file_seconds = file_rows, file_seconds
        self._writer = uuid.uuid4().hex
        # What the engine's thread and ours share, under the condition's lock.
        self._changed = threading.Condition()
        self._waiting: list[Answer] = []
        self._flushing = self._closing = False
        self._error: BaseException | None = None
        # Ours alone: answers that are in no file yet, and their log.
        self._thread: threading.Thread | None = None
        self._compaction: threading.Thread | None = None
        self._number = 0
        self._batches: list[pa.RecordBatch] = []
        self._log: AnswerLog | None = None
        self._file_due = self._next_at = 0.0

    def add(self, answer: Answer) -> None:
        """Take an answer; it is on disk within 0.25 s, as far as the disk keeps up.

        Raises:
            UnwritableError: this or an earlier one cannot be put there.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
                self._thread.start()
            while len(self._waiting) >= MOST_WAITING and self._error is None:
                self._changed.wait()
            self.check()
            self._waiting.append(answer)
            if len(self._waiting) in (1, SYNC_ROWS):
                self._changed.notify_all()

    def check(self) -> None:
        """Raise what has kept answers off the disk.

        Raises:
            UnwritableError: something has.
        """
        if self._error is not None:
            raise UnwritableError(
                f"{self._folder}: answers cannot be put on disk "
                f"({type(self._error).__name__}: {self._error}); what is there is kept: put that "
                f"right, then run this again"
            ) from self._error

    def flush(self) -> None:
        """Have all answers in Parquet files, where every reader sees them.

        Raises:
            UnwritableError: they cannot be put there.
        """
        if self._thread is None:
            return
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._flushing or self._error is not None)
            self.check()

    def close(self) -> None:
        """Do what `flush` does, and end."""
        if self._thread is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        with self._keeping_errors():
            while self._turn():
                pass
        if self._compaction:
            self._compaction.join()
        if self._log:
            self._log.close()

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """Have the engine's thread raise what goes wrong in ours."""
        try:
            yield
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _turn(self) -> bool:
        """Write what has come, wait for it first; return whether more may come."""
        answers, flush = self._take()
        if answers:
            batch = self._as_batch(answers)
            if not self._batches:
                self._file_due = time.monotonic() + self._file_seconds
            self._batches.append(batch)
            if not flush:
                self._append(batch)
        rows = sum(batch.num_rows for batch in self._batches)
        if rows and (flush or rows >= self._file_rows or time.monotonic() >= self._file_due):
            self._compact()
        if flush:
            if self._compaction:
                self._compaction.join()
            with self._changed:
                self._flushing = False
                self._changed.notify_all()
        return not (flush and self._closing)

    def _take(self) -> tuple[list[Answer], bool]:
        """Wait for answers; return them, and whether all are to be in files at once."""

        def asked() -> bool:
            return self._flushing or self._closing

        with self._changed:
            left = max(0.0, self._file_due - time.monotonic()) if self._batches else None
            self._changed.wait_for(lambda: self._waiting or asked(), left)
            if self._waiting:
                self._changed.wait_for(
                    lambda: len(self._waiting) >= SYNC_ROWS or asked(), SYNC_SECONDS
                )
                self._changed.wait_for(asked, max(0.0, self._next_at - time.monotonic()))
            self._next_at = time.monotonic() + PACE_SECONDS
            room = self._file_rows - sum(batch.num_rows for batch in self._batches)
            answers, self._waiting = self._waiting[:room], self._waiting[room:]
            self._changed.notify_all()
            return answers, asked() and not self._waiting

    def _append(self, batch: pa.RecordBatch) -> None:
        batches = [batch]
        if self._log is not None and not self._log.is_there():
            self._log.close()
            self._log, batches = None, self._batches
            self._number += 1
        if self._log is None:
            self._log = AnswerLog(self._folder, self._writer, self._number)
        self._log.append(batches)

    def _compact(self) -> None:
        """Have the other thread put what the log has into a file; the log's number goes with it."""
        if self._compaction:
            self._compaction.join()
        file = self._folder / f"{self._writer}-{self._number:08d}.parquet"
        arguments = (pa.Table.from_batches(self._batches), file, self._log)
        self._compaction = threading.Thread(
            target=self._write_file, args=arguments, name="spool file", daemon=True
        )
        self._compaction.start()
        self._batches, self._log = [], None
        self._number += 1

    def _write_file(self, table: pa.Table, file: Path, log: AnswerLog | None) -> None:
        with self._keeping_errors():
            try:
                write_file(table, file)
                if log:
                    log.remove()
                self._finished(file)
            finally:
                if log:
                    log.close()
