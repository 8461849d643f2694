"""Ray's driver with mock engines in its actors, which write to the spool or count alone.

What a benchmark says in ``engine_arguments``: ``spooled``, which of them. Beside it, what Ray's
processes take of memory and processor.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from bisect import bisect
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from alignment_assets.inference.backends.ray import engine_worker
from alignment_assets.inference.backends.ray.driver import Driver
from alignment_assets.inference.backends.ray.process import DriverProcess
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer, AnsweredBy
from alignment_assets.inference.worker_channel import serve
from tests.support.ray_engine import FakeEngine

LOOK_SECONDS = 0.2
ACTOR = "actor"
# Processes by what their command lines have.
KINDS = {
    "driver": "benchmarks.ray_driver",
    ACTOR: "ray::MapWorker",
    "tally": "ray::Tally",
    "raylet": "/raylet/raylet",
    "gcs": "/gcs/gcs_server",
}
REST, COUNT = "rest of Ray", "processes"


class Counting:
    """In place of a spool's writer: notes beside its folder how an actor's answers came.

    The note is JSON: ``answers``, ``first`` and ``last`` (seconds since 1970), ``closing`` (s until
    what waited was in files), ``processor`` (s of the actor's process from the first on).
    """

    def __init__(self, folder: Path, answered_by: AnsweredBy) -> None:
        self._notes = folder.parent
        self._answers, self._first, self._last, self._spent = 0, 0.0, 0.0, 0.0

    def add(self, answer: Answer) -> Answer:
        """Count it."""
        if not self._answers:
            self._first, self._spent = time.time(), time.process_time()
        self._answers += 1
        kept = self.keep(answer)
        self._last = time.time()
        return kept

    def keep(self, answer: Answer) -> Answer:
        """Keep nothing."""
        return answer

    def tick(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def __exit__(self, *error: object) -> None:
        started = time.time()
        self.close()
        note = {
            "answers": self._answers,
            "first": self._first,
            "last": self._last,
            "closing": time.time() - started,
            "processor": time.process_time() - self._spent,
        }
        (self._notes / f"{os.getpid()}.json").write_text(json.dumps(note), encoding="utf-8")


class Spooling(Counting):
    """The same, with the spool's writer."""

    def __init__(self, folder: Path, answered_by: AnsweredBy) -> None:
        super().__init__(folder, answered_by)
        self._writer = SpoolWriter(folder, answered_by)

    def keep(self, answer: Answer) -> Answer:
        """Put it into the spool."""
        return self._writer.add(answer)

    def tick(self) -> None:
        """Raise what keeps answers off the disk."""
        self._writer.tick()

    def close(self) -> None:
        """Have all answers in files."""
        self._writer.__exit__(None, None, None)


def start(settings: Mapping[str, Any]) -> FakeEngine:
    """Return a mock engine; this runs in its actor, before the writer is made."""
    spooled = settings["engine_arguments"]["spooled"]
    engine_worker.SpoolWriter = Spooling if spooled else Counting
    return FakeEngine(settings)


class MockDriver(DriverProcess):
    """The step's side of it."""

    module = "benchmarks.ray_driver"


class Watch(threading.Thread):
    """Looks at the processes below this one.

    Attributes:
        peaks: by a kind of process, the most memory that one of them had, in MiB; beside these, how
            many processes there were at most.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, float] = {}
        self._spent: dict[int, tuple[str, float]] = {}
        self._looks: list[tuple[float, Counter[str]]] = []
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._ended.wait(LOOK_SECONDS):
            processes = psutil.Process().children(recursive=True)
            self.peaks[COUNT] = max(self.peaks.get(COUNT, 0), len(processes))
            for process in processes:
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                    line, times = " ".join(process.cmdline()), process.cpu_times()
                except (OSError, psutil.Error):
                    continue
                peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                kind = next((kind for kind, part in KINDS.items() if part in line), REST)
                self._spent[process.pid] = kind, times.user + times.system
                mebibytes = int(peak[1]) / 1024 if peak else 0.0
                self.peaks[kind] = max(self.peaks.get(kind, 0.0), mebibytes)
            total = Counter[str]()
            for kind, seconds in self._spent.values():
                total[kind] += seconds
            self._looks.append((time.time(), total))

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()

    def processor(self, first: float, last: float) -> dict[str, float]:
        """Return processor seconds of each kind of process between two times."""
        times = [at for at, _ in self._looks]
        before, after = (
            self._looks[min(bisect(times, at), len(times) - 1)][1] for at in (first, last)
        )
        return {kind: after[kind] - before[kind] for kind in (*KINDS, REST)}


def main() -> None:
    """Serve until standard input ends."""
    from benchmarks.ray_driver import start  # by its name here, not __main__'s

    serve(lambda report: Driver(report, start).handle)


if __name__ == "__main__":
    main()
