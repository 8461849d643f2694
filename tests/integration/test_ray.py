"""The backend ``ray`` on a real Ray, with the fake engine in its actors."""

from __future__ import annotations

import json
import re
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.paths import PACKAGE
from alignment_assets.inference.backend import BackendError, Examination, Finding, Job
from alignment_assets.inference.backends.ray import backend as ray_backend
from alignment_assets.inference.backends.ray.backend import RayInference
from alignment_assets.inference.backends.ray.settings import RaySettings
from alignment_assets.inference.backends.ray.tally import Tally
from alignment_assets.inference.backends.vllm.backend import close_engines
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.spool import spool_folder
from alignment_assets.inference.stored_spool import stored_folder
from alignment_assets.inference.types import Request
from alignment_assets.inference.worker_process import WorkerError
from alignment_assets.recipe.model import Recipe, Sampling
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import grade_schema
from tests.conftest import changed_recipe
from tests.integration.conftest import ask, read_spool, write_requests
from tests.integration.serving import save_scorer
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.ray_engine import FakeDriver, FakeRayInference

pytestmark = [pytest.mark.integration, pytest.mark.needs("ray")]

MODEL = "smollm2-135m"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """Two nodes without GPUs, of a CPU each."""
    with ray_cluster(monkeypatch, 0, 0) as cluster:
        yield cluster


def recipe_of(home: Path, **backend: Any) -> Recipe:
    """Return a recipe whose model Ray runs, with weights that the fake engine does not read."""
    weights = home / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "config.json").write_text("{}")
    models = changed_recipe().model_dump(mode="json")["models"]
    models[MODEL] |= {"weights": str(weights), "backend": {"ray": backend}}
    return changed_recipe({"models": models})


def asked(texts: list[str]) -> list[Request]:
    return [
        Request(f"r{number}", "generate", "generate", [{"role": "user", "content": text}], {})
        for number, text in enumerate(texts)
    ]


def answer(
    home: Path,
    requests: list[Request],
    report: Callable[[Progress], None] = lambda progress: None,
    log: Callable[[str], None] = print,
    spool: Path | None = None,
    **backend: Any,
) -> Progress:
    recipe = recipe_of(home, **backend)
    write_requests(home / "requests.parquet", requests)
    progress = Progress("test", len(requests))
    job = Job(
        *(Run(recipe, home), MODEL, "generate", home / "requests.parquet"),
        *(spool or home / "spool",),
        *(GpuPool(), progress, report, log),
    )
    FakeRayInference().answer(job)
    return progress


def test_a_killed_node_loses_nothing_and_doubles_nothing(
    cluster: RayCluster, tmp_path: Path
) -> None:
    count, log = 20_000, tmp_path / "asked.jsonl"

    def kill(progress: Progress) -> None:
        if progress.done > 6000 and cluster.nodes[1].poll() is None:
            cluster.kill(1)
            cluster.add_node()

    progress = answer(
        *(tmp_path, asked([f"Number {number}." for number in range(count)]), kill),
        address=cluster.address,
        replicas=2,
        max_num_seqs=64,
        engine_arguments={"seconds": 0.1, "log": str(log)},
    )
    answers = read_spool(tmp_path / "spool")  # which fails on a doubled one
    assert len(answers) == progress.done == count
    times = Counter(json.loads(line)["id"] for line in log.read_text().splitlines())
    assert len(times) == count
    # What the engine had, and what it had answered that was not yet on disk, within 0.25 s.
    assert sum(times.values()) - count <= 2 * 64 + 0.25 / 0.1 * 64
    assert progress.restarts == 1


@pytest.mark.soak
def test_a_node_that_does_not_come_back_is_done_without(
    cluster: RayCluster, tmp_path: Path
) -> None:
    def kill(progress: Progress) -> None:
        if progress.done > 300:
            cluster.kill(1)

    requests = asked([f"Number {number}." for number in range(1500)])
    slow = {"seconds": 0.3}
    progress = answer(
        *(tmp_path, requests, kill),
        address=cluster.address,
        replicas=2,
        max_num_seqs=32,
        engine_arguments=slow,
    )
    assert len(read_spool(tmp_path / "spool")) == progress.done == 1500


def test_a_lost_cluster_is_told_and_what_was_answered_is_kept(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_backend, "PAUSE_SECONDS", (0.1, 0.1))
    monkeypatch.setattr(ray_backend, "LOST_SECONDS", 2.0)

    def kill(progress: Progress) -> None:
        if progress.done > 300:
            cluster.kill(1)
            cluster.kill(0)

    options = {"address": cluster.address, "engine_arguments": {"seconds": 0.3}}
    requests = asked([f"Number {number}." for number in range(1500)])
    with pytest.raises(WorkerError, match=r"(?s)lost for 2 s.*cluster 127\.0\.0\.1:\d+ cannot"):
        answer(tmp_path, requests, kill, max_num_seqs=32, **options)
    assert 300 < len(read_spool(tmp_path / "spool")) < 1500


