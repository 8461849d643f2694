"""The wait for the engine's slot: told, cheap, and over when the command is asked to end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus

from alignment_assets.commands import dev
from alignment_assets.commands.home import check_home, dagster_home, dagster_instance
from alignment_assets.host.expected import Expected
from alignment_assets.inference.run_process import PROCESS_TAG, process_tag
from tests.conftest import Graph, demo_graph
from tests.support.processes import other, wait_for_word

WANTED = ("materialize", "--select", "key:completions", "--partition", "smollm2-135m")
RUN = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def home(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of nothing yet, which the command takes."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("ALIGNMENT_HOME", str(graph.home))
    return graph.home


def start_run(instance: DagsterInstance, graph: Graph, tags: dict[str, str]) -> None:
    """Let Dagster know of a run that is under way."""
    job = graph.defs.resolve_implicit_global_asset_job_def()
    instance.create_run_for_job(job, run_id=RUN, status=DagsterRunStatus.STARTED, tags=tags)


@contextmanager
def command(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command as a shell starts what it puts behind: with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "alignment_assets.commands.app", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def processor_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_wait_for_the_slot_is_told_costs_little_and_ends_when_asked(
    graph: Graph, home: Path, number: signal.Signals
) -> None:
    with dagster_instance(graph.run) as instance:
        start_run(instance, graph, process_tag(RUN))
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("engine")
        assert storage.claim_concurrency_slot("engine", RUN, "completions").is_claimed
        with command(*WANTED) as waiting:
            assert waiting.stderr
            told = waiting.stderr.readline()
            assert f"behind run {RUN} (completions, process {os.getpid()} of " in told
            assert "waiting for a slot of the pool engine" in told
            process, start = psutil.Process(waiting.pid), time.monotonic()
            before = processor_seconds(process)
            time.sleep(5)
            share = (processor_seconds(process) - before) / (time.monotonic() - start)
            assert share < 0.15
            waiting.send_signal(number)
            _, errors = waiting.communicate(timeout=120)
        assert waiting.returncode == 128 + number
        assert errors.splitlines()[-1].startswith(f"ended by {number.name}")
        info = storage.get_concurrency_info("engine")
        assert [slot.run_id for slot in info.claimed_slots] == [RUN]
        assert {step.run_id for step in info.pending_steps} <= {RUN}
        assert not [run for run in instance.get_runs() if run.run_id != RUN and not run.is_finished]


@pytest.mark.timeout(300)
def test_the_slot_of_one_that_ends_goes_to_who_waits(graph: Graph, home: Path) -> None:
    with dagster_instance(graph.run) as instance:
        start_run(instance, graph, process_tag(RUN))
        storage = instance.event_log_storage
        storage.initialize_concurrency_limit_to_default("engine")
        assert storage.claim_concurrency_slot("engine", RUN, "completions").is_claimed
        with command(*WANTED) as waiting:
            assert waiting.stderr and "waiting for a slot" in waiting.stderr.readline()
            storage.free_concurrency_slots_for_run(RUN)
            assert "completions: got a slot" in waiting.stderr.readline()


def test_dev_ends_killed_runs_and_serves_the_recipes_own_records(
    graph: Graph, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = process_tag(RUN)[PROCESS_TAG].replace('"started": ', '"started": -')
    with dagster_instance(graph.run) as instance:
        start_run(instance, graph, {PROCESS_TAG: gone})
    started = []
    monkeypatch.setattr(os, "execve", lambda *what: started.append(what))
    before = signal.getsignal(signal.SIGINT)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Expected, match=f"cannot listen on 127.0.0.1:{port}.*--port"):
            dev.dev(recipe="demo", port=port)
    assert not started
    try:
        dev.dev(recipe="demo", port=port)
    finally:
        signal.signal(signal.SIGINT, before)
    assert f"run {RUN} was killed and is ended now" in capsys.readouterr().out
    ((program, arguments, environment),) = started
    assert Path(program).exists() and arguments[-2] == "-w"
    (location,) = yaml.safe_load(Path(arguments[-1]).read_text())["load_from"]
    assert location["python_module"] == {
        "module_name": "alignment_assets.definitions", "location_name": "alignment_assets",
    }  # fmt: skip
    assert arguments[:6] == ["dg", "dev", "--host", "127.0.0.1", "--port", str(port)]
    assert environment["DAGSTER_HOME"] == str(home / "dagster")
    assert environment["ALIGNMENT_RECIPE"] == "demo"


# Where Dagster's records are


def test_each_home_has_records_of_its_own_and_the_products_settings(
    graph: Graph, home: Path
) -> None:
    with dagster_instance(graph.run) as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        start_run(instance, graph, {})
    assert dagster_home(graph.run) == home / "dagster"
    moved = home.rename(home.with_name("moved"))
    (moved / "dagster" / "dagster.yaml").unlink()
    (moved / "dagster" / "dagster.yaml").symlink_to("nowhere")
    with dagster_instance(type(graph.run)(graph.recipe, moved)) as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert instance.has_run(RUN)
    with dagster_instance(type(graph.run)(graph.recipe, home)) as instance:
        assert not instance.has_run(RUN)


def test_settings_of_ones_own_and_records_elsewhere_are_left_alone(
    graph: Graph, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = home / "dagster" / "dagster.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text("telemetry: {enabled: false}\n")
    assert dagster_home(graph.run) == settings.parent
    assert settings.read_text() == "telemetry: {enabled: false}\n"
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "mine"))
    assert dagster_home(graph.run) == tmp_path / "mine"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("nonsense: 1", "cannot open its records"),
        ("storage: {sqlite: ", "cannot open its records"),
        ("storage: {sqlite: {base_dir: {env: NOT_SET}}}", "the environment variable NOT_SET"),
    ],
)
def test_records_that_dagster_cannot_open_are_told(
    graph: Graph, home: Path, monkeypatch: pytest.MonkeyPatch, settings: str, said: str
) -> None:
    folder = home.parent / "theirs"
    folder.mkdir()
    (folder / "dagster.yaml").write_text(settings)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    with pytest.raises(Expected, match=said) as refused, dagster_instance(graph.run):
        pass
    assert str(folder) in str(refused.value) and "set DAGSTER_HOME" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_relative_folder_of_records_is_one_below_the_working_directory(
    graph: Graph, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("DAGSTER_HOME", "mine")
    with dagster_instance(graph.run) as instance:
        start_run(instance, graph, {})
    assert (home.parent / "mine" / "history" / "runs.db").is_file()


def test_a_folder_of_records_that_cannot_be_is_told(
    graph: Graph, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/dev/null/records")
    told = "/dev/null is no folder.*set DAGSTER_HOME"
    with pytest.raises(Expected, match=told), dagster_instance(graph.run):
        pass
    with pytest.raises(Expected, match=told):
        check_home(graph.run)


def open_records(pipe: Connection, folder: Path) -> None:
    graph = demo_graph(folder, DagsterInstance.ephemeral())
    pipe.send("ready")
    wait_for_word(pipe)
    with dagster_instance(graph.run) as instance:
        pipe.send(instance.get_runs_count())


def test_two_first_uses_at_once_both_find_records(home: Path) -> None:
    with other(open_records, home.parent) as first, other(open_records, home.parent) as second:
        assert [first.hear(), second.hear()] == ["ready", "ready"]
        first.tell()
        second.tell()
        assert [first.hear(), second.hear()] == [0, 0]
