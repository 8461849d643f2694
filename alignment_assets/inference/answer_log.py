"""An answer log: what one writer has answered that is in no Parquet file yet.

``<writer>-<number>.log`` is records, one after the other: the writer's id, length and checksum of
what follows, and answers as an Arrow IPC stream, which brings its schema. Its writer shares a lock
on it, which the kernel frees. Who reads the folder after the writer's end puts the answers into
``<writer>-<number>.parquet`` and removes the log: `settle_logs`. Here belong one log and its bytes;
when there is something to write is `log_writer`'s part.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from alignment_assets.host.durable import sync
from alignment_assets.host.locking import POLL_SECONDS, take
from alignment_assets.inference.spool_files import missing_columns, quarantine, write_file

LOG_SUFFIX = ".log"
# The writer's id, which no answer can spell and by which the next record is found behind damage;
# the length of the content; its CRC-32.
_HEADER = struct.Struct("<16sQI")


class AnswerLog:
    """A log that answers are appended to."""

    def __init__(self, folder: Path, writer: str, number: int) -> None:
        self.path = folder / f"{writer}-{number:08d}{LOG_SUFFIX}"
        self._marker = bytes.fromhex(writer)
        # A reader that finds it new and empty removes it, and it is made once more.
        while (descriptor := take(self.path, exclusive=False)) is None:
            time.sleep(POLL_SECONDS)
        self._descriptor = descriptor
        try:
            sync(folder)
        except BaseException:
            self.close()
            raise

    def is_there(self) -> bool:
        """Return whether nobody took it for that of a dead writer, as if there were no locks."""
        return _is_at(self.path, self._descriptor)

    def append(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write answers that are still there when the machine stops.

        Raises:
            OSError: the disk does not take them; the log can be read up to here.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batches[0].schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
        content = sink.getvalue()
        header = _HEADER.pack(self._marker, content.size, zlib.crc32(content))
        for part in (header, content):
            left = memoryview(part)
            while left:
                left = left[os.write(self._descriptor, left) :]
        os.fdatasync(self._descriptor)

    def remove(self) -> None:
        """Take away a log whose answers are elsewhere."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the log to whoever reads it next."""
        os.close(self._descriptor)


def settle_logs(folder: Path, report: Callable[[str], None]) -> None:
    """Put the answers of each log whose writer is gone into a Parquet file, and remove the log.

    A log that a writer still writes is left to it. Of several readers one does it, and the others
    wait for it. What cannot be read is reported: a record that was cut off with its writer is
    dropped, a log that is damaged elsewhere is quarantined.

    Raises:
        OSError: the disk does not give a log, or does not take its answers; the log stays.
    """
    for path in sorted(folder.glob(f"*{LOG_SUFFIX}")):
        try:
            if path.is_symlink() or not path.is_file():
                moved = quarantine(path)
                report(f"{path}: this is no file; quarantined as {moved.name}")
            elif (descriptor := _take_abandoned(path)) is not None:
                try:
                    _settle(path, report)
                finally:
                    os.close(descriptor)
        except FileNotFoundError:  # settled by another reader
            continue
        except PermissionError as error:
            report(f"{path}: its answers are not seen by this user: {error.strerror}")


def _take_abandoned(path: Path) -> int | None:
    """Return a descriptor that has the log's lock; None while its writer lives."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if _is_at(path, descriptor):
                return descriptor
        elif _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB):
            if _is_at(path, descriptor):  # its writer shares it too
                os.close(descriptor)
                return None
        else:  # a reader has it alone: until it is done
            _lock(descriptor, fcntl.LOCK_SH)
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _settle(path: Path, report: Callable[[str], None]) -> None:
    file = path.with_suffix(".parquet")
    if file.exists():  # written whole, and then its writer was killed
        path.unlink()
        return
    content = path.read_bytes()
    tables, torn, damaged = _read_records(path, content)
    if tables:
        write_file(pa.concat_tables(tables), file)
    if content and (damaged or not tables):
        rows, moved = sum(table.num_rows for table in tables), quarantine(path)
        report(
            f"{path}: the log is damaged; {rows:,} answers could be read, it is quarantined as "
            f"{moved.name}, and the requests of the others are asked again"
        )
        return
    path.unlink()
    if torn:
        report(f"{path}: its end was cut off; the requests that it answered are asked again")


def _read_records(path: Path, content: bytes) -> tuple[list[pa.Table], bool, bool]:
    """Return the answers of all whole records, and what is there else.

    Returns:
        A table for each record; whether the end is no record; whether another part is none.
    """
    tables: list[pa.Table] = []
    torn = damaged = False
    try:
        marker = bytes.fromhex(path.name.split("-", 1)[0])
    except ValueError:
        return [], False, True
    at = 0
    while marker and 0 <= at < len(content):
        table, end = _read_record(content, at, marker)
        if table is None or (tables and table.schema != tables[0].schema):
            torn = True
            at = content.find(marker, at + 1)
        else:
            torn, damaged = False, damaged or torn
            tables.append(table)
            at = end
    return tables, torn, damaged


def _read_record(content: bytes, at: int, marker: bytes) -> tuple[pa.Table | None, int]:
    """Return the answers of the record at a place, None if there is none, and where it ends."""
    if len(content) - at < _HEADER.size:
        return None, at
    found, length, checksum = _HEADER.unpack_from(content, at)
    start = at + _HEADER.size
    body = memoryview(content)[start : start + length]
    if found != marker or len(body) < length or zlib.crc32(body) != checksum:
        return None, at
    try:
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        return None, at
    return (None if missing_columns(table.schema.names) else table), start + length
