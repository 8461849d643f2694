"""One engine in a Ray actor: Ray Data calls it with stretches of requests, several at a time.

Answers go to the spool from here, as they come; Ray gets back how many there were. Ray starts an
actor again that dies, where there is room, and gives it what it had in hand. What of that is in the
spool already is not asked again, and a stretch that engines die of is left to be asked one by one.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import ray

from alignment_assets.host.expected import Expected
from alignment_assets.host.machine import cores
from alignment_assets.inference.backends.ray.work_file import stretch_of
from alignment_assets.inference.progress import PROGRESS_SECONDS
from alignment_assets.inference.retries import GIVEN_UP_IN_A_ROW, KILLS, RESTARTS
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import ERROR_CHARACTERS, Answer, AnsweredBy, Request
from alignment_assets.inference.vllm_settings import ON_CPUS
from alignment_assets.inference.work_queue import requests_of, unanswered
from alignment_assets.inference.worker_channel import Stretch, first_to_end

# How long an engine that has nothing to do waits before it says so.
IDLE_SECONDS = 1.0
# An engine that takes no step for so long hangs.
SILENT_SECONDS = 900.0


class Engine(Protocol):
    """What a worker has: `alignment_assets.inference.vllm_engine.VllmEngine`, or like it."""

    answered_by: AnsweredBy

    def run(
        self,
        requests: Iterator[Request | None],
        emit: Callable[[Answer], None],
        tick: Callable[[int], None],
    ) -> None:
        """Answer all requests; None is "none for now"."""


Start = Callable[[Mapping[str, Any]], Engine]


class BrokenEngineError(Expected):
    """An engine that dies of whatever it is asked, or that cannot be started here."""


class EngineWorker:
    """What Ray Data calls.

    Args:
        start: makes the engine of its settings.
        settings: of the engine, as JSON has them.
        spool: the folder that takes the answers.
        tally: the actor that counts; see `alignment_assets.inference.backends.ray.tally`.
        alone: one request is asked at a time, and one that kills is given up.
        on_cpus: the cluster has no GPUs.
    """

    def __init__(
        self,
        start: Start,
        settings: Mapping[str, Any],
        spool: str,
        tally: Any,
        *,
        alone: bool,
        on_cpus: bool,
    ) -> None:
        if on_cpus:
            _use_all_cores()
        self._spool, self._limits, self._alone = Path(spool), settings["limits"], alone
        self._tally = tally
        self._looking = threading.Lock()
        self._running = _Running(partial(_started, start, settings), self._spool, tally)
        # Ray lets go of this object when there is nothing left to ask. No engine is made in a frame
        # that has it: one is kept by whatever exception some library keeps.
        self._end = weakref.finalize(self, self._running.close)

    def __call__(self, batch: pa.Table) -> dict[str, list[int]]:
        """Answer a stretch.

        Returns:
            One row: ``requests``, how many of it have an answer now.

        Raises:
            UnwritableError, StoreError: answers cannot be put into the spool.
            BrokenEngineError: see there.
        """
        try:
            return self._answer(requests_of(stretch_of(batch)))
        except Expected as error:
            # Ray keeps the words of what is raised here, and not what it was.
            ray.get(self._tally.breaks.remote(str(error)))
            raise

    def _answer(self, requests: list[Request]) -> dict[str, list[int]]:
        name = requests[0].request_id
        before = ray.get(self._tally.begins.remote(name))
        if before:
            # Ray calls again, too, where it lost sight of an actor that goes on.
            self._running.settle(requests)
            with self._looking:
                requests = unanswered(requests, self._spool, self._limits)
        left_out = not self._alone and before > RESTARTS
        if left_out:
            requests = []
        elif self._alone and requests and before >= KILLS:
            self._give_up(requests[0])
        else:
            self._running.ask(requests)
            if self._alone:
                ray.get(self._tally.survived.remote())
        self._tally.is_done.remote(name, left_out=left_out)
        return {"requests": [len(requests)]}

    def _give_up(self, request: Request) -> None:
        words = ray.get(self._tally.state.remote())["last_words"]
        error = f"killed its engine {KILLS} times, asked alone; {words}"[:ERROR_CHARACTERS]
        self._running.put(Answer(request.request_id, request.task, "failed", error=error))
        if ray.get(self._tally.gives_up.remote(request.request_id)) == GIVEN_UP_IN_A_ROW:
            raise BrokenEngineError(
                f"the engine dies of whatever it is asked: {GIVEN_UP_IN_A_ROW} requests in a row "
                f"killed it {KILLS} times each, asked alone; {words}"
            )


class _Running:
    """An engine with its thread, which is kept full by whoever asks."""

    def __init__(self, start: Callable[[], Engine], spool: Path, tally: Any) -> None:
        self._start, self._spool, self._tally = start, spool, tally
        self._name = ray.get_runtime_context().get_actor_id() or ""
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._hands: dict[str, _Hand] = {}
        self._error: Exception | None = None
        self._idle, self._closing = True, False
        self._closed = threading.Event()
        self._loaded: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        self._loaded.result()

    def ask(self, requests: Sequence[Request]) -> None:
        """Return when all requests have answers in the spool, or raise why they cannot be there."""
        if not requests:
            return
        hand = _Hand(len(requests))
        self._hands.update({request.request_id: hand for request in requests})
        for request in requests:
            self._requests.put(request)
        if self._error is not None:
            raise self._error
        hand.empty.result()

    def settle(self, requests: Sequence[Request]) -> None:
        """Wait for what is in hand of some requests, and have it where others see it."""
        for hand in {self._hands.get(request.request_id) for request in requests}:
            if hand is not None:
                hand.empty.result()
        self._writer.flush()

    def put(self, answer: Answer) -> None:
        """Take an answer that no engine gave."""
        self._hands[answer.request_id] = _Hand(1)
        self._emit(answer)

    def close(self) -> None:
        """End the engine, and put all answers where others see them."""
        self._closing = True
        self._tally.ends.remote(self._name)
        self._requests.put(None)
        self._thread.join()
        try:
            self._writer.__exit__(None, None, None)
        except Expected as error:
            self._tally.dies.remote(self._name, str(error))
        self._report(**self._stretch.counts)
        self._closed.set()
        ray.get(self._tally.closed.remote(self._name))

    def _say_it_ends(self) -> None:
        while not self._closed.wait(PROGRESS_SECONDS):
            if self._closing:
                self._tally.ends.remote(self._name)

    def _run(self) -> None:
        try:
            engine = self._start()
            self._writer = SpoolWriter(self._spool, engine.answered_by)
            self._stretch = Stretch(self._report, self._writer)
            version = engine.answered_by.version
            ray.get(self._tally.opened.remote(self._name, socket.gethostname(), version))
        except BaseException as error:
            self._loaded.set_exception(error)
            return
        self._stepped_at = time.monotonic()
        for watch in (self._end_with_engine, self._end_with_silence, self._say_it_ends):
            threading.Thread(target=watch, daemon=True).start()
        self._loaded.set_result(None)
        try:
            engine.run(self._feed(), self._emit, self._tick)
        except Expected as error:  # of the spool's: no other actor would fare better
            self._error = error
            for hand in set(self._hands.values()):
                hand.empty.set_exception(error)
        except BaseException as error:
            self._die(f"{type(error).__name__}: {error}")

    def _feed(self) -> Iterator[Request | None]:
        while True:
            try:
                request = self._requests.get(block=self._idle, timeout=IDLE_SECONDS)
            except queue.Empty:
                yield None
                continue
            if request is None:
                return
            self._idle = False
            yield request

    def _emit(self, answer: Answer) -> None:
        self._stretch.emit(answer)
        hand = self._hands.pop(answer.request_id)
        hand.left -= 1
        if not hand.left:
            hand.empty.set_result(None)

    def _tick(self, in_flight: int) -> None:
        self._idle, self._stepped_at = in_flight == 0, time.monotonic()
        self._stretch.tick(in_flight)

    def _report(self, **counts: Any) -> None:
        counts.pop("event", None)
        self._tally.progress.remote(self._name, counts)

    def _end_with_engine(self) -> None:
        """When a process of vLLM's is killed, vLLM waits for its answer for ever: do not."""
        if gone := first_to_end(multiprocessing.active_children()):
            self._die(f"EngineDeadError: {gone} ended")

    def _end_with_silence(self) -> None:
        while time.monotonic() - self._stepped_at < SILENT_SECONDS:
            time.sleep(SILENT_SECONDS / 10)
        self._die(f"the engine has taken no step for {SILENT_SECONDS:.0f} s")

    def _die(self, why: str) -> None:
        """End this process, so that Ray starts another."""
        if self._closing:
            return
        ray.get(self._tally.dies.remote(self._name, why[:ERROR_CHARACTERS]))
        os._exit(1)


class _Hand:
    """Requests that are waited for together."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.empty: Future[None] = Future()


def _use_all_cores() -> None:
    """Have this process's engine compute on its node's cores, before it loads what computes."""
    if os.environ.get("OMP_NUM_THREADS") == "1":  # Ray's, for the one CPU that is reserved
        os.environ["OMP_NUM_THREADS"] = str(cores())
    for name, value in ON_CPUS.items():
        os.environ.setdefault(name, value)


def start_vllm(settings: Mapping[str, Any]) -> Engine:
    """Return vLLM's engine, which only a worker loads."""
    from alignment_assets.inference.vllm_engine import EngineSettings, VllmEngine

    return VllmEngine(EngineSettings(**settings))


def _started(start: Start, settings: Mapping[str, Any]) -> Engine:
    folder = Path(settings["location"])
    if folder.is_absolute() and not folder.is_dir():
        raise BrokenEngineError(
            f"{socket.gethostname()} has no folder {folder}: put the weights where all nodes of "
            f"the cluster have them, or name a hub's (weights: hf:…)"
        )
    return start(settings)
