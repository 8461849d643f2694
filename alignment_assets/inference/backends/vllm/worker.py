"""The worker: a process that holds one vLLM engine and writes its answers to the spool.

It is told what to do by lines of JSON on standard input and reports by lines of JSON on standard
output. When its standard input ends, so does it, with its whole process group: a worker never
outlives the step that started it. Started by `alignment_assets.inference.backends.vllm.process`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TextIO

from alignment_assets.inference.progress import COUNTS, PROGRESS_SECONDS, Progress
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer
from alignment_assets.inference.work_queue import WorkQueue


def end_process_group() -> None:
    """Kill this process and all its children, engine processes among them."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


class Stretch:
    """The work of one command: how far it is, and where answers go."""

    def __init__(self, report: Any, writer: SpoolWriter) -> None:
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


class Worker:
    """Takes commands one by one."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel
        self._speaking = threading.Lock()
        self._engine: Any = None

    def report(self, **message: Any) -> None:
        """Send one line to the parent."""
        with self._speaking:
            self._channel.write(json.dumps(message) + "\n")
            self._channel.flush()

    def handle(self, command: dict[str, Any]) -> None:
        """Carry out one command."""
        if command["do"] == "load":
            from alignment_assets.inference.backends.vllm.engine import EngineSettings, VllmEngine

            self._engine = VllmEngine(EngineSettings(**command["settings"]))
            threading.Thread(target=self._end_with_engine, daemon=True).start()
            self.report(event="ready", version=self._engine.answered_by.version)
        elif command["do"] == "answer":
            with SpoolWriter(Path(command["spool"]), self._engine.answered_by) as writer:
                stretch = Stretch(self.report, writer)
                self._engine.run(
                    iter(WorkQueue(Path(command["requests"]))), stretch.emit, stretch.tick
                )
            self.report(event="done", **stretch.counts)

    def _end_with_engine(self) -> None:
        """When a process of vLLM's is killed, vLLM waits for its answer for ever: do not."""
        processes = multiprocessing.active_children()
        if processes:
            wait([process.sentinel for process in processes])
            gone = ", ".join(f"{p.name} ({p.exitcode})" for p in processes if not p.is_alive())
            self.report(event="failed", error=f"EngineDeadError: {gone} ended")
            end_process_group()


def _read_commands(commands: queue.Queue[dict[str, Any]]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    end_process_group()


def main() -> None:
    """Serve until standard input ends."""
    # The engine and its libraries print to standard output: that goes to the log with the rest.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read_commands, args=(commands,), daemon=True).start()
    worker = Worker(channel)
    while True:
        command = commands.get()
        try:
            worker.handle(command)
        except Exception as error:
            traceback.print_exc()
            worker.report(event="failed", error=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
