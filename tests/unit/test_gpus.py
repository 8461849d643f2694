"""Leases of GPUs on a host that pretends to have eight."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from alignment_assets.commands.doctor import examine
from alignment_assets.commands.materialize import execute, plan_launches
from alignment_assets.definitions import build_defs
from alignment_assets.gpus.nvml import Gpu
from alignment_assets.gpus.pool import GpuError, GpuPool
from alignment_assets.host.locking import take
from alignment_assets.host.machine import GIBI
from alignment_assets.inference.backends.by_model import InferenceByModel
from tests.conftest import Graph
from tests.support.eight_gpus import UUIDS, EightGpus, compete, hold, lease_as_nobody, shown
from tests.support.processes import Other, other


class DividedGpu(GpuPool):
    """A host whose first GPU is divided in two; the second is whole."""

    def read_devices(self) -> list[Gpu]:
        names = ("MIG-1", f"MIG-{UUIDS[0]}/1/0", "0", UUIDS[0])
        other_names = ("MIG-2", f"MIG-{UUIDS[0]}/2/0")
        return [
            Gpu("MIG-1", names, "GPU 0 MIG 0", 40 * GIBI, 40 * GIBI, whole=False),
            Gpu("MIG-2", other_names, "GPU 0 MIG 1", 40 * GIBI, 40 * GIBI, whole=False),
            Gpu(UUIDS[1], ("1", UUIDS[1]), "GPU 1", 80 * GIBI, 80 * GIBI),
        ]


class NoGpu(GpuPool):
    """A host without a GPU."""

    def read_devices(self) -> list[Gpu]:
        return []


@pytest.fixture(autouse=True)
def all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def pool(tmp_path: Path) -> EightGpus:
    return EightGpus(lock_folder=str(tmp_path / "locks"), timeout=0.3)


def devices_of(step: Other) -> list[int]:
    """Return the devices of a step when it has them, whatever it says before."""
    while isinstance(said := step.hear(), str):
        pass
    [devices] = said
    return devices


@contextmanager
def waiting(folder: str, count: int, visible: str | None = None) -> Iterator[Other]:
    """Run a step that has a place in the line and none of what it wants."""
    with other(hold, folder, count, visible) as step:
        assert step.hear() == "ready"
        step.tell()
        assert "waiting for" in step.hear()
        yield step


@contextmanager
def holding(folder: str, count: int, visible: str | None = None) -> Iterator[Other]:
    """Run a step that has its devices."""
    with other(hold, folder, count, visible) as step:
        step.tell()
        devices_of(step)
        yield step


def give_back(step: Other) -> None:
    step.tell()
    assert step.hear() == "returned"


# Who gets which devices


def test_a_lease_names_its_devices_for_the_worker_alone(pool: EightGpus) -> None:
    with pool.lease(2, "a step") as [lease]:
        assert [gpu.label for gpu in lease.devices] == ["GPU 0", "GPU 1"]
        assert lease.environment == {
            "CUDA_VISIBLE_DEVICES": f"{UUIDS[0]},{UUIDS[1]}",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_an_exception_gives_the_gpus_back(pool: EightGpus) -> None:
    with pytest.raises(ZeroDivisionError), pool.lease(8, "failing"):
        raise ZeroDivisionError
    with pool.lease(8, "next") as [lease]:
        assert len(lease.devices) == 8


def test_each_replica_has_devices_of_its_own(pool: EightGpus) -> None:
    with pool.lease(2, "a step", replicas=3) as leases:
        assert [shown(lease) for lease in leases] == [[0, 1], [2, 3], [4, 5]]


def test_as_many_replicas_as_find_devices_leave_the_rest_to_others(pool: EightGpus) -> None:
    with pool.lease(1, "a step"):
        with pool.lease(3, "all there are", replicas=None) as leases:
            assert [shown(lease) for lease in leases] == [[1, 2, 3], [4, 5, 6]]
            with pool.lease(1, "a small one") as [lease]:
                assert shown(lease) == [7]
        with pool.lease(5, "a large one", replicas=None) as leases:
            assert [shown(lease) for lease in leases] == [[1, 2, 3, 4, 5]]


def test_a_host_without_gpus_grants_the_cpu(tmp_path: Path) -> None:
    pool = NoGpu(lock_folder=str(tmp_path))
    for replicas, engines in ((1, 1), (2, 2), (None, 1)):
        with pool.lease(4, "a step", replicas=replicas) as leases:
            assert [lease.devices for lease in leases] == [()] * engines
            assert [lease.environment for lease in leases] == [{}] * engines


def test_mig_instances_serve_one_engine_each(tmp_path: Path) -> None:
    pool = DividedGpu(lock_folder=str(tmp_path), timeout=0)
    with pool.lease(1, "a step", replicas=None) as leases:
        names = [lease.environment["CUDA_VISIBLE_DEVICES"] for lease in leases]
        assert names == ["MIG-1", "MIG-2", UUIDS[1]]
    beside = "wants 2 GPUs, there are 1 beside 2 MIG instances"
    with pytest.raises(GpuError, match=beside), pool.lease(2, "a step"):
        pass


# What CUDA_VISIBLE_DEVICES leaves


@pytest.mark.parametrize(
    ("outer", "count", "devices"),
    [
        ("4,6,7", 2, [4, 6]),
        ("7, 2", 2, [7, 2]),
        (f"{UUIDS[2]}, {UUIDS[5]}", 2, [2, 5]),
        ("GPU-ccc,GPU-aa", 2, [2, 0]),
        (f"1,{UUIDS[1]},3", 2, [1, 3]),
        ("3,-1,5", 1, [3]),  # CUDA ends its list at the first invalid name
        ("3,8,5", 1, [3]),
    ],
)
def test_an_outer_choice_of_devices_is_honoured(
    pool: EightGpus, monkeypatch: pytest.MonkeyPatch, outer: str, count: int, devices: list[int]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    with pool.lease(count, "a step") as [lease]:
        assert shown(lease) == devices
    too_few = "wants 4 GPUs, there are [1-3] that CUDA_VISIBLE_DEVICES shows"
    with pytest.raises(GpuError, match=too_few), pool.lease(4, "a step"):
        pass


@pytest.mark.parametrize(
    ("outer", "device"),
    [("0", "MIG-1"), ("MIG-2", "MIG-2"), (f"MIG-{UUIDS[0]}/2/0", "MIG-2"), ("1", UUIDS[1])],
)
def test_mig_instances_go_by_every_name_that_cuda_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outer: str, device: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    with DividedGpu(lock_folder=str(tmp_path)).lease(1, "a step") as [lease]:
        assert lease.environment["CUDA_VISIBLE_DEVICES"] == device


@pytest.mark.parametrize("outer", ["", "-1", "NoDevFiles"])
def test_hidden_devices_stay_hidden(
    pool: EightGpus, monkeypatch: pytest.MonkeyPatch, outer: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", outer)
    with pool.lease(2, "a step") as [lease]:
        assert lease.devices == ()


def test_a_device_that_is_not_there_is_an_error_and_not_the_cpu(
    pool: EightGpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "8,9")
    with pytest.raises(
        GpuError, match=r"names 8; this host has GPU 0 \(GPU-aaaaaaaa-0000\), GPU 1"
    ):
        pool.device_count()


def test_a_device_is_leased_once_whatever_it_is_called(pool: EightGpus) -> None:
    with (
        holding(pool.lock_folder, 1, "5,6"),
        other(hold, pool.lock_folder, 1, f"{UUIDS[5]},{UUIDS[7]}") as two,
    ):
        two.tell()
        assert devices_of(two) == [7]
        with pool.lease(6, "the rest") as [lease]:
            assert shown(lease) == [0, 1, 2, 3, 4, 6]


def test_without_a_driver_there_are_no_devices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert GpuPool(lock_folder=str(tmp_path)).device_count() == 0


# Many processes


def test_twenty_processes_all_get_theirs_and_never_share_a_device(
    pool: EightGpus, tmp_path: Path
) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    counts = [1, 2, 4, 8] * 5
    with ExitStack() as started:
        steps = [
            started.enter_context(other(compete, pool.lock_folder, str(witness), count))
            for count in counts
        ]
        for step in steps:  # all reach for them at once
            step.tell()
        assert [step.hear() for step in steps] == counts
        assert [step.end() for step in steps] == [0] * len(steps)
    assert not list(Path(pool.lock_folder).glob("*.ticket"))


def test_a_large_lease_takes_what_comes_free_before_later_small_ones(pool: EightGpus) -> None:
    folder = pool.lock_folder
    with ExitStack() as started:
        first, second, third, _ = [started.enter_context(holding(folder, 2)) for _ in range(4)]
        large = started.enter_context(waiting(folder, 4))
        small = [started.enter_context(waiting(folder, 1)) for _ in range(3)]
        give_back(first)
        assert not any(step.pipe.poll(0.3) for step in (large, *small))  # two free, kept for it
        give_back(second)
        assert devices_of(large) == [0, 1, 2, 3]
        assert not any(step.pipe.poll(0.3) for step in small)
        give_back(third)
        assert sorted(devices_of(step) for step in small[:2]) == [[4], [5]]
        give_back(large)
        assert devices_of(small[2]) == [0]


def test_who_waits_for_some_devices_does_not_hold_up_who_wants_others(pool: EightGpus) -> None:
    folder = pool.lock_folder
    with (
        holding(folder, 1, "0"),
        waiting(folder, 2, "0,1"),
        waiting(folder, 1, "1"),
        other(hold, folder, 2, "2,3") as elsewhere,
    ):
        assert elsewhere.hear() == "ready"
        elsewhere.tell()
        assert elsewhere.hear().startswith("a step of 2: leased GPU 2, GPU 3 after")


def test_the_gpus_of_a_killed_process_are_free(pool: EightGpus) -> None:
    with holding(pool.lock_folder, 6) as step:
        with pytest.raises(GpuError), pool.lease(3, "next"):
            pass
        step.kill()
        with pool.lease(8, "next") as [lease]:
            assert len(lease.devices) == 8


def test_a_killed_process_leaves_the_line(pool: EightGpus) -> None:
    folder = pool.lock_folder
    with holding(folder, 7) as step, waiting(folder, 8) as killed, waiting(folder, 1) as next_one:
        killed.kill()
        assert devices_of(next_one) == [7]
        give_back(step)


@pytest.mark.needs("root")
def test_another_user_of_the_host_can_lease(pool: EightGpus) -> None:
    before = os.umask(0o077)
    try:
        with ExitStack() as held:
            top = Path(held.enter_context(tempfile.TemporaryDirectory()))
            top.chmod(0o755)
            ours = EightGpus(lock_folder=str(top / "locks"), timeout=1)
            held.enter_context(ours.lease(1, "root's"))
            theirs = held.enter_context(other(lease_as_nobody, ours.lock_folder))
            assert "GPU 0: leased by" in theirs.hear()
            assert theirs.hear() == [1, 2, 3, 4, 5, 6, 7]
    finally:
        os.umask(before)


def test_the_locks_are_open_to_all_users_whatever_the_umask(pool: EightGpus) -> None:
    before = os.umask(0o077)
    try:
        with pool.lease(8, "a step"):
            folder = Path(pool.lock_folder)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
            files = [*folder.iterdir()]
            assert len(files) == 9
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666}
    finally:
        os.umask(before)


def as_user(user: int, work: Callable[[], None]) -> None:
    """Do something as another user of the host, in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setuid(user)
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.needs("root")
def test_no_other_user_can_take_a_lease_away() -> None:
    def remove() -> None:
        for file in folder.glob("*.lock"):
            with pytest.raises(PermissionError):
                file.unlink()

    def lease() -> None:
        theirs = EightGpus(lock_folder=str(folder), timeout=0).lease(8, "a third's")
        with pytest.raises(GpuError, match="GPU 0: leased by"), theirs:
            pass

    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(top) / "locks"
        with EightGpus(lock_folder=str(folder)).lease(1, "ours"):
            as_user(65534, remove)
            as_user(65533, lease)