@pytest.mark.soak
def test_a_request_that_kills_its_engine_costs_no_other_its_answer(tmp_path: Path) -> None:
    texts = ["Number." for _ in range(200)]
    texts[77] = "This one is deadly."
    progress = answer(tmp_path, asked(texts), max_num_seqs=32, engine_arguments={"kills": "deadly"})
    answers = read_spool(tmp_path / "spool")
    assert {name for name, row in answers.items() if row["finish_reason"] != "stop"} == {"r77"}
    assert "killed its engine 2 times, asked alone" in answers["r77"]["error"]
    assert (len(answers), progress.done, progress.failed) == (200, 200, 1)


def test_what_engines_of_a_killed_driver_answered_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_backend, "PAUSE_SECONDS", (5.0, 5.0))
    count, log = 1000, tmp_path / "asked.jsonl"
    killed: list[psutil.Process] = []

    def kill(progress: Progress) -> None:
        if progress.done > 300 and not killed:
            for child in psutil.Process().children():
                if FakeDriver.module in child.cmdline():
                    killed.append(child)
                    child.kill()

    progress = answer(
        *(tmp_path, asked([f"Number {number}." for number in range(count)]), kill),
        max_num_seqs=32,
        engine_arguments={"seconds": 0.1, "log": str(log)},
    )
    assert killed and len(read_spool(tmp_path / "spool")) == progress.done == count
    asked_for = len(log.read_text().splitlines())
    assert asked_for - count <= 2 * 32 + 0.25 / 0.1 * 32


def test_folders_of_killed_drivers_go_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment_assets.inference.backends.ray import joining  # which needs Ray

    monkeypatch.setattr(joining, "FOLDERS", tmp_path)
    monkeypatch.setattr(joining, "JOINING_SECONDS", 0.0)
    left = tmp_path / f"{joining.FOLDER_PREFIX}left"
    (left / "session").mkdir(parents=True)
    with joining.folder_of_ray() as first:
        assert not left.exists()
        with joining.folder_of_ray() as second:
            assert first.is_dir() and second.is_dir()
    assert not list(tmp_path.iterdir())


