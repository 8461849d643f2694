"""A worker's side of the channel to the step that started it: a process that ends with its parent.

It is told what to do by lines of JSON on standard input and reports by lines of JSON on standard
output. When its standard input ends, so does it, with its whole process group: no worker outlives
its step. The parent's side is `alignment_assets.inference.worker_process`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, TextIO

from alignment_assets.inference.progress import COUNTS, PROGRESS_SECONDS, Progress
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer

Report = Callable[..., None]


def end_process_group() -> None:
    """Kill this process and all its children, engine processes among them."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def first_to_end(processes: Sequence[BaseProcess]) -> str:
    """Wait until one of some processes ends; return which, and how; nothing if there is none."""
    if not processes:
        return ""
    wait([process.sentinel for process in processes])
    return ", ".join(f"{p.name} ({p.exitcode})" for p in processes if not p.is_alive())


class Stretch:
    """The work of one command: how far it is, and where answers go.

    Args:
        report: told of the counts and of the requests in flight, every second.
        writer: takes the answers.
    """

    def __init__(self, report: Report, writer: SpoolWriter) -> None:
        self._report = report
        self._writer = writer
        self._reported_at = 0.0
        self._progress = Progress("", 0)

    def emit(self, answer: Answer) -> None:
        """Spool an answer and count it."""
        self._progress.count(self._writer.add(answer))

    @property
    def counts(self) -> dict[str, int]:
        """How many requests and tokens so far."""
        return {name: getattr(self._progress, name) for name in COUNTS}

    def tick(self, in_flight: int) -> None:
        """Report now and then, and let the spool write what has waited."""
        self._writer.tick()
        if time.monotonic() - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = time.monotonic()
            self._report(event="progress", **{**self.counts, "in_flight": in_flight})


class Channel:
    """Where reports go: one line each, whole, from whichever thread."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._speaking = threading.Lock()

    def report(self, **message: Any) -> None:
        """Send one line to the parent."""
        with self._speaking:
            self._file.write(json.dumps(message) + "\n")
            self._file.flush()


def serve(handler: Callable[[Report], Callable[[dict[str, Any]], None]]) -> None:
    """Carry out commands, one by one, until standard input ends.

    Args:
        handler: given where to report, returns what carries out a command. What it raises is
            reported, and the next command taken.
    """
    # The engine and its libraries print to standard output: that goes to the log with the rest.
    channel = Channel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    commands: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    handle = handler(channel.report)
    while True:
        command = commands.get()
        try:
            handle(command)
        except Exception as error:
            traceback.print_exc()
            channel.report(event="failed", error=f"{type(error).__name__}: {error}")


def _read_commands(commands: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    end_process_group()
