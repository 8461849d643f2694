"""What processes that were killed have left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def work_folder(work: Path) -> Iterator[Path]:
    """Yield a new folder in ``work`` that goes with the block; what the dead left goes first."""
    work.mkdir(parents=True, exist_ok=True)
    remove_left(work.glob("*-*"))
    with tempfile.TemporaryDirectory(dir=work, prefix=f"{os.getpid()}-") as folder:
        yield Path(folder)
