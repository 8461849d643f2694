"""Engines side by side: worker processes that drain one queue of requests into one spool.

Here belongs what happens when a worker dies: it is started again, and what it had in hand is asked
again. Which devices a worker gets is decided elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alignment_assets.inference.backends.vllm.process import WorkerError, WorkerProcess
from alignment_assets.inference.progress import COUNTS, PROGRESS_SECONDS, Progress
from alignment_assets.inference.retries import backoff
from alignment_assets.inference.work_queue import write_unanswered

RESTARTS = 3
PAUSE_SECONDS = (1.0, 60.0)
# A worker that says nothing for so long hangs. It speaks every second while it answers, and not at
# all while it reads weights.
SILENT_LOADING = 3600.0
SILENT_ANSWERING = 900.0


class Engines:
    """Workers that have the same engine loaded.

    Args:
        name: the model's, for log files and messages.
        settings: of `engine.EngineSettings`.
        environments: one for each worker, on top of this process's own.
        logs: the folder for their logs.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        environments: Sequence[Mapping[str, str]],
        logs: Path,
    ) -> None:
        self.settings = dict(settings)
        self._engines = [
            _Engine(f"{name}-{number}" if number else name, settings, environment, logs)
            for number, environment in enumerate(environments)
        ]

    def load(self) -> None:
        """Load all engines at once.

        Raises:
            WorkerError: one of them cannot be loaded; none is left then.
        """
        with self._threads() as start:
            _finish([start(engine.load) for engine in self._engines])

    def answer(
        self,
        requests: Path,
        spool: Path,
        progress: Progress,
        report: Callable[[Progress], None],
    ) -> None:
        """Answer all requests of a work file.

        Raises:
            WorkerError: an engine died more often than `RESTARTS` times.
        """
        progress.engine, progress.engines = "vllm", len(self._engines)
        progress.engine_version = self._engines[0].version
        counted: dict[str, int] = dict.fromkeys(COUNTS, 0)
        while True:
            command = {"do": "answer", "requests": str(requests), "spool": str(spool)}
            restarts = {engine: engine.restarts for engine in self._engines}
            for engine in self._engines:
                engine.counts = dict.fromkeys(COUNTS, 0)
            with self._threads() as start:
                running = [start(engine.answer, command) for engine in self._engines]
                while wait(running, PROGRESS_SECONDS, FIRST_EXCEPTION).not_done:
                    self._tell(progress, report, counted)
                    if any(future.done() and future.exception() for future in running):
                        break
                _finish(running)
            self._tell(progress, report, counted)
            died = any(engine.restarts > before for engine, before in restarts.items())
            if progress.done == progress.total and not died:
                return
            # What an engine had in hand when it died went with it.
            rest = requests.with_suffix(".rest.parquet")
            missing = write_unanswered(requests, spool, self.settings["limits"], rest)
            if not missing:
                return
            if not died:
                raise WorkerError(
                    f"{missing:,} requests came back from the engine without an answer; "
                    f"see {', '.join(progress.logs)}"
                )
            counted = {name: getattr(progress, name) for name in COUNTS}
            counted["done"] = progress.total - missing
            requests = rest.rename(requests.with_name(f"rest-{time.monotonic_ns()}.parquet"))

    def close(self) -> None:
        """End all workers and every process they started."""
        for engine in self._engines:
            engine.close()

    def _tell(
        self, progress: Progress, report: Callable[[Progress], None], counted: Mapping[str, int]
    ) -> None:
        for name in COUNTS:
            now = sum(engine.counts[name] for engine in self._engines)
            setattr(progress, name, now if name == "in_flight" else counted[name] + now)
        progress.restarts = sum(engine.restarts for engine in self._engines)
        progress.logs = [str(log) for engine in self._engines for log in engine.logs]
        report(progress)

    @contextmanager
    def _threads(self) -> Iterator[Callable[..., Future[None]]]:
        """Run functions side by side; whatever ends the body early ends the workers too."""
        with ThreadPoolExecutor(len(self._engines)) as threads:
            try:
                yield threads.submit
            except BaseException:
                self.close()
                raise


class _Engine:
    """One worker, started again when it dies."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], environment: Mapping[str, str], logs: Path
    ) -> None:
        self._name, self._settings, self._environment = name, settings, environment
        self._folder = logs
        self._worker: WorkerProcess | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.version = ""
        self.restarts = 0
        self.logs: list[Path] = []

    def load(self) -> None:
        """Start the worker and have it load the engine."""
        with self._lock:
            if self._closed.is_set():
                raise WorkerError(f"{self._name}: closed")
            worker = self._worker = WorkerProcess(self._name, self._folder, self._environment)
        self.logs.append(worker.log)
        command = {"do": "load", "settings": self._settings}
        for event in worker.ask(command, until="ready", silence=SILENT_LOADING):
            self.version = event.get("version", "")

    def answer(self, command: Mapping[str, Any]) -> None:
        """Answer what the queue has, through up to `RESTARTS` deaths of the worker."""
        for number in range(1, RESTARTS + 2):
            try:
                self._attempt(command)
                return
            except WorkerError:
                if number > RESTARTS or self._closed.is_set():
                    raise
            self._closed.wait(backoff(number, *PAUSE_SECONDS))

    def _attempt(self, command: Mapping[str, Any]) -> None:
        before = dict(self.counts)
        if self._worker is None or not self._worker.alive:
            self.restarts += 1
            self.load()
        assert self._worker
        try:
            for event in self._worker.ask(command, until="done", silence=SILENT_ANSWERING):
                for name in COUNTS:
                    self.counts[name] = before[name] + event.get(name, 0)
        except WorkerError:
            self.counts["in_flight"] = 0
            self._worker.close()
            raise

    def close(self) -> None:
        """End the worker for good."""
        with self._lock:
            self._closed.set()
            if self._worker:
                self._worker.close()


def _finish(futures: Sequence[Future[None]]) -> None:
    """Wait until all are done, or raise what the first failed with."""
    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
        future.result()
    for future in futures:
        future.result()
