"""Engines side by side: worker processes that drain one queue of requests into one spool.

Here belongs that a worker which dies is started again. What becomes of the requests that it had in
hand is `answering`'s part; which devices a worker gets is decided elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alignment_assets.inference.backends.vllm.answering import Answering
from alignment_assets.inference.progress import COUNTS, Progress
from alignment_assets.inference.retries import backoff
from alignment_assets.inference.worker_process import WorkerError, WorkerProcess

PAUSE_SECONDS = (1.0, 60.0)
# A worker that says nothing for so long hangs. It speaks every second while it answers, and not at
# all while it reads weights.
SILENT_LOADING = 3600.0
SILENT_ANSWERING = 900.0


class VllmWorker(WorkerProcess):
    """A worker with one engine on this host."""

    module = "alignment_assets.inference.backends.vllm.worker"
    called = "the vLLM worker"


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
            Engine(f"{name}-{number}" if number else name, settings, environment, logs)
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

        What an engine has in hand when it dies is asked again. Where that brings no new answer, or
        an engine dies too often, it is asked one by one; what kills twice then counts as failed.

        Raises:
            WorkerError: an engine cannot be started, or dies of whatever it is asked.
        """
        progress.engine, progress.engines = "vllm", len(self._engines)
        progress.engine_version = self._engines[0].version
        Answering(self._engines, self.settings["limits"], spool, progress, report).run(requests)

    def close(self) -> None:
        """End all workers and every process they started."""
        for engine in self._engines:
            engine.close()

    @contextmanager
    def _threads(self) -> Iterator[Callable[..., Future[None]]]:
        """Run functions side by side; whatever ends the body early ends the workers too."""
        with ThreadPoolExecutor(len(self._engines)) as threads:
            try:
                yield threads.submit
            except BaseException:
                self.close()
                raise


class Engine:
    """One worker, started again when it dies."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], environment: Mapping[str, str], logs: Path
    ) -> None:
        self._name, self._settings, self._environment = name, settings, environment
        self._folder = logs
        self._worker: VllmWorker | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self.counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self.version = ""
        self.restarts = 0
        self.deaths = 0
        self.last_words = ""
        self.logs: list[Path] = []

    def load(self) -> None:
        """Start the worker and have it load the engine."""
        with self._lock:
            if self._closed.is_set():
                raise WorkerError(f"{self._name}: closed")
            worker = self._worker = VllmWorker(self._name, self._folder, self._environment)
        self.logs.append(worker.log)
        command = {"do": "load", "settings": self._settings}
        for event in worker.ask(command, until="ready", silence=SILENT_LOADING):
            self.version = event.get("version", "")

    def begin(self) -> None:
        """Count from here on: one more `Answering` starts."""
        self.counts = dict.fromkeys(COUNTS, 0)
        self.restarts = self.deaths = 0

    @property
    def is_closed(self) -> bool:
        """Whether it was ended for good."""
        return self._closed.is_set()

    def answer(self, command: Mapping[str, Any], restarts: int) -> None:
        """Answer what the queue has, until the worker has died more than ``restarts`` times."""
        while True:
            try:
                self.start()
                self.attempt(command)
                return
            except WorkerError as error:
                if self.is_closed:
                    raise
                self.last_words = str(error)
                self.deaths += 1
                if self.deaths > restarts:
                    return
            self._closed.wait(backoff(self.deaths, *PAUSE_SECONDS))

    def start(self) -> None:
        """Start the worker again if it is dead.

        Raises:
            WorkerError: the engine cannot be loaded.
        """
        if self._worker is None or not self._worker.alive:
            self.restarts += 1
            self.load()

    def attempt(self, command: Mapping[str, Any]) -> None:
        """Have the worker carry out a command; see `WorkerProcess.ask` for what is raised."""
        before = dict(self.counts)
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
