"""How much memory, how many cores and how much disk a process may use here.

In a container the limits are those of the container (its cgroup).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

MEBI = 1 << 20
GIBI = 1 << 30


def memory_bytes() -> int:
    """Return the memory that this process may use: the machine's, or less by its cgroup."""
    return min(
        [psutil.virtual_memory().total, *_cgroup_values("memory.max", "memory.limit_in_bytes")]
    )


def cores() -> int:
    """Return how many cores this process may use: those it may run on, or less by its cgroup."""
    allowed = len(os.sched_getaffinity(0))
    for folder in _cgroup_folders():
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            allowed = min(allowed, int(quota) // int(period))
        except (OSError, ValueError):  # no such file, or no limit ("max")
            continue
    return max(allowed, 1)


def ensure_room(folder: Path, needed: float, purpose: str) -> None:
    """Raise OSError if a folder's disk has less room than ``needed`` bytes; says what to do."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{purpose} needs about {needed / MEBI:,.0f} MiB in {folder}, and "
            f"{free / MEBI:,.0f} MiB are free; make room and run again"
        )


def _cgroup_values(*names: str) -> Iterator[int]:
    for folder in _cgroup_folders():
        for name in names:
            try:
                yield int((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError):  # no such file, or no limit ("max")
                continue


def _cgroup_folders(root: Path = Path("/sys/fs/cgroup")) -> Iterator[Path]:
    """Yield this process's cgroup (version 2, or version 1's for memory) and those above it."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        folder = top / path.lstrip("/")
        # In a container the path may be the host's; what counts is mounted at the top then.
        yield from (one for one in (folder, *folder.parents) if one.is_relative_to(top))
