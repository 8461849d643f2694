"""Runs beside each other: one whose process was killed, and two that make the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from alignment_assets.commands.dead_runs import end_dead_runs
from alignment_assets.host.processes import is_gone, this_process
from alignment_assets.inference.run_process import PROCESS_TAG
from tests.conftest import REPOSITORY, Graph, demo_graph
from tests.support.processes import other, wait_for_word

MODEL = "smollm2-135m"


def name_yourself(pipe: Connection) -> None:
    pipe.send(this_process())
    wait_for_word(pipe)


def test_a_process_is_gone_once_it_has_ended_and_not_before() -> None:
    with other(name_yourself) as process:
        named = process.hear()
        assert not is_gone(named) and not is_gone(this_process())
        told = json.loads(named)
        # Another process that got its number, or the same number before the machine restarted.
        assert is_gone(json.dumps({**told, "started": told["started"] - 1}))
        assert is_gone(json.dumps({**told, "boot": "another"}))
        assert not is_gone(json.dumps({**told, "host": "another", "boot": "another"}))
        # In a container that bears this host's name.
        assert not is_gone(json.dumps({**told, "numbering": "pid:[1]", "started": -5}))
        process.kill()
        assert is_gone(named)
    assert not any(map(is_gone, ("", "[", "1", "{}", "[" * 9999)))


def answer_slowly(pipe: Connection, folder: Path, dagster_home: str) -> None:
    """Ask a fake engine, which takes long, and say so at the first answer."""
    os.environ["DAGSTER_HOME"] = dagster_home
    os.chdir(folder)
    with DagsterInstance.get() as instance:
        slow = demo_graph(folder, instance).with_inference(seconds_per_request=0.2)
        pipe.send("begins")
        slow.materialize("key:completions", MODEL)


@pytest.fixture
def kept(
    materialized: Callable[..., Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Graph:
    """All that completions need, with Dagster's records on disk and one slot for engines."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    shutil.copy(REPOSITORY / "dagster.yaml", folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    graph = materialized("+key:completion_requests")
    return replace(graph, instance=DagsterInstance.get())


@pytest.mark.timeout(300)
def test_a_run_that_was_killed_in_an_engine_step_does_not_block_the_next(
    kept: Graph, tmp_path: Path
) -> None:
    before = len(kept.asked())
    with other(answer_slowly, tmp_path, os.environ["DAGSTER_HOME"]) as killed:
        assert killed.hear() == "begins"
        while len(kept.asked()) < before + 2:
            assert killed.process.is_alive()
        killed.kill()
    (run,) = kept.instance.get_runs()
    assert run.status == DagsterRunStatus.STARTED
    assert run.tags[PROCESS_TAG].startswith(run.run_id)

    assert end_dead_runs(kept.instance) == [run.run_id]
    assert end_dead_runs(kept.instance) == []
    kept.materialize("key:completions", MODEL)
    assert kept.query("SELECT count(*) FROM completions") != [(0,)]
    ended = kept.instance.get_run_by_id(run.run_id)
    assert ended is not None and ended.status == DagsterRunStatus.FAILURE


def test_a_run_that_goes_on_or_repeats_another_is_left_alone(kept: Graph) -> None:
    instance = kept.instance
    gone = json.dumps({**json.loads(this_process()), "started": -5})
    ids = {}
    for name, value in {"alive": this_process(), "gone": gone, "repeats": gone}.items():
        run_id = f"00000000-0000-0000-0000-{len(ids):012d}"
        told = "another" if name == "repeats" else run_id
        job = kept.defs.resolve_implicit_global_asset_job_def()
        ids[name] = instance.create_run_for_job(
            job, run_id=run_id, status=DagsterRunStatus.STARTED,
            tags={PROCESS_TAG: f"{told} {value}"},
        ).run_id  # fmt: skip
    assert end_dead_runs(instance) == [ids["gone"]]


def ask_beside(pipe: Connection, folder: Path) -> None:
    """Ask for a partition with Dagster's records of our own; hand over the run's log."""
    with DagsterInstance.ephemeral() as instance:
        slow = demo_graph(folder, instance).with_inference(seconds_per_request=0.02)
        pipe.send("begins")
        slow.materialize("key:completions", MODEL)
        (run,) = instance.get_runs()
        pipe.send("\n".join(entry.user_message for entry in instance.all_logs(run.run_id)))


def test_two_processes_that_make_one_partition_pay_for_its_answers_once(
    materialized: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = materialized("+key:completion_requests")
    before = len(graph.asked())
    with other(ask_beside, tmp_path) as first, other(ask_beside, tmp_path) as second:
        for process in (first, second):
            assert process.hear() == "begins"
        logs = [first.hear(), second.hear()]
    asked = [request["request_id"] for request in graph.asked()[before:]]
    assert len(asked) == len(set(asked)) > 0
    waited = [log for log in logs if "waiting for process" in log]
    assert len(waited) == 1 and f"asks for completions[{MODEL}]" in waited[0]
    assert "answered already; no inference" in waited[0]
    rows = graph.query("SELECT count(*) FROM completions WHERE text IS NOT NULL")
    assert rows == [(len(asked),)]
