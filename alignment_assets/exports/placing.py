"""Putting a folder in place of another, whole or not at all.

The new one is written beside the old one, synced, and exchanged with it in one step where the file
system can (Linux's ``renameat2``), else by two renames. What killed writers left is removed by the
next one.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from alignment_assets.exports.formats import ExportError
from alignment_assets.exports.manifest import is_ours
from alignment_assets.host.durable import sync
from alignment_assets.host.leftovers import remove_left

_PART = ".part"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Yield a new folder that becomes ``target`` when the block ends well.

    Raises:
        ExportError: something is there that is no export.
        OSError: the file system refuses.
    """
    target = target.absolute()
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_left(target.parent.glob(f"*-{'[0-9a-f]' * 32}.{escape(target.name)}{_PART}"))
    part = _beside(target)
    part.mkdir()
    try:
        yield part
        for folder in (part, *(path for path in part.iterdir() if path.is_dir())):
            sync(folder)
        check_target(target)
        _exchange(part, target)
        sync(target.parent)
    except OSError as error:
        error.filename = error.filename or str(target.parent)  # a full disk does not say which
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)  # what is there now is the old one, if any


def check_target(target: Path) -> None:
    """Raise an ExportError if something is at a place that no export of ours may replace."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise ExportError(f"{target} is a file or a link; name a folder, or move it away")
    if target.resolve().is_mount():
        raise ExportError(f"{target} is a mount point, which stays; name a folder in it")
    if any(target.iterdir()) and not is_ours(target):
        raise ExportError(
            f"{target} has files that are no export of ours (no manifest.json that says so), and "
            f"is left as it is; name another folder, or empty it"
        )


def _beside(target: Path) -> Path:
    return target.parent / f"{os.getpid()}-{uuid.uuid4().hex}.{target.name}{_PART}"


def _exchange(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
    elif not _exchanged(new, target):
        aside = _beside(target)
        target.rename(aside)
        new.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return whether the file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = (os.fsencode(one), os.fsencode(other))
    return bool(rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)


def remove_export(folder: Path) -> bool:
    """Remove an export; return whether there was one: what is none of ours is left alone."""
    found = folder.is_dir() and not folder.is_symlink() and is_ours(folder)
    if found:
        aside = _beside(folder)  # whole or not at all: half of one would be none of ours
        folder.rename(aside)
        shutil.rmtree(aside)
    return found
