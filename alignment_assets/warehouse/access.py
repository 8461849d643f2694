"""Who has the database's file, and when: one process to write, or several to read.

DuckDB locks the file itself, but fails if another process has it, and keeps no order. So the
product's processes queue for it with tickets, and wait for any other program that has the file.
Here belong the queue and what those who wait are told; what is done with the file is elsewhere.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import duckdb
import psutil

from alignment_assets.host.locking import (
    POLL_SECONDS,
    REPORT_SECONDS,
    LockTimeout,
    describe_holder,
    is_held,
    take,
    write_holder,
)
from alignment_assets.host.paths import why_unwritable
from alignment_assets.host.ticket_queue import Ticket, outside, queued, tickets
from alignment_assets.warehouse.schema import WarehouseError

T = TypeVar("T")

# A wait is told for the first time after so long.
TOLD_AFTER_SECONDS = 1.0
# Between attempts to open a file that somebody outside has open.
OUTSIDE_SECONDS = 0.2
# How long a reader lets writers go first that wait for other readers.
DEFERENCE_SECONDS = 10.0
HOLDERS_TOLD = 3

_THE_FILE = {"file"}
_CONFLICT = re.compile(r"lock is held in (?P<name>.*?) \(PID (?P<pid>\d+)\)", re.DOTALL)


@dataclass(frozen=True)
class SharedFile:
    """A DuckDB file that several processes use.

    Attributes:
        path: the file.
        timeout: seconds to wait for it at most.
        log: takes a line about a wait.
    """

    path: Path
    timeout: float
    log: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """Where the lock, the line and the notes of those who have the file are."""
        return self.path.with_name(self.path.name + ".queue")

    @contextmanager
    def opened(
        self, open_it: Callable[[], AbstractContextManager[T]], *, exclusive: bool, purpose: str
    ) -> Iterator[T]:
        """Open the file when it is our turn, and yield what ``open_it`` does.

        Args:
            open_it: opens the file, and closes it at the end; called again while somebody outside
                of the product has the file, and nothing of ours is held in between.
            exclusive: to write, alone; else beside other readers.
            purpose: what for, told to those who wait.

        Raises:
            WarehouseError: this user may not write there, nor stand in line to do it.
            LockTimeout: the file stayed with somebody else.
        """
        reason = why_unwritable(self.folder)
        if reason and exclusive:
            raise WarehouseError(
                f"{self.path} has to be written ({purpose}), and {reason}; have a user run this "
                f"who may, or work on a copy"
            )
        if reason:
            with self._opened_as_guest(open_it, purpose) as opened:
                yield opened
            return
        wait = _Wait(self, purpose)
        with ExitStack() as held:
            line = held.enter_context(ExitStack())
            ticket: Ticket | None = None
            while True:
                outsider = None
                taken = self._take(ticket, exclusive, wait)
                if taken is not None:
                    try:
                        opened = held.enter_context(
                            self._holding(taken, open_it, exclusive, purpose)
                        )
                        break
                    except _OpenOutside as error:
                        outsider = str(error)
                if outsider:
                    _pause_for(outsider, ticket, wait)
                elif ticket:
                    wait.go_on(POLL_SECONDS, self.holders)
                else:
                    ticket = line.enter_context(queued(self.folder, _THE_FILE, purpose))
            if not exclusive:
                line.close()
            wait.end()
            yield opened

    def holders(self) -> list[str]:
        """Return who has the file, readers and writers, or whose ticket is first."""
        found = [describe_holder(note) for note in self._notes()]
        for ticket in tickets(self.folder):
            whom = outside(ticket)
            if whom:
                found.append(whom)
            elif not found:
                found.append(describe_holder(ticket))
            break
        return found or ["another process"]

    @contextmanager
    def _opened_as_guest(
        self, open_it: Callable[[], AbstractContextManager[T]], purpose: str
    ) -> Iterator[T]:
        """Open the file to read where nothing can be written, between those who write it."""
        wait = _Wait(self, purpose)
        with ExitStack() as held:
            while True:
                try:
                    opened = _open(open_it, held)
                    break
                except _OpenOutside as error:
                    outsider = str(error)
                wait.go_on(OUTSIDE_SECONDS, partial(self._writers, outsider))
            wait.end()
            yield opened

    def _writers(self, outsider: str) -> list[str]:
        """Return who has the file: those of ours that say so, else who DuckDB says."""
        return self.holders() if self._notes() else [outsider]

    def _take(self, ticket: Ticket | None, exclusive: bool, wait: _Wait) -> int | None:
        """Take the lock if it is our turn: a writer always stands in line, a reader if others do.

        A reader passes writers who wait for somebody outside: the file is free to read. Those who
        wait for other readers it lets go first, or a stream of readers would keep them out.
        """
        if ticket is None:
            if exclusive or tickets(self.folder):
                return None
        elif ticket.before(pass_outside=not exclusive) and (
            exclusive or wait.seconds < DEFERENCE_SECONDS
        ):
            return None
        return take(self._lock_path, exclusive=exclusive)

    @contextmanager
    def _holding(
        self,
        taken: int,
        open_it: Callable[[], AbstractContextManager[T]],
        exclusive: bool,
        purpose: str,
    ) -> Iterator[T]:
        with ExitStack() as held:
            held.callback(os.close, taken)  # frees the lock, last of all
            held.enter_context(self._noted(purpose, exclusive))
            yield _open(open_it, held)

    @property
    def _lock_path(self) -> Path:
        return self.folder / "file.lock"

    @contextmanager
    def _noted(self, purpose: str, exclusive: bool) -> Iterator[None]:
        """Leave a note that we have the file; like a ticket, it counts while its owner lives."""
        if exclusive:  # nobody else has it, so all notes are of the dead
            for left in [*self.folder.glob("*.note"), *self.folder.glob("*.new")]:
                left.unlink(missing_ok=True)
        note = self.folder / f"{os.getpid()}-{uuid.uuid4().hex}.note"
        new = note.with_suffix(".new")
        descriptor = take(new, exclusive=True)
        assert descriptor is not None, f"{new} is new, and held"
        try:
            write_holder(descriptor, purpose)
            new.rename(note)
            yield
        finally:
            note.unlink(missing_ok=True)
            os.close(descriptor)

    def _notes(self) -> list[Path]:
        return [note for note in sorted(self.folder.glob("*.note")) if is_held(note)]


class _Wait:
    """The wait of one process for the file: what is told of it, and when it is over."""

    def __init__(self, file: SharedFile, purpose: str) -> None:
        self._file = file
        self._purpose = purpose
        self._start = time.monotonic()
        self._tell_at = self._start + TOLD_AFTER_SECONDS
        self._told = False

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._start

    def go_on(self, pause: float, whom: Callable[[], list[str]]) -> None:
        """Pause; now and then tell for whom.

        Raises:
            LockTimeout: time is over.
        """
        name = self._file.path
        if self.seconds > self._file.timeout:
            raise LockTimeout(
                f"{name}: not free for {self._purpose} after {self._file.timeout:.0f} s, "
                f"behind {_listed(whom())}; let it finish or end it, then run again: "
                f"answers are safe in the spool"
            )
        if time.monotonic() >= self._tell_at:
            self._file.log(
                f"{self._purpose}: waiting for {name}, {self.seconds:.0f} s so far, "
                f"behind {_listed(whom())}"
            )
            self._tell_at = time.monotonic() + REPORT_SECONDS
            self._told = True
        time.sleep(pause)

    def end(self) -> None:
        """Tell how long it was, if anything was told."""
        if self._told:
            self._file.log(f"{self._purpose}: got {self._file.path} after {self.seconds:.1f} s")


@contextmanager
def closing(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """Close a connection at the end. A query that a signal broke off is not waited for."""
    try:
        yield connection
    finally:
        connection.interrupt()
        connection.close()


class _OpenOutside(Exception):
    """Somebody outside of the product has the file open; the message says who."""


def _open(open_it: Callable[[], AbstractContextManager[T]], held: ExitStack) -> T:
    try:
        return held.enter_context(open_it())
    except duckdb.IOException as error:
        if is_conflict(error):
            raise _OpenOutside(_outsider(error)) from error
        raise


def is_conflict(error: Exception) -> bool:
    """Return whether DuckDB did not open a file because another process has it."""
    return "could not set lock" in str(error).lower()


def _pause_for(outsider: str, ticket: Ticket | None, wait: _Wait) -> None:
    if ticket:
        ticket.wait_outside(outsider)
    wait.go_on(OUTSIDE_SECONDS, lambda: [outsider])
    if ticket:
        ticket.wait_outside(None)


def _outsider(error: duckdb.IOException) -> str:
    """Name the process that DuckDB says has the file."""
    found = _CONFLICT.search(str(error))
    if not found:
        return str(error).splitlines()[0]
    name, since = found["name"], ""
    try:
        process = psutil.Process(int(found["pid"]))
        started = datetime.fromtimestamp(process.create_time(), UTC)
        since = f", running since {started.isoformat(timespec='seconds')}"
        name = " ".join(process.cmdline())[:200] or name
    except psutil.Error:  # gone, or another user's
        pass
    return f"process {found['pid']} ({name}, outside of alignment_assets{since})"


def _listed(who: list[str]) -> str:
    more = len(who) - HOLDERS_TOLD
    return " and ".join(who[:HOLDERS_TOLD]) + (f" and {more} more" if more > 0 else "")


def file_version(path: Path) -> tuple[object, ...]:
    """Return what changes when a database that nobody writes now is written."""
    version: list[object] = [str(path)]
    for file in (path, path.with_name(f"{path.name}.wal")):
        with suppress(FileNotFoundError):  # a log goes when its file is closed
            stat = file.stat()
            version.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(version)