@pytest.mark.soak
def test_a_port_where_no_ray_listens_is_told_in_a_minute(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        found = examined(recipe_of(tmp_path, address=address), tmp_path)
    (lost,) = [finding for finding in found if finding.verdict == "problem"]
    assert lost.subject == f"Ray cluster {address}" and "is it the head's port" in lost.text


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:0", "head:65536", ""])
def test_an_address_that_is_none_is_told_by_the_recipe(address: str) -> None:
    with pytest.raises(ValidationError, match=r"is not the head's host:port.*, nor auto"):
        RaySettings(address=address)


@pytest.mark.soak
def test_an_engine_that_dies_of_everything_ends_the_run(tmp_path: Path) -> None:
    deadly = asked(["deadly"] * 100)
    with pytest.raises(BackendError, match="dies of whatever it is asked: 4 requests in a row"):
        answer(tmp_path, deadly, max_num_seqs=32, engine_arguments={"kills": "deadly"})


def test_an_engine_that_cannot_be_loaded_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no memory left for the weights"):
        answer(tmp_path, asked(["Why?"]), engine_arguments={"unloadable": True})


@pytest.mark.soak
def test_a_full_disk_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    requests, said = asked(["Why?"] * 300), []
    full = {"seconds": 0.1, "full": True}
    with pytest.raises(BackendError, match="No space left on device"):
        answer(tmp_path, requests, log=said.append, engine_arguments=full)
    # Nothing was asked again: another engine would have found the disk as full.
    assert len(said) == 1 and "joined a Ray cluster" in said[0]


@pytest.mark.soak
@pytest.mark.needs("s3")
def test_answers_go_to_object_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.s3 import s3_server  # which needs moto

    with s3_server(tmp_path / "log") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = f"{server.create_bucket('lab')}/demo"
        here, elsewhere = (
            spool_folder(Run(changed_recipe({"spool": store}), tmp_path / home).spool, "a", MODEL)
            for home in ("here", "elsewhere")
        )
        progress = answer(tmp_path, asked(["Why?"] * 3000), spool=here)
        objects = stored_folder(elsewhere)
        assert progress.done == 3000 and objects
        objects.settle(print)
        assert read_spool(elsewhere).keys() == {f"r{number}" for number in range(3000)}


@pytest.mark.soak
def test_a_wrong_token_is_told(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, address=cluster.address)
    assert "2 nodes" in "".join(finding.text for finding in examined(recipe, tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    (lost,) = [finding for finding in examined(recipe, tmp_path) if finding.verdict == "problem"]
    assert lost.subject == f"Ray cluster {cluster.address}"
    assert "is this the cluster's token?" in lost.text and "RAY_AUTH_TOKEN" in lost.text


def test_a_ray_of_the_steps_own_ends_with_it_and_listens_on_this_host_alone(
    tmp_path: Path,
) -> None:
    seen: dict[psutil.Process, set[str]] = {}
    # Other tests leave some for as long as this process runs, as Python's resource tracker.
    before = set(psutil.Process().children(recursive=True))

    def look(progress: Progress) -> None:
        if not progress.engine_version:
            return
        for process in set(psutil.Process().children(recursive=True)) - before:
            with suppress(psutil.Error):
                seen.setdefault(process, set()).update(
                    connection.laddr.ip.removeprefix("::ffff:")
                    for connection in process.net_connections(kind="tcp")
                    if connection.status == psutil.CONN_LISTEN
                )
                folders.update(re.findall(r"/tmp/ray-\w+", " ".join(process.cmdline())))

    folders: set[str] = set()
    slow = {"seconds": 0.5}
    progress = answer(tmp_path, asked(["Why?"] * 300), look, engine_arguments=slow)
    assert progress.done == 300
    assert set().union(*seen.values()) == {"127.0.0.1"}
    assert len(folders) == 1 and not Path(*folders).exists()
    assert left_of(seen) == []


def test_no_ray_outlives_a_step_that_is_killed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from tests.integration.test_ray import answer, asked
home = Path({str(tmp_path)!r})
answer(home, asked(["Why?"] * 2000), max_num_seqs=8, engine_arguments={{"seconds": 0.2}})
"""
    step = subprocess.Popen([sys.executable, "-c", code], cwd=PACKAGE.parent)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "spool").glob("*.log")):
        assert step.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    running = psutil.Process(step.pid).children(recursive=True)
    step.kill()
    step.wait()
    assert len(running) >= 4 and left_of(running) == []
    assert read_spool(tmp_path / "spool")


def left_of(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those of some processes that do not end within half a minute."""
    _, alive = psutil.wait_procs(list(processes), timeout=30)
    return [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_gpus_are_what_engines_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ray_cluster(monkeypatch, 4, 2) as cluster:
        log = tmp_path / "asked.jsonl"
        slow = {"seconds": 0.2, "log": str(log)}
        options = {"address": cluster.address, "max_num_seqs": 8, "engine_arguments": slow}
        progress = answer(tmp_path, asked(["Why?"] * 1000), gpus=2, **options)
        assert progress.done == 1000
        gpus = {
            (entry["process"], entry["gpus"])
            for entry in map(json.loads, log.read_text().splitlines())
        }
        # Two engines on the node with four, one on that with two.
        assert sorted(shown for _, shown in gpus) == ["0,1", "0,1", "2,3"]

        recipe = recipe_of(tmp_path, gpus=4, replicas=2, address=cluster.address)
        found = {finding.subject: finding for finding in examined(recipe, tmp_path)}
        assert "2 nodes" in found[f"Ray cluster {cluster.address}"].text
        assert "6 GPUs" in found[f"Ray cluster {cluster.address}"].text
        fit = found[f"engines for {MODEL}"]
        assert fit.verdict == "problem" and "room for 1 of 4 GPUs, 2 are wanted" in fit.text
        recipe = recipe_of(tmp_path, gpus=3, pipeline_parallel_size=2, address=cluster.address)
        assert {f.verdict for f in examined(recipe, tmp_path)} == {"ok"}
        recipe = recipe_of(tmp_path, accelerator_type="H100", address=cluster.address)
        fit = {f.subject: f for f in examined(recipe, tmp_path)}[f"engines for {MODEL}"]
        assert fit.verdict == "problem" and "no node has H100 (there: none)" in fit.text

        run = Run(recipe_of(tmp_path, gpus=2, address=cluster.address), tmp_path)
        assert RayInference().engines([MODEL], run) == {MODEL: 3}

        parts = answer(tmp_path / "p", asked(["Why?"] * 9), pipeline_parallel_size=5, **options)
        assert parts.done == 9


def examined(recipe: Recipe, home: Path) -> list[Finding]:
    models = {MODEL: recipe.models[MODEL]}
    return [*RayInference().examine(Examination(Run(recipe, home), models, GpuPool()))]


def test_a_cluster_that_is_not_there_is_told_by_doctor(tmp_path: Path) -> None:
    found = examined(recipe_of(tmp_path, address="127.0.0.1:1"), tmp_path)
    (lost,) = [finding for finding in found if finding.verdict == "problem"]
    assert lost.subject == "Ray cluster 127.0.0.1:1" and "ray start" in lost.text
    with pytest.raises(WorkerError, match="cannot be joined") as raised:
        answer(tmp_path, asked(["Why?"]), address="127.0.0.1:1")
    assert "Traceback" not in str(raised.value)


def test_an_engine_that_dies_while_it_closes_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tally, now = Tally(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    tally.opened("engine", "node", "1")
    for now[0] in (100.0, 109.0):
        tally.ends("engine")
    now[0] = 118.0
    assert tally.state()["ending"] == 1
    now[0] = 120.0
    assert tally.state()["ending"] == 0


def test_an_engine_that_was_killed_has_last_words_too() -> None:
    tally = Tally()
    for _ in range(2):
        tally.opened("engine", "node", "1")
    assert tally.state()["last_words"] == "on node: its process ended without a word"
    tally.dies("engine", "of this")
    tally.opened("engine", "other node", "1")
    assert tally.state()["last_words"] == "on node: of this"


def test_a_stretch_that_ray_gives_out_again_when_it_is_done_is_known() -> None:
    tally = Tally()
    assert tally.begins("a") == 0
    tally.is_done("a")
    # Its worker died before Ray heard of it.
    assert tally.begins("a") == 1
    assert tally.begins("b") == 0


NUMBERS = [str(number) for number in range(1, 10)]
GREEDY = Sampling(temperature=0.0, max_tokens=12).model_dump()


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def tasks() -> dict[str, list[Request]]:
    """Return a few requests of each kind of question that the product asks."""
    short = Sampling(temperature=0.0, max_tokens=60).model_dump()
    schema, long = grade_schema(9), user("word " * 5000)
    turns = [[*user(f"Why {n}?"), {"role": "assistant", "content": f"Because {n}."}] for n in "abc"]
    return {
        "generate": [
            Request("long", "generate", "generate", long, GREEDY),
            *(
                Request(f"g{n}", "generate", "generate", user(f"Name {n} kings."), GREEDY)
                for n in "35"
            ),
        ],
        "grade": [
            Request(f"s{n}", "grade", "generate", user(f"Are {n} good?"), short, None, schema)
            for n in ("taxes", "cats")
        ],
        "weigh": [Request(f"w{n}", "rate", "weigh", user(f"Rate {n}."), {}, NUMBERS) for n in "16"],
        "classify": [Request(f"c{n}", "classify", "classify", t) for n, t in enumerate(turns)],
        "loglikelihood": [Request(f"l{n}", "l", "loglikelihood", t) for n, t in enumerate(turns)],
    }


def weights(row: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["logprob"] for entry in row["label_logprobs"] or ()}


@pytest.mark.parametrize(
    "task",
    ["generate", *(pytest.param(name, marks=pytest.mark.soak) for name in [*tasks()][1:])],
)
def test_vllm_in_an_actor_answers_as_vllm_on_this_host(
    task: str, smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = changed_recipe().model_dump(mode="json")["models"]
    options = {"dtype": "float32", "max_num_seqs": 8}
    models[MODEL] |= {"max_model_len": 512, "backend": {"vllm": options}}
    if task == "classify":
        save_scorer(tmp_path / "scorer", smollm2)
        models[MODEL]["weights"] = str(tmp_path / "scorer")
    requests = tasks()[task]
    # As on GPUs: vLLM's engine core in a process of its own, in place of the worker's.
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    here = ask(changed_recipe({"models": models}), MODEL, requests, tmp_path / "vllm")
    close_engines()
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING")
    models[MODEL]["backend"] = {"ray": options}
    there = ask(
        *(changed_recipe({"models": models}), MODEL, requests, tmp_path / "ray"), RayInference()
    )
    assert there.keys() == here.keys()
    for name, row in there.items():
        for column in ("finish_reason", "text", "prompt_tokens", "completion_tokens", "error"):
            assert row[column] == here[name][column]
        assert row["engine_settings"] == here[name]["engine_settings"]
        assert row["value"] == (
            here[name]["value"] and pytest.approx(here[name]["value"], abs=1e-4)
        )
        weights = [
            {w["label"]: w["logprob"] for w in one["label_logprobs"] or ()}
            for one in (row, here[name])
        ]
        assert weights[0] == pytest.approx(weights[1], abs=1e-3)
    kinds = {"generate": "text", "grade": "text", "weigh": "label_logprobs"}
    told = [row[kinds.get(task, "value")] for row in there.values()]
    assert len([one for one in told if one is not None]) >= 2