@pytest.mark.needs("root")
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    ours = EightGpus(lock_folder=str(folder)).lease(1, "ours")
    with pytest.raises(GpuError, match=r"its owner, user 65534, .*chown root"), ours:
        pass


def test_what_is_no_folder_for_locks_is_told(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        ours = EightGpus(lock_folder=str(tmp_path / name)).lease(1, "ours")
        with pytest.raises(GpuError, match=f"{name}: a link or a file"), ours:
            pass
    assert not list((tmp_path / "real").iterdir())


def test_what_others_leave_in_the_folder_keeps_nobody_out(pool: EightGpus) -> None:
    folder = Path(pool.lock_folder)
    folder.mkdir(mode=0o755)
    (folder / "x.ticket").touch()
    (folder / "000000009.ticket").mkdir()
    (folder / "000000004.ticket").symlink_to("nowhere")
    (folder / "000000003.ticket").write_text("[1]")
    with pool.lease(8, "ours") as [lease]:
        assert len(lease.devices) == 8
    (folder / "tickets.lock").unlink()
    (folder / "tickets.lock").mkdir()
    ours = pool.lease(8, "ours")
    with pytest.raises(GpuError, match=r"tickets\.lock: no file for a lock; remove it"), ours:
        pass


def test_a_lease_whose_file_was_removed_is_not_shared(pool: EightGpus) -> None:
    path = Path(pool.lock_folder) / "a.lock"
    path.parent.mkdir(mode=0o777)
    first = take(path, exclusive=True, for_all_users=True)
    assert first is not None
    opened = os.open(path, os.O_RDWR)  # by one who waits for it
    path.unlink()
    os.close(first)
    again = take(path, exclusive=True, for_all_users=True)
    assert again is not None and os.fstat(again).st_ino == path.stat().st_ino
    os.close(opened)
    os.close(again)


# Memory that others use


@pytest.fixture
def trainer() -> Iterator[int]:
    """The id of a process outside."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_device_whose_memory_another_process_uses_is_passed_over(
    pool: EightGpus, trainer: int
) -> None:
    pool.let_others_use(gpu1=(61.2, [trainer]), gpu4=(6.0, []))
    with pool.lease(7, "a step", memory_share=0.9) as [lease]:
        assert shown(lease) == [0, 2, 3, 4, 5, 6, 7]
    with pool.lease(1, "a step", replicas=None) as leases:
        assert [shown(lease) for lease in leases] == [[0], [2], [3], [4], [5], [6], [7]]
    with pool.lease(8, "a small engine", memory_share=0.2) as [lease]:
        assert len(lease.devices) == 8


def test_who_uses_the_memory_is_named(pool: EightGpus, trainer: int) -> None:
    pool.let_others_use(gpu1=(61.2, [trainer]), gpu4=(40, []))
    with pytest.raises(GpuError) as error, pool.lease(7, "completions[qwen]"):
        pass
    for part in (
        "completions[qwen]: no 7 GPUs with 92% of their memory free came together in 0 s",
        "GPU 0, GPU 2, GPU 3, GPU 5, GPU 6, GPU 7 taken",
        f"GPU 1: 61.2 of 80.0 GiB used by process {trainer} (sleep 600",
        "GPU 4: 40.0 of 80.0 GiB used by processes that cannot be seen from here",
        "raise the setting `timeout` of the resource `gpus`",
    ):
        assert part in str(error.value)


def test_a_device_that_somebody_takes_during_the_wait_is_let_go(
    pool: EightGpus, trainer: int
) -> None:
    with holding(pool.lock_folder, 7) as step, waiting(pool.lock_folder, 8) as large:
        pool.let_others_use(gpu7=(70, [trainer]))
        give_back(step)
        assert not large.pipe.poll(0.5)
        pool.let_others_use()
        assert devices_of(large) == list(range(8))


# What is told


def test_who_waits_is_told_for_whom_and_what_came_of_it(pool: EightGpus) -> None:
    patient = EightGpus(lock_folder=pool.lock_folder, timeout=30)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if len(told) == 1:
            give_back(step)

    with (
        holding(pool.lock_folder, 6) as step,
        patient.lease(4, "rewards[qwen]", log=tell) as [lease],
    ):
        assert shown(lease) == [0, 1, 6, 7]
    waits, got = told
    assert waits.startswith(
        "rewards[qwen]: waiting for 4 GPUs with 92% of their memory free, 0 s so far; "
        "GPU 6, GPU 7 taken; "
    )
    held_by = rf"; GPU 0, GPU 1, .*GPU 5: leased by process {step.process.pid} \(a step of 6, "
    assert re.search(held_by, waits)
    assert re.fullmatch(r"rewards\[qwen\]: leased GPU 0, GPU 1, GPU 6, GPU 7 after \d+ s", got)


def test_who_comes_before_in_line_is_named(pool: EightGpus) -> None:
    with holding(pool.lock_folder, 7), waiting(pool.lock_folder, 2) as first:
        with pytest.raises(GpuError) as error, pool.lease(1, "the next"):
            pass
        assert f"first in the queue: process {first.process.pid} (a step of 2, " in str(error.value)


@pytest.mark.parametrize(
    ("count", "replicas", "parts"),
    [
        (9, 1, ("wants 9 GPUs, there are 8; set gpus of its backend",)),
        (4, 3, ("wants 3 × 4 GPUs, there are 8; set gpus or replicas")),
        (9, None, ("wants 9 GPUs, there are 8",)),
    ],
)
def test_more_gpus_than_there_are_is_an_error_at_once(
    tmp_path: Path, count: int, replicas: int | None, parts: tuple[str, ...]
) -> None:
    patient = EightGpus(lock_folder=str(tmp_path), timeout=3600)
    with (
        pytest.raises(GpuError) as error,
        patient.lease(count, "completions[q]", replicas=replicas),
    ):
        pass
    for part in ("completions[q]: ", *parts):
        assert part in str(error.value)


def test_doctor_names_who_uses_the_gpus(graph: Graph, pool: EightGpus, trainer: int) -> None:
    pool.let_others_use(gpu7=(12.5, [trainer]))
    with pool.lease(2, "completions[qwen]"):
        resources = {
            "warehouse": graph.warehouse,
            "inference": InferenceByModel(),
            "gpus": pool,
        }
        seen = examine(graph.run, resources)
        findings = {found.subject: found for found in seen}
    assert "leased by process" in findings["GPU 0, GPU 1"].text
    assert f"12.5 of 80.0 GiB used by process {trainer}" in findings["GPU 7"].text
    assert findings["GPUs"].text == "8, 80 GiB each at least"


def test_other_gpus_and_another_engine_are_injected_without_touching_an_asset(graph: Graph) -> None:
    resources = {
        "warehouse": graph.warehouse,
        "inference": graph.inference,
        "gpus": EightGpus(),
    }
    defs = build_defs(graph.run, resources)
    graph.materialize('not (key:"controversy_labels"+) and not (key:"human_labels"+)')
    runs = plan_launches(defs, "key:controversy_labels")
    assert all(result.success for _, result in execute(defs, runs, graph.instance))
    assert {request["gpus"] for request in graph.asked()} == {8}
