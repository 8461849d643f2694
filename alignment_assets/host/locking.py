"""Locks between processes, on files (``flock``), and who has them.

The kernel frees a dead owner's lock. Here belongs the lock alone; what it guards is elsewhere.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02
# How often a wait is told.
REPORT_SECONDS = 30.0


class LockTimeout(TimeoutError):
    """The lock stayed with somebody else; the message says with whom and what to do."""


@contextmanager
def locked(
    path: Path,
    *,
    exclusive: bool,
    timeout: float,
    purpose: str,
    for_all_users: bool = False,
) -> Iterator[float]:
    """Hold the lock on ``path`` and yield the seconds it took to get.

    Args:
        path: the lock's own file, made where it is missing.
        exclusive: alone, or beside other holders that are not exclusive.
        timeout: seconds to wait at most.
        purpose: what the holder does, told to those who wait.
        for_all_users: let every user of the host take the lock; its folder is theirs too.

    Raises:
        LockTimeout: the wait ended without the lock.
    """
    start = time.monotonic()
    report_at = start + REPORT_SECONDS
    while (descriptor := take(path, exclusive=exclusive, for_all_users=for_all_users)) is None:
        now = time.monotonic()
        if now - start > timeout:
            raise LockTimeout(
                f"{path}: still held after {timeout:.0f} s, last by {describe_holder(path)}; "
                f"let it finish or end it, then run again"
            )
        if now >= report_at:
            logger.warning(
                "waiting %.0f s for %s, held by %s", now - start, path, describe_holder(path)
            )
            report_at = now + REPORT_SECONDS
        time.sleep(POLL_SECONDS)
    try:
        if exclusive:
            write_holder(descriptor, purpose)
        yield time.monotonic() - start
    finally:
        os.close(descriptor)


def take(path: Path, *, exclusive: bool, for_all_users: bool = False) -> int | None:
    """Take the lock on ``path`` if it is free.

    Returns:
        A file descriptor that holds the lock until it is closed; None, if somebody else does.
    """
    descriptor = _open(path, for_all_users)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_held(path: Path) -> bool:
    """Say whether somebody has the lock on ``path`` alone; a file that is gone has no holder.

    Looking takes the lock for a moment, so it is for files whose owner took theirs before.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_holder(descriptor: int, purpose: str, details: Mapping[str, Any] | None = None) -> None:
    """Write into a lock's file who holds it, and more ``details`` for those who wait."""
    holder = {
        **(details or {}),
        "pid": os.getpid(),
        "purpose": purpose,
        "command": " ".join(sys.argv)[:200],
        "since": now(),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def read_holder(path: Path) -> dict[str, Any]:
    """Return what `write_holder` wrote; nothing where the file is gone or half written."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, RecursionError, TypeError, ValueError):
        return {}


def describe_holder(path: Path) -> str:
    """Say who last held the lock alone: process id, purpose, command and since when."""
    holder = read_holder(path)
    try:
        return (
            f"process {holder['pid']} "
            f"({holder['purpose']}, {holder['command']}, since {holder['since']})"
        )
    except KeyError:
        return "another process"


def now() -> str:
    """Return the time as it is told to those who wait."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _open(path: Path, for_all_users: bool) -> int:
    # No link is followed: others may write into a folder for all users, and the file is truncated.
    flags = os.O_RDWR | os.O_NOFOLLOW
    while True:
        # First without O_CREAT, which fs.protected_regular denies on another user's file.
        with suppress(FileNotFoundError):
            return os.open(path, flags)
        _make_folder(path.parent, for_all_users)
        with suppress(FileExistsError):
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
            if for_all_users:
                os.fchmod(descriptor, 0o666)  # whatever the umask
            return descriptor


def _make_folder(folder: Path, for_all_users: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir()
        if for_all_users:
            folder.chmod(0o777)
