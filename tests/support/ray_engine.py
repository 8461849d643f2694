"""The fake engine as a Ray actor holds it, and the backend that asks for it."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from alignment_assets.inference.backends.ray.backend import RayInference
from alignment_assets.inference.backends.ray.process import DriverProcess
from alignment_assets.inference.types import Answer, AnsweredBy, Request
from alignment_assets.inference.worker_channel import serve
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run
from tests.support.fakes import FakeInference, fake_answer
from tests.support.line_log import append_entry


def _no_space_left(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FakeEngine:
    """Answers as `FakeInference` does, as many at once as it is told.

    Args:
        settings: an engine's; what a recipe says in ``engine_arguments`` is for this one:
            ``seconds``, that a step takes; ``loading``, those that it takes to make; ``log``, a
            file for ids asked; ``kills``, a word: who is asked it ends the process; ``unloadable``,
            that it cannot be made; ``full``, that the disk is.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        told = settings["engine_arguments"]
        self._seconds, self._log = told.get("seconds", 0.0), told.get("log", os.devnull)
        self._kills, self._at_once = told.get("kills"), settings["max_num_seqs"]
        time.sleep(told.get("loading", 0.0))
        if told.get("unloadable"):
            raise MemoryError("no memory left for the weights")
        if told.get("full"):
            os.fdatasync = _no_space_left
        self.answered_by = AnsweredBy(told.get("engine", "fake"), "1", settings["limits"])

    def run(
        self,
        requests: Iterator[Request | None],
        emit: Callable[[Answer], None],
        tick: Callable[[int], None],
    ) -> None:
        flight: list[Request] = []
        exhausted = False
        while not exhausted or flight:
            while len(flight) < 2 * self._at_once and not exhausted:
                try:
                    request = next(requests)
                except StopIteration:
                    exhausted = True
                    break
                if request is None:
                    break
                if self._log != os.devnull:
                    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
                    entry = {"id": request.request_id, "process": os.getpid(), "gpus": gpus}
                    append_entry(self._log, entry)
                if self._kills and self._kills in json.dumps(request.messages):
                    os._exit(9)
                flight.append(request)
            if flight:
                time.sleep(self._seconds)
                for request in flight[: self._at_once]:
                    emit(fake_answer(request))
                del flight[: self._at_once]
            tick(len(flight))


class FakeDriver(DriverProcess):
    module = "tests.support.ray_engine"


class FakeRayInference(RayInference):
    """The backend ``ray`` with `FakeEngine` in its actors, and all else as `FakeInference` says."""

    driver: ClassVar[type[DriverProcess]] = FakeDriver

    def fingerprint(self, model: str, run: Run) -> str:
        return FakeInference().fingerprint(model, run)

    def tokenizer(self, model: str, run: Run) -> str | None:
        return FakeInference().tokenizer(model, run)

    def count_tokens(
        self, model: str, run: Run, uncounted: Path, counted: Path, report: Callable[[str], None]
    ) -> None:
        FakeInference().count_tokens(model, run, uncounted, counted, report)

    def limits(self, model: Model) -> str:
        return FakeInference().limits(model)


def main() -> None:
    from alignment_assets.inference.backends.ray.driver import Driver
    from tests.support.ray_engine import FakeEngine  # by its name here, not __main__'s

    serve(lambda report: Driver(report, FakeEngine).handle)


if __name__ == "__main__":
    main()
