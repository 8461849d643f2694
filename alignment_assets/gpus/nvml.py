"""The GPUs of this host as NVIDIA's driver describes them, without loading CUDA.

Here belongs what a device is, how it is named and who uses its memory; who may have it is `gpus`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import psutil

from alignment_assets.host.expected import Expected
from alignment_assets.host.machine import GIBI

PROCESSES_TOLD = 3


class GpuError(Expected):
    """The GPUs do not answer, are fewer than wanted, or did not come free."""


@dataclass(frozen=True)
class Gpu:
    """A device that one engine can have: a whole GPU, or a MIG instance of one.

    Attributes:
        uuid: NVIDIA's name for it, the same in every process.
        names: what `CUDA_VISIBLE_DEVICES` may call it: its index, its UUID.
        label: what people call it, by its index in nvidia-smi.
        total: bytes of memory.
        free: bytes that no process uses.
        processes: the ids of those that use it, as far as they can be seen from here.
        whole: not a MIG instance; only whole ones can serve one engine together.
    """

    uuid: str
    names: tuple[str, ...]
    label: str
    total: int
    free: int
    processes: tuple[int, ...] = ()
    whole: bool = True

    def has_room(self, share: float) -> bool:
        """Whether an engine that claims this share of the memory can start on it."""
        return self.free >= share * self.total

    def usage(self) -> str:
        """Say how much of the memory is used, and by whom."""
        named = [_describe_process(pid) for pid in self.processes[:PROCESSES_TOLD]]
        if len(self.processes) > PROCESSES_TOLD:
            named.append(f"{len(self.processes) - PROCESSES_TOLD} more")
        holders = ", ".join(named) or "processes that cannot be seen from here"
        used = (self.total - self.free) / GIBI
        return f"{used:.1f} of {self.total / GIBI:.1f} GiB used by {holders}"


def read_gpus() -> list[Gpu]:
    """Return the devices of this host, in the order of nvidia-smi; none without a driver.

    Raises:
        GpuError: there is a driver, and it does not work.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return []
    except pynvml.NVMLError as error:
        raise _driver_error(error) from None
    try:
        return list(_devices())
    except pynvml.NVMLError as error:
        raise _driver_error(error) from None
    finally:
        pynvml.nvmlShutdown()


def visible_gpus(gpus: Sequence[Gpu], names: str) -> list[Gpu]:
    """Return the devices that ``CUDA_VISIBLE_DEVICES=names`` shows, in its order.

    As in CUDA, a UUID may be abbreviated and the list ends at the first name of no device. An index
    is nvidia-smi's, which is CUDA's under `CUDA_DEVICE_ORDER=PCI_BUS_ID`.

    Raises:
        GpuError: the first name is one of a device, which this host has not.
    """
    chosen: dict[str, Gpu] = {}
    for name in map(str.strip, names.split(",")):
        gpu = _named(gpus, name)
        if gpu is None:
            if gpus and not chosen and (name.isdigit() or name.startswith(("GPU-", "MIG-"))):
                there = ", ".join(f"{gpu.label} ({gpu.uuid})" for gpu in gpus)
                raise GpuError(f"CUDA_VISIBLE_DEVICES names {name}; this host has {there}")
            break
        chosen[gpu.uuid] = gpu
    return list(chosen.values())


def _named(gpus: Sequence[Gpu], name: str) -> Gpu | None:
    exact = [gpu for gpu in gpus if name in gpu.names]
    if exact or not name.startswith(("GPU-", "MIG-")):
        return exact[0] if exact else None
    begun = [gpu for gpu in gpus if any(known.startswith(name) for known in gpu.names)]
    return begun[0] if len(begun) == 1 else None


def _devices() -> Iterator[Gpu]:
    import pynvml

    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError_NoPermission:  # not given to this job or container
            continue
        uuid = pynvml.nvmlDeviceGetUUID(handle)
        names = (str(index), uuid)
        instances = _mig_instances(handle)
        if instances is None:
            yield _describe(handle, names, f"GPU {index}")
            continue
        for place, instance in enumerate(instances):
            part = (
                f"MIG-{uuid}/{pynvml.nvmlDeviceGetGpuInstanceId(instance)}"
                f"/{pynvml.nvmlDeviceGetComputeInstanceId(instance)}"
            )
            own = (pynvml.nvmlDeviceGetUUID(instance), part)
            # Who names a GPU that is divided is shown its first instance.
            known = own if place else (*own, *names)
            yield _describe(instance, known, f"GPU {index} MIG {place}", whole=False)


def _describe(handle: Any, names: tuple[str, ...], label: str, *, whole: bool = True) -> Gpu:
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    processes: set[int] = set()
    for running in (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        with suppress(pynvml.NVMLError):  # some drivers do not tell; the memory is told anyway
            processes.update(process.pid for process in running(handle))
    return Gpu(
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        names=names,
        label=label,
        total=int(memory.total),
        free=int(memory.free),
        processes=tuple(sorted(processes)),
        whole=whole,
    )


def _mig_instances(handle: Any) -> list[Any] | None:
    """Return the parts of a GPU that is divided; None for one that is not."""
    import pynvml

    try:
        divided = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError_NotSupported:
        return None
    if not divided:
        return None
    instances = []
    for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with suppress(pynvml.NVMLError_NotFound):
            instances.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
    return instances


def _describe_process(pid: int) -> str:
    """Name a process by its id and the start of its command, without its options."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        command = []
    words = takewhile(lambda word: not word.startswith("--"), command[:4])
    return f"process {pid} ({' '.join(words)[:100] or 'not to be seen from here'})"


def _driver_error(error: Exception) -> GpuError:
    return GpuError(
        f"the NVIDIA driver does not answer ({error}): see what `nvidia-smi` says, "
        "or set CUDA_VISIBLE_DEVICES= to use the CPU"
    )
