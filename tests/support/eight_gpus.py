"""A host that pretends to have eight GPUs, and what other processes do there."""

from __future__ import annotations

import json
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar

from alignment_assets.gpus.nvml import Gpu
from alignment_assets.gpus.pool import GpuError, GpuPool, Lease
from alignment_assets.host.machine import GIBI
from tests.support.processes import wait_for_word

UUIDS = [f"GPU-{letter * 8}-0000" for letter in "abcdefgh"]


class EightGpus(GpuPool):
    """A host with eight GPUs of 80 GiB; a file says who else uses their memory."""

    poll_seconds: ClassVar[float] = 0.05

    def read_devices(self) -> list[Gpu]:
        try:
            others = json.loads((Path(self.lock_folder) / "others.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            others = {}
        gpus = []
        for index, uuid in enumerate(UUIDS):
            used, pids = others.get(str(index), (0.5, []))
            free = int((80 - used) * GIBI)
            names = (str(index), uuid)
            gpus.append(Gpu(uuid, names, f"GPU {index}", 80 * GIBI, free, tuple(pids)))
        return gpus

    def let_others_use(self, **gigabytes_and_pids: tuple[float, list[int]]) -> None:
        folder = Path(self.lock_folder)
        folder.mkdir(parents=True, exist_ok=True)
        used = {name.removeprefix("gpu"): what for name, what in gigabytes_and_pids.items()}
        (folder / "next.json").write_text(json.dumps(used))
        (folder / "next.json").rename(folder / "others.json")


def shown(lease: Lease) -> list[int]:
    """Return the places among `UUIDS` of the devices that the engine's process sees."""
    return [UUIDS.index(name) for name in lease.environment["CUDA_VISIBLE_DEVICES"].split(",")]


def hold(pipe: Connection, folder: str, count: int, visible: str | None = None) -> None:
    """Lease GPUs when told, saying who is waited for; say which they are; keep them until told."""
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    pipe.send("ready")
    wait_for_word(pipe)
    pool = EightGpus(lock_folder=folder, timeout=60)
    with pool.lease(count, f"a step of {count}", log=pipe.send) as leases:
        pipe.send([shown(lease) for lease in leases])
        wait_for_word(pipe)
    pipe.send("returned")


def compete(pipe: Connection, folder: str, witness: str, count: int) -> None:
    """Lease GPUs three times; put a mark on each, which fails where somebody else's is."""
    wait_for_word(pipe)
    for _ in range(3):
        with EightGpus(lock_folder=folder, timeout=60).lease(count, "a competitor") as [lease]:
            for device in shown(lease):
                (Path(witness) / str(device)).touch(exist_ok=False)
            time.sleep(0.01)
            for device in shown(lease):
                (Path(witness) / str(device)).unlink()
    pipe.send(len(lease.devices))


def lease_as_nobody(pipe: Connection, folder: str) -> None:
    os.setuid(65534)
    pool = EightGpus(lock_folder=folder, timeout=0)
    try:
        with pool.lease(8, "nobody's"):
            pass
    except GpuError as error:
        pipe.send(str(error))
    with pool.lease(7, "nobody's") as [lease]:
        pipe.send(shown(lease))
