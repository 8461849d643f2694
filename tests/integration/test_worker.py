"""The worker process: it dies with its step, its errors reach the user, and no answer is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Job
from alignment_assets.inference.backends.vllm.backend import VllmInference, close_engines
from alignment_assets.inference.backends.vllm.engines import VllmWorker
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import Request
from alignment_assets.inference.worker_process import WorkerError
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.stages import Sampling
from tests.conftest import REPOSITORY, changed_recipe
from tests.integration.conftest import ask, read_spool, write_requests

pytestmark = pytest.mark.integration

STEP = """
import sys
from pathlib import Path
from alignment_assets.inference.progress import Progress
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Job
from alignment_assets.inference.backends.vllm.backend import VllmInference
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe
home = Path(sys.argv[1])
work, spool = home / "requests.parquet", home / "spool"
progress, told = Progress("step", 400), lambda p: print(p.done, flush=True)
run = Run(changed_recipe(), home)
VllmInference().answer(
    Job(run, "smollm2-135m", "generate", work, spool, GpuPool(), progress, told)
)
"""


def requests(count: int, tokens: int = 64) -> list[Request]:
    sampling = Sampling(max_tokens=tokens).model_dump()
    return [
        Request(
            f"r{n}",
            "generate",
            "generate",
            [{"role": "user", "content": f"Tell me about the number {n}."}],
            sampling,
        )
        for n in range(count)
    ]


def start_step(home: Path) -> subprocess.Popen[str]:
    """Start a process that asks 400 requests, and wait until some are answered on disk."""
    write_requests(home / "requests.parquet", requests(400))
    step = subprocess.Popen(
        [sys.executable, "-c", STEP, str(home)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not list((home / "spool").glob("*-*.log")):
        assert step.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    return step


def engine_processes(home: Path) -> list[psutil.Process]:
    """Return the worker of a home and all its children."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "alignment_assets.inference.backends.vllm.worker" in (process.info["cmdline"] or []):
            try:
                files = [file.path for file in process.open_files()]
            except psutil.Error:
                continue
            if any(str(home) in path for path in files):
                found += [process, *process.children(recursive=True)]
    return found


@pytest.mark.parametrize(
    ("how", "own_processes"),
    [(signal.SIGKILL, "1"), pytest.param(signal.SIGTERM, "0", marks=pytest.mark.soak)],
)
def test_no_engine_process_outlives_its_step_and_no_answer_is_lost(
    how: signal.Signals,
    own_processes: str,
    smollm2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", own_processes)
    step = start_step(tmp_path)
    engines = engine_processes(tmp_path)
    assert len(engines) >= (3 if own_processes == "1" else 1)

    with step:  # which closes what it prints to
        os.kill(step.pid, how)
        step.wait(20)

    _, alive = psutil.wait_procs(engines, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    # What was answered is on disk, whole, each once.
    answered = read_spool(tmp_path / "spool")
    assert 0 < len(answered) < 400
    assert all(row["text"] is not None for row in answered.values())


@pytest.mark.parametrize(
    ("own_processes", "victim"),
    [
        (False, "backends.vllm.worker"),
        # As on GPUs: vLLM's engine core in a process of its own.
        pytest.param(True, "VLLM::EngineCor", marks=pytest.mark.soak),
    ],
)
def test_an_engine_that_is_killed_is_started_again_and_what_it_held_is_asked_again(
    own_processes: bool,
    victim: str,
    smollm2: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close_engines()  # one that another test has left would do for both replicas
    if own_processes:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    models = changed_recipe().model_dump(mode="json")["models"]
    models["smollm2-135m"]["backend"]["vllm"]["replicas"] = 2
    # More than two engines hold at once, so that both are in the middle of some.
    write_requests(tmp_path / "requests.parquet", requests(260, tokens=16))
    progress = Progress("step", 260)
    killed: list[psutil.Process] = []
    seen = []

    def kill_one(progress: Progress) -> None:
        if progress.done and not killed:
            children = psutil.Process().children(recursive=True)
            # Linux tells 15 characters of a name, and psutil the rest where it can. Each engine's
            # process has a child of its own, VLLM::Worker.
            names = [" ".join([child.name(), *child.cmdline()]) for child in children]
            seen.append((progress.done, progress.in_flight, names))
            assert own_processes or "VLLM::" not in " ".join(names)
            victims = [one for one, name in zip(children, names, strict=True) if victim in name]
            if len(victims) == 2:  # both replicas are at work
                killed.append(victims[0])
                victims[0].kill()

    job = Job(
        Run(changed_recipe({"models": models}), tmp_path),
        "smollm2-135m",
        "generate",
        tmp_path / "requests.parquet",
        tmp_path / "spool",
        GpuPool(),
        progress,
        kill_one,
    )
    VllmInference().answer(job)

    assert killed and progress.restarts == 1, "\n".join(map(str, seen))
    assert seen[-1][0] < 260, "all was answered before one was killed"
    assert len(progress.logs) == 3
    assert progress.done == 260 and progress.failed == 0
    assert read_spool(tmp_path / "spool").keys() == {f"r{number}" for number in range(260)}
    close_engines()


def test_an_engine_that_cannot_start_says_why(tmp_path: Path, smollm2: Path) -> None:
    models = changed_recipe().model_dump(mode="json")["models"]
    models["smollm2-135m"]["max_model_len"] = 10_000_000
    recipe = changed_recipe({"models": models})
    with pytest.raises(WorkerError, match="max_model_len"):
        ask(recipe, "smollm2-135m", requests(1), tmp_path)


def test_a_worker_that_dies_is_reported_and_the_next_one_starts(
    tmp_path: Path, smollm2: Path
) -> None:
    worker = VllmWorker("test", tmp_path / "logs", {})
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"is dead|exit code -9"):
        list(worker.ask({"do": "load", "settings": {}}, until="ready", silence=60))
    worker.close()
    close_engines()
    answers = ask(changed_recipe(), "smollm2-135m", requests(3), tmp_path / "again")
    assert sorted(answers) == ["r0", "r1", "r2"]
