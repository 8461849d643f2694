"""Engines that die of what they are asked: who is asked again, and what ends the run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.inference.backends.vllm import engines as vllm_engines
from alignment_assets.inference.backends.vllm.engines import Engines
from alignment_assets.inference.progress import COUNTS, Progress
from alignment_assets.inference.retries import GIVEN_UP_IN_A_ROW, RESTARTS
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer, AnsweredBy, Request
from alignment_assets.inference.work_queue import WorkQueue
from alignment_assets.inference.worker_process import WorkerError
from tests.integration.conftest import read_spool, write_requests
from tests.support.ids import named

# Requests that an engine holds at once; they go with it when it dies.
IN_HAND = 8
LIMITS = json.dumps({"max_model_len": 10})


@dataclass
class Host:
    """What kills the workers of a test, and how many there were."""

    kills: Callable[[str, int], bool]
    loads: Callable[[int], bool] = lambda number: True
    started: int = 0
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    """Put workers in this process in place of real ones: they answer all but what kills them."""
    host = Host(kills=lambda text, times: False)

    class Worker:
        def __init__(self, name: str, logs: Path, environment: Mapping[str, str]) -> None:
            host.started += 1
            self.number = host.started
            self.log = logs / f"{name}-{self.number}.log"
            self.alive = True

        def ask(
            self, command: Mapping[str, Any], until: str, silence: float
        ) -> Iterator[dict[str, Any]]:
            if command["do"] == "load":
                if not host.loads(self.number):
                    self.alive = False
                    raise WorkerError("the vLLM worker failed: no memory left")
                yield {"event": "ready", "version": "stand-in"}
                return
            counts = dict.fromkeys(COUNTS, 0)
            hand: list[Request] = []
            queue = iter(WorkQueue(Path(command["requests"])))
            with SpoolWriter(Path(command["spool"]), AnsweredBy("vllm", "s", LIMITS)) as writer:
                while True:
                    hand += islice(queue, IN_HAND - len(hand))
                    for one in hand:
                        name = named(one.request_id)
                        host.asked.append(name)
                        if host.kills(name, host.asked.count(name)):
                            self.alive = False
                            raise WorkerError(f"the vLLM worker ended: killed by {name}")
                    if not hand:
                        break
                    writer.add(Answer(hand.pop(0).request_id, "t", "stop", text="fine"))
                    counts["done"] += 1
                    yield {"event": "progress", **counts}
            yield {"event": "done", **counts}

        def close(self) -> None:
            self.alive = False

    monkeypatch.setattr(vllm_engines, "VllmWorker", Worker)
    monkeypatch.setattr(vllm_engines, "PAUSE_SECONDS", (0.0, 0.0))
    return host


def answer(home: Path, count: int, engines: int = 1) -> Progress:
    """Ask r0, r1, …; return how it went."""
    requests = [Request(f"r{number}", "t", "generate", []) for number in range(count)]
    write_requests(home / "work.parquet", requests)
    progress = Progress("step", count)
    running = Engines("m", {"limits": LIMITS}, [{}] * engines, home / "logs")
    running.load()
    running.answer(home / "work.parquet", home / "spool", progress, lambda progress: None)
    return progress


def reasons(home: Path) -> dict[str, str]:
    """Return how each request ended."""
    return {name: row["finish_reason"] for name, row in read_spool(home / "spool").items()}


@pytest.mark.parametrize("engines", [1, 2])
@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize("poison", [{0}, {0, 1, 2}, {5, 60, 61, 120, 180, 190, 199}])
def test_a_request_that_kills_every_engine_costs_no_other_its_answer(
    poison: set[int], count: int, engines: int, host: Host, tmp_path: Path
) -> None:
    deadly = {f"r{number % count}" for number in poison}
    host.kills = lambda name, times: name in deadly
    progress = answer(tmp_path, count, engines)
    expected = {f"r{number}": "stop" for number in range(count)} | dict.fromkeys(deadly, "failed")
    assert reasons(tmp_path) == expected
    assert (progress.done, progress.failed) == (count, len(deadly))
    assert progress.restarts == host.started - engines <= 12 * len(deadly) + RESTARTS
    errors = {name: row["error"] for name, row in read_spool(tmp_path / "spool").items()}
    assert all(f"killed by {name}" in errors[name] for name in deadly)


def test_an_engine_that_is_killed_now_and_then_loses_nothing(host: Host, tmp_path: Path) -> None:
    host.kills = lambda name, times: times == 1 and name in {"r10", "r50", "r90", "r130", "r170"}
    progress = answer(tmp_path, 200)
    assert set(reasons(tmp_path).values()) == {"stop"} and len(reasons(tmp_path)) == 200
    assert (progress.done, progress.failed) == (200, 0)


def test_what_an_engine_answered_for_another_step_is_not_counted(
    host: Host, tmp_path: Path
) -> None:
    host.kills = lambda name, times: times == 1 and name == "r3"
    running = Engines("m", {"limits": LIMITS}, [{}], tmp_path / "logs")
    running.load()
    for step, count, restarts in (("one", 30, 1), ("two", 20, 0), ("three", 9, 0)):
        requests = [Request(f"r{number}", "t", "generate", []) for number in range(count)]
        write_requests(tmp_path / f"{step}.parquet", requests)
        progress = Progress(step, count)
        running.answer(
            tmp_path / f"{step}.parquet", tmp_path / step, progress, lambda progress: None
        )
        assert (progress.done, progress.restarts) == (count, restarts)


def test_an_engine_that_dies_of_everything_ends_the_run_and_says_why(
    host: Host, tmp_path: Path
) -> None:
    host.kills = lambda name, times: True
    with pytest.raises(WorkerError, match=r"dies of whatever it is asked: .*killed by r\d"):
        answer(tmp_path, 200)
    assert host.started <= 2 + RESTARTS + 2 * GIVEN_UP_IN_A_ROW + 4


def test_an_engine_that_cannot_be_started_again_ends_the_run(host: Host, tmp_path: Path) -> None:
    host.kills = lambda name, times: name == "r20"
    host.loads = lambda number: number < 2
    with pytest.raises(WorkerError, match="no memory left"):
        answer(tmp_path, 200)
    assert host.started <= 2 + 2 * RESTARTS
