"""Which process something was begun by, and whether that one is gone."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import psutil


def this_process() -> str:
    """Return a text that names this process among all of all hosts and times, as JSON."""
    return json.dumps(_named(os.getpid()), sort_keys=True)


def is_gone(named: str) -> bool:
    """Return whether a process that `this_process` named has surely ended.

    What ran on another host, or in another container, is never gone: it cannot be seen from here.
    """
    try:
        told = json.loads(named)
        host, boot, process, started = (told[key] for key in ("host", "boot", "process", "started"))
        if host != socket.gethostname():
            return False
        if boot != _boot():  # after a restart of the machine process ids begin anew
            return True
        # A container may bear its host's name, and numbers its processes itself.
        if told["numbering"] != _numbering():
            return False
        found = _started(int(process))
        # What is there and may not be looked at (hidepid) may be the one.
        return found != started if found is not None else not psutil.pid_exists(int(process))
    except (KeyError, RecursionError, TypeError, ValueError):
        return False


def describe(named: str) -> str | None:
    """Return a process that `this_process` named, for people; None if the text names none."""
    try:
        told = json.loads(named)
        text = f"process {told['process']} of {told['host']}"
    except (KeyError, RecursionError, TypeError, ValueError):
        return None
    return f"{text}, which is gone" if is_gone(named) else text


def _named(process: int) -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "numbering": _numbering(),
        "process": process,
        "started": _started(process),
    }


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _numbering() -> str:
    """Return the name of what numbers processes: the machine, or a container (PID namespace)."""
    return str(Path("/proc/self/ns/pid").readlink())


def _started(process: int) -> int | None:
    """Return when a process started, in ticks since the machine did; None if that is hidden."""
    try:
        content = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in brackets, may hold brackets and blanks; then come a letter and numbers.
    state, *fields = content.rpartition(")")[2].split()
    return -1 if state in "ZX" else int(fields[18])  # dead, and not yet waited for
