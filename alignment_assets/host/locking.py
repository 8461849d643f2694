"""Locks between processes, on files (``flock``), and who has them.

The kernel frees a dead owner's lock. Here belongs the lock alone; what it guards is elsewhere.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignment_assets.host.expected import Expected

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.02
# The mode of a folder whose files belong to many users: only its owner removes a file.
SHARED = 0o1777
# How often a wait is told.
REPORT_SECONDS = 30.0


class LockTimeout(Expected):
    """The lock stayed with somebody else; the message says with whom and what to do."""


class LockFolderError(Expected):
    """A place where locks cannot be trusted or made; the message says why and what to do."""


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

    Raises:
        LockFolderError: the file cannot be made or opened, or anybody could take it away.
    """
    while True:
        descriptor = _open(path, for_all_users)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        # Removed after it was opened: others would lock another file of that name.
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether a file that is open still has its name."""
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


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
    if for_all_users:
        _share_folder(path.parent)
    try:
        while True:
            # First without O_CREAT, which fs.protected_regular denies on another user's file.
            with suppress(FileNotFoundError):
                return os.open(path, flags)
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                if for_all_users:
                    os.fchmod(descriptor, 0o666)  # whatever the umask
                return descriptor
    except (IsADirectoryError, NotADirectoryError) as error:
        raise LockFolderError(f"{error.filename}: no file for a lock; remove it") from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise LockFolderError(f"{path}: a link or no file, and no lock; remove it") from error


def _share_folder(folder: Path) -> None:
    """Make a folder in which every user of the host may make files and none remove another's.

    Raises:
        LockFolderError: what is there is something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir()
        folder.chmod(SHARED)
    found = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise LockFolderError(f"{folder}: a link or a file, and no folder for locks; remove it")
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != SHARED:
        folder.chmod(SHARED)  # of an earlier version, or made just now by another process of ours
    elif found.st_uid not in (0, os.geteuid()):
        raise LockFolderError(
            f"{folder}: its owner, user {found.st_uid}, could remove locks that others hold; have "
            f"root own it: chown root {folder} && chmod 1777 {folder}"
        )
    elif stat.S_IMODE(found.st_mode) & 0o1002 == 0o0002:
        raise LockFolderError(
            f"{folder}: anybody can remove locks that others hold there: chmod 1777 {folder}"
        )
