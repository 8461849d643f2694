"""What processes that were killed have left behind."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import psutil


def remove_left(paths: Iterable[Path]) -> None:
    """Remove those files and folders, named ``<process>-…``, whose process has died."""
    for path in paths:
        owner = path.name.split("-", 1)[0]
        if not owner.isdigit() or psutil.pid_exists(int(owner)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
