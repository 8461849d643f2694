"""Leases of GPUs on a host that pretends to have eight."""

from __future__ import annotations

import os
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from alignment_assets.definitions import build_defs
from alignment_assets.resources.gpus import GpuError, GpuPool, visible_devices
from alignment_assets.running import execute_runs, plan_runs
from tests.conftest import Graph
from tests.processes import other, wait_for_word


class EightGpus(GpuPool):
    """A host with eight GPUs."""

    def device_count(self) -> int:
        return 8


class NoGpu(GpuPool):
    """A host without a GPU."""

    def device_count(self) -> int:
        return 0


@pytest.fixture(autouse=True)
def all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def pool(tmp_path: Path) -> EightGpus:
    return EightGpus(lock_folder=str(tmp_path / "locks"), timeout=0.3)


def hold(pipe: Connection, folder: str, count: int, visible: str | None = None) -> None:
    """Lease GPUs, say which, and keep them until told."""
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    pipe.send("ready")
    wait_for_word(pipe)
    with EightGpus(lock_folder=folder, timeout=60).lease(count, "a step") as leased:
        pipe.send(visible_devices(leased)["CUDA_VISIBLE_DEVICES"].split(","))
        wait_for_word(pipe)
    pipe.send("returned")


def test_leases_of_several_processes_are_disjoint(pool: EightGpus) -> None:
    counts = [1, 2, 4, 1]
    with ExitStack() as started:
        steps = [started.enter_context(other(hold, pool.lock_folder, count)) for count in counts]
        for step in steps:
            step.hear()
        for step in steps:  # all reach for them at once
            step.tell()
        leased = [step.hear() for step in steps]
        assert [len(devices) for devices in leased] == counts
        assert sorted(device for devices in leased for device in devices) == list("01234567")


def test_a_step_waits_until_enough_are_free(pool: EightGpus) -> None:
    with other(hold, pool.lock_folder, 8) as greedy, other(hold, pool.lock_folder, 4) as patient:
        greedy.hear()
        greedy.tell()
        assert greedy.hear() == list("01234567")
        patient.hear()
        patient.tell()
        assert not patient.pipe.poll(0.5)
        with pytest.raises(GpuError, match="hasty: no 1 of 8 GPUs"), pool.lease(1, "hasty"):
            pass
        greedy.tell()
        assert greedy.hear() == "returned"
        assert patient.hear() == list("0123")
        with pool.lease(4, "another") as leased:
            assert leased == (4, 5, 6, 7)


def test_steps_that_want_all_gpus_at_once_get_them_in_turn(pool: EightGpus) -> None:
    with ExitStack() as started:
        steps = [started.enter_context(other(hold, pool.lock_folder, 8)) for _ in range(4)]
        for step in steps:
            step.hear()
        for step in steps:
            step.tell()
        for step in steps:
            step.tell()  # and give them back
        for step in steps:
            assert step.hear() == list("01234567")
            assert step.hear() == "returned"
            assert step.end() == 0


def test_the_gpus_of_a_killed_process_are_free(pool: EightGpus) -> None:
    with other(hold, pool.lock_folder, 6) as step:
        step.hear()
        step.tell()
        step.hear()
        with pytest.raises(GpuError), pool.lease(3, "next"):
            pass
        step.kill()
        with pool.lease(8, "next") as leased:
            assert leased == tuple(range(8))


def test_an_exception_gives_the_gpus_back(pool: EightGpus) -> None:
    with pytest.raises(ZeroDivisionError), pool.lease(8, "failing"):
        raise ZeroDivisionError
    with pool.lease(8, "next") as leased:
        assert len(leased) == 8


def test_more_gpus_than_there_are_is_an_error_at_once(tmp_path: Path) -> None:
    patient = EightGpus(lock_folder=str(tmp_path), timeout=3600)
    with pytest.raises(GpuError) as error, patient.lease(9, "completions[qwen]"):
        pass
    for part in ("completions[qwen]", "wants 9 GPUs", "there are 8", "models.<name>.gpus"):
        assert part in str(error.value)


def test_a_host_without_gpus_grants_the_empty_lease(tmp_path: Path) -> None:
    with NoGpu(lock_folder=str(tmp_path)).lease(4, "a step") as leased:
        assert leased == ()
    assert visible_devices(()) == {}


def test_a_worker_sees_its_leased_devices_alone() -> None:
    assert visible_devices((2, 5)) == {"CUDA_VISIBLE_DEVICES": "2,5"}


@pytest.mark.parametrize(
    ("outer", "count", "shown"),
    [
        ("4,6,7", 2, "4,6"),
        ("GPU-aaaa, GPU-bbbb", 2, "GPU-aaaa,GPU-bbbb"),
        ("MIG-GPU-cccc/1/0", 1, "MIG-GPU-cccc/1/0"),
        ("3,-1,5", 1, "3"),  # CUDA ends its list at the first invalid name
    ],
)
def test_an_outer_choice_of_devices_is_honoured(
    pool: EightGpus, monkeypatch: pytest.MonkeyPatch, outer: str, count: int, shown: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    with pool.lease(count, "a step") as leased:
        assert visible_devices(leased) == {"CUDA_VISIBLE_DEVICES": shown}
    with pytest.raises(GpuError, match="wants 4 GPUs, there are"), pool.lease(4, "a step"):
        pass


@pytest.mark.parametrize("outer", ["", "-1"])
def test_hidden_devices_stay_hidden(
    pool: EightGpus, monkeypatch: pytest.MonkeyPatch, outer: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    with pool.lease(2, "a step") as leased:
        assert leased == ()


def test_processes_that_see_different_devices_share_them_rightly(pool: EightGpus) -> None:
    with (
        other(hold, pool.lock_folder, 1, "5,6") as one,
        other(hold, pool.lock_folder, 1, "5,7") as two,
    ):
        for step, device in ((one, "5"), (two, "7")):
            step.hear()
            step.tell()
            assert step.hear() == [device]
        with pool.lease(6, "the rest") as leased:
            assert leased == (0, 1, 2, 3, 4, 6)


def test_without_a_driver_there_are_no_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert GpuPool(lock_folder=str(tmp_path)).device_count() == 0


def test_other_gpus_and_another_engine_are_injected_without_touching_an_asset(graph: Graph) -> None:
    resources = {
        "warehouse": graph.warehouse,
        "inference": graph.inference,
        "gpus": EightGpus(),
    }
    defs = build_defs(graph.recipe, resources)
    graph.materialize('not (key:"controversy_labels"+) and not key:"human_labels"')
    runs = plan_runs(defs, "key:controversy_labels")
    assert all(result.success for _, result in execute_runs(defs, runs, graph.instance))
    assert {request["gpus"] for request in graph.asked()} == {8}
