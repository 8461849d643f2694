"""The worker: a process that holds one vLLM engine and writes its answers to the spool.

Started by `alignment_assets.inference.backends.vllm.engines`; how it is told what to do, and ends
with its step, is `alignment_assets.inference.worker_channel`'s part.
"""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.work_queue import WorkQueue
from alignment_assets.inference.worker_channel import (
    Report,
    Stretch,
    end_process_group,
    first_to_end,
    serve,
)


class Worker:
    """Takes commands one by one."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._engine: Any = None

    def handle(self, command: dict[str, Any]) -> None:
        """Carry out one command."""
        if command["do"] == "load":
            from alignment_assets.inference.vllm_engine import EngineSettings, VllmEngine

            self._engine = VllmEngine(EngineSettings(**command["settings"]))
            threading.Thread(target=self._end_with_engine, daemon=True).start()
            self._report(event="ready", version=self._engine.answered_by.version)
        elif command["do"] == "answer":
            with SpoolWriter(Path(command["spool"]), self._engine.answered_by) as writer:
                stretch = Stretch(self._report, writer)
                self._engine.run(
                    iter(WorkQueue(Path(command["requests"]))), stretch.emit, stretch.tick
                )
            self._report(event="done", **stretch.counts)

    def _end_with_engine(self) -> None:
        """When a process of vLLM's is killed, vLLM waits for its answer for ever: do not."""
        if gone := first_to_end(multiprocessing.active_children()):
            self._report(event="failed", error=f"EngineDeadError: {gone} ended")
            end_process_group()


def main() -> None:
    """Serve until standard input ends."""
    serve(lambda report: Worker(report).handle)


if __name__ == "__main__":
    main()
