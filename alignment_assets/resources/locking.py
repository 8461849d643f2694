"""A readers-writer lock between processes, on one file (``flock``).

The kernel frees a dead owner's lock. Here belongs the lock alone; what it guards is elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02
REPORT_SECONDS = 15.0


class LockTimeout(TimeoutError):
    """The lock stayed with somebody else; the message says with whom and what to do."""


@contextmanager
def locked(path: Path, *, exclusive: bool, timeout: float, purpose: str) -> Iterator[float]:
    """Hold the lock on ``path`` and yield the seconds it took to get.

    Args:
        path: the lock's own file, made where it is missing.
        exclusive: alone, or beside other holders that are not exclusive.
        timeout: seconds to wait at most.
        purpose: what the holder does, told to those who wait.

    Raises:
        LockTimeout: the wait ended without the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        waited = _acquire(descriptor, path, exclusive, timeout)
        if exclusive:
            _write_holder(descriptor, purpose)
        yield waited
    finally:
        os.close(descriptor)  # frees the lock


def describe_holder(path: Path) -> str:
    """Say who last held the lock alone: process id, purpose and since when."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return (
            f"process {holder['pid']} "
            f"({holder['purpose']}, {holder['command']}, since {holder['since']})"
        )
    except (OSError, ValueError, KeyError):
        return "another process"


def _acquire(descriptor: int, path: Path, exclusive: bool, timeout: float) -> float:
    mode = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
    start = time.monotonic()
    report_at = start + REPORT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, mode)
            return time.monotonic() - start
        except BlockingIOError:
            now = time.monotonic()
            if now - start > timeout:
                raise LockTimeout(
                    f"{path}: still held after {timeout:.0f} s, last by {describe_holder(path)}; "
                    f"let it finish or end it, then run again: answers are safe in the spool"
                ) from None
            if now >= report_at:
                logger.warning(
                    "waiting %.0f s for %s, held by %s", now - start, path, describe_holder(path)
                )
                report_at = now + REPORT_SECONDS
            time.sleep(POLL_SECONDS)


def _write_holder(descriptor: int, purpose: str) -> None:
    holder = {
        "pid": os.getpid(),
        "purpose": purpose,
        "command": " ".join(sys.argv)[:200],
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)
