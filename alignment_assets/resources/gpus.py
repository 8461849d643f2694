"""GPUs, leased: a step takes that many free devices for as long as its engine lives.

One ``flock`` per device, so the kernel frees a dead owner's. Without GPUs the CPU is granted.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field

from alignment_assets.resources.locking import LockTimeout, locked


class GpuError(RuntimeError):
    """More GPUs are wanted than there are, or none came free."""


class GpuPool(ConfigurableResource):
    """The GPUs of this host, shared between processes."""

    lock_folder: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "alignment_assets-gpus"),
        description="Where the devices' locks are; the same for all processes of a host.",
    )
    timeout: float = Field(24 * 3600.0, description="Seconds to wait for free devices at most.")

    def device_count(self) -> int:
        """Return how many GPUs this host has; 0 without a driver."""
        return len(self.device_memory())

    def device_memory(self) -> list[int]:
        """Return the bytes of memory of each GPU of this host."""
        import pynvml

        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return []
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            return [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
        finally:
            pynvml.nvmlShutdown()

    @contextmanager
    def lease(self, count: int, purpose: str) -> Iterator[tuple[int, ...]]:
        """Hold ``count`` devices and yield their indices; none where the host has no GPU.

        Raises:
            GpuError: the host has fewer, or too few came free in time.
        """
        devices = self.device_count()
        if devices == 0:
            yield ()
            return
        if count > devices:
            raise GpuError(f"{purpose}: wants {count} GPUs, this host has {devices}; set models.<name>.gpus")
        deadline = time.monotonic() + self.timeout
        while True:
            with ExitStack() as held:
                taken = self._take(held, devices, count, purpose)
                if len(taken) == count:
                    yield tuple(taken)
                    return
            if time.monotonic() > deadline:
                raise GpuError(f"{purpose}: no {count} of {devices} GPUs came free in {self.timeout:.0f} s")
            time.sleep(0.5)

    def _take(self, held: ExitStack, devices: int, count: int, purpose: str) -> list[int]:
        taken: list[int] = []
        for device in range(devices):
            if len(taken) == count:
                break
            path = Path(self.lock_folder) / f"{device}.lock"
            try:
                held.enter_context(locked(path, exclusive=True, timeout=0, purpose=purpose))
            except LockTimeout:
                continue
            taken.append(device)
        return taken


def visible_devices(leased: tuple[int, ...]) -> dict[str, str]:
    """Return the environment that shows a worker its leased devices alone."""
    if not leased:
        return {}
    outer = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = outer.split(",") if outer else None
    shown = [names[index] if names else str(index) for index in leased]
    return {"CUDA_VISIBLE_DEVICES": ",".join(shown)}
