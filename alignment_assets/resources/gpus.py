"""GPUs, leased: a step takes that many free devices for as long as its engine lives.

One ``flock`` per device, so the kernel frees a dead owner's. Without GPUs the CPU is granted.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field

from alignment_assets.resources.locking import LockTimeout, locked


class GpuError(RuntimeError):
    """More GPUs are wanted than there are, or none came free."""


class GpuPool(ConfigurableResource[None]):
    """The GPUs of this host, shared between processes."""

    lock_folder: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "alignment_assets-gpus"),
        description="Where the devices' locks are; the same for all processes of a host.",
    )
    timeout: float = Field(
        default=24 * 3600.0, description="Seconds to wait for free devices at most."
    )

    def device_count(self) -> int:
        """Return how many GPUs this process may use; 0 without a driver."""
        return len(self.device_memory())

    def device_memory(self) -> list[int]:
        """Return the bytes of memory of each GPU that ``CUDA_VISIBLE_DEVICES`` leaves visible."""
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return []
        try:
            handles = [
                pynvml.nvmlDeviceGetHandleByIndex(int(name))
                if name.isdigit()
                else pynvml.nvmlDeviceGetHandleByUUID(name)
                for name in _visible_names(pynvml.nvmlDeviceGetCount())
            ]
            return [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
        finally:
            pynvml.nvmlShutdown()

    @contextmanager
    def lease(self, count: int, purpose: str) -> Iterator[tuple[int, ...]]:
        """Hold ``count`` devices and yield their indices; none where the host has no GPU.

        An index is a device's place among those that ``CUDA_VISIBLE_DEVICES`` leaves visible.

        Raises:
            GpuError: there are fewer, or too few came free in time.
        """
        devices = _visible_names(self.device_count())
        if not devices:
            yield ()
            return
        if count > len(devices):
            raise GpuError(
                f"{purpose}: wants {count} GPUs, there are {len(devices)}; set models.<name>.gpus"
            )
        deadline = time.monotonic() + self.timeout
        while True:
            with ExitStack() as held:
                # One at a time: of two that want many, each could take what the other lacks.
                turn = Path(self.lock_folder) / "turn.lock"
                with locked(turn, exclusive=True, timeout=self.timeout, purpose=purpose):
                    taken = self._take(held, devices, count, purpose)
                    if len(taken) < count:
                        held.close()
                if len(taken) == count:
                    yield tuple(taken)
                    return
            if time.monotonic() > deadline:
                raise GpuError(
                    f"{purpose}: no {count} of {len(devices)} GPUs were free "
                    f"for {self.timeout:.0f} s"
                )
            time.sleep(0.5)

    def _take(self, held: ExitStack, devices: list[str], count: int, purpose: str) -> list[int]:
        taken: list[int] = []
        for index, device in enumerate(devices):
            if len(taken) == count:
                break
            path = Path(self.lock_folder) / f"{device.replace('/', '_')}.lock"
            try:
                held.enter_context(locked(path, exclusive=True, timeout=0, purpose=purpose))
            except LockTimeout:
                continue
            taken.append(index)
        return taken


def visible_devices(leased: tuple[int, ...]) -> dict[str, str]:
    """Return the environment that shows a worker its leased devices alone."""
    if not leased:
        return {}
    names = _visible_names(max(leased) + 1)
    return {"CUDA_VISIBLE_DEVICES": ",".join(names[index] for index in leased)}


def _visible_names(present: int) -> list[str]:
    """Return the names of the devices that CUDA shows this process, of ``present`` ones."""
    outer = os.environ.get("CUDA_VISIBLE_DEVICES")
    if outer is None:
        return [str(index) for index in range(present)]
    # CUDA reads the list up to its first invalid name; "" and "-1" hide all devices.
    names = (name.strip() for name in outer.split(","))
    return list(takewhile(lambda name: name and name != "-1", names)) if present else []
