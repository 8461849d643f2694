"""GPUs, leased: an engine takes that many free devices for as long as it lives.

One ``flock`` per device, so the kernel frees a dead owner's. Without GPUs the CPU is granted. Here
belongs who may have which device; what a device is, is `nvml`'s part.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from dagster import ConfigurableResource
from pydantic import Field

from alignment_assets.gpus.nvml import Gpu, GpuError, read_gpus, visible_gpus
from alignment_assets.host.locking import (
    REPORT_SECONDS,
    LockFolderError,
    LockTimeout,
    describe_holder,
    locked,
)
from alignment_assets.host.ticket_queue import queued

__all__ = ["GPU_MEMORY_SHARE", "Gpu", "GpuError", "GpuPool", "Lease"]

logger = logging.getLogger(__name__)

# The share of a device's memory that vLLM 0.32 claims unless told otherwise
# (`gpu_memory_utilization`); it refuses to start where less is free.
GPU_MEMORY_SHARE = 0.92


@dataclass(frozen=True)
class Lease:
    """What one engine may use: these devices, or the CPU if there are none."""

    devices: tuple[Gpu, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that show the engine's process its devices alone; none on the CPU."""
        if not self.devices:
            return {}
        return {
            # By UUID: an index means another device wherever CUDA and the driver count differently.
            "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in self.devices),
            # vLLM looks devices up in the driver's order, which is this one.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        }


class GpuPool(ConfigurableResource[None]):
    """The GPUs of this host, shared between processes and users."""

    lock_folder: str = Field(
        default="/tmp/alignment_assets-gpus",
        description="Where the devices' locks are; the same for all processes of a host, so mount "
        "it into every container that uses its GPUs.",
    )
    timeout: float = Field(
        default=24 * 3600.0, description="Seconds to wait for free devices at most."
    )

    poll_seconds: ClassVar[float] = 0.5

    def read_devices(self) -> list[Gpu]:
        """Return all devices of this host as they are now."""
        return read_gpus()

    def devices(self) -> list[Gpu]:
        """Return the devices that ``CUDA_VISIBLE_DEVICES`` leaves this process, as they are now.

        Raises:
            GpuError: the driver does not work, or the variable names a device that is not there.
        """
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        if shown is None:
            return self.read_devices()
        if shown.strip() in ("", "-1"):
            return []
        return visible_gpus(self.read_devices(), shown)

    def device_count(self) -> int:
        """Return how many GPUs this process may use; 0 without a driver."""
        return len(self.devices())

    def device_memory(self) -> list[int]:
        """Return the bytes of memory of each GPU that this process may use."""
        return [gpu.total for gpu in self.devices()]

    def occupied(
        self, memory_share: float = GPU_MEMORY_SHARE, *, but: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """Say why devices are not free: each reason with the labels of the devices it holds for.

        Args:
            memory_share: the part of a device's memory that has to be free.
            but: UUIDs of devices to say nothing about.
        """
        reasons: dict[str, list[str]] = {}
        for gpu in self.devices():
            if gpu.uuid in but:
                continue
            try:
                with self.lock(gpu, "looking", exclusive=False):
                    reason = None if gpu.has_room(memory_share) else gpu.usage()
            except LockTimeout:
                reason = f"leased by {describe_holder(self._lock_path(gpu))}"
            except LockFolderError as error:
                reason = str(error)
            if reason:
                reasons.setdefault(reason, []).append(gpu.label)
        return reasons

    @contextmanager
    def lease(
        self,
        count: int,
        purpose: str,
        *,
        replicas: int | tuple[int, int] | None = 1,
        memory_share: float = GPU_MEMORY_SHARE,
        log: Callable[[str], None] = logger.info,
    ) -> Iterator[list[Lease]]:
        """Hold the devices of one or more engines, and yield a lease for each of these.

        Whoever wants devices waits in line: the first takes what comes free until it has enough, so
        that a large engine is not kept out by small ones. Without GPUs the leases are empty.

        Args:
            count: devices that an engine takes.
            purpose: what for, told to those who wait.
            replicas: engines, or the least and the most of them; None: as many as find free
                devices, one at least.
            memory_share: the part of a device's memory that has to be free (vLLM's
                `gpu_memory_utilization`).
            log: told who is waited for, how long, and what came of it.

        Raises:
            GpuError: there are fewer devices, or too few came free in time.
        """
        devices = self.devices()
        few, many = replicas if isinstance(replicas, tuple) else (replicas or 1, replicas)
        if not devices:
            yield [Lease()] * few
            return
        # CUDA shows a process one MIG instance at most.
        candidates = [gpu for gpu in devices if gpu.whole or count == 1]
        least = count * few
        if least > len(candidates):
            raise GpuError(_too_few(purpose, count, few if many else None, devices, candidates))
        most = min(count * (many or len(candidates)), len(candidates) // count * count)
        with ExitStack() as held:
            claim = _Claim(self, purpose, memory_share, [gpu.uuid for gpu in candidates])
            held.callback(claim.keep, 0)
            started = time.monotonic()
            try:
                self._wait(claim, least, most, log)
            except LockFolderError as error:
                raise GpuError(f"{purpose}: {error}") from error
            taken = claim.keep(len(claim.taken) // count * count)
            waited = time.monotonic() - started
            log(f"{purpose}: leased {_labels(taken)} after {waited:.0f} s")
            yield [Lease(tuple(taken[at : at + count])) for at in range(0, len(taken), count)]

    def _wait(self, claim: _Claim, least: int, most: int, log: Callable[[str], None]) -> None:
        started = time.monotonic()
        report_at = started
        folder = Path(self.lock_folder)
        with queued(folder, claim.candidates, claim.purpose, for_all_users=True) as ticket:
            while True:
                first = ticket.before()
                if first is None:
                    claim.take(self.devices(), most)
                    if len(claim.taken) >= least:
                        return
                now = time.monotonic()
                if now - started > self.timeout:
                    raise GpuError(
                        f"{claim.purpose}: no {least} {claim.wanted} came together in "
                        f"{self.timeout:.0f} s; {claim.state(first)}; end what holds them, "
                        "or raise the setting `timeout` of the resource `gpus`"
                    )
                if now >= report_at:
                    log(
                        f"{claim.purpose}: waiting for {least} {claim.wanted}, "
                        f"{now - started:.0f} s so far; {claim.state(first)}"
                    )
                    report_at = now + REPORT_SECONDS
                time.sleep(self.poll_seconds)

    def lock(self, gpu: Gpu, purpose: str, *, exclusive: bool) -> AbstractContextManager[float]:
        """Hold a device's lock; LockTimeout at once if somebody else does."""
        return locked(
            self._lock_path(gpu),
            exclusive=exclusive,
            timeout=0,
            purpose=purpose,
            for_all_users=True,
        )

    def _lock_path(self, gpu: Gpu) -> Path:
        return Path(self.lock_folder) / f"{gpu.uuid.replace('/', '_')}.lock"


@dataclass
class _Claim:
    """What one who waits has so far of the devices that it could use."""

    pool: GpuPool
    purpose: str
    memory_share: float
    candidates: list[str]
    taken: dict[str, tuple[Gpu, ExitStack]] = field(default_factory=dict)

    @property
    def wanted(self) -> str:
        """What a free device is."""
        return f"GPUs with {self.memory_share:.0%} of their memory free"

    def take(self, devices: Sequence[Gpu], most: int) -> None:
        """Lock what is free of ``devices``, and give back what somebody outside uses meanwhile."""
        for gpu in devices:
            if not gpu.has_room(self.memory_share):
                self._give_back(gpu.uuid)
            elif gpu.uuid in self.candidates and gpu.uuid not in self.taken:
                if len(self.taken) == most:
                    continue
                lock = ExitStack()
                with suppress(LockTimeout):
                    lock.enter_context(self.pool.lock(gpu, self.purpose, exclusive=True))
                    self.taken[gpu.uuid] = gpu, lock

    def keep(self, count: int) -> list[Gpu]:
        """Return the first ``count`` of the devices taken; the others are given back."""
        order = sorted(self.taken, key=self.candidates.index)
        for uuid in order[count:]:
            self._give_back(uuid)
        return [self.taken[uuid][0] for uuid in order[:count]]

    def state(self, first: Path | None) -> str:
        """Say what is taken, who comes before in line, and who holds the other devices."""
        parts = []
        if self.taken:
            parts.append(f"{_labels([gpu for gpu, _ in self.taken.values()])} taken")
        if first:
            parts.append(f"first in the queue: {describe_holder(first)}")
        reasons = self.pool.occupied(self.memory_share, but=self.taken)
        parts += [f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items()]
        return "; ".join(parts) or "they have come free just now"

    def _give_back(self, uuid: str) -> None:
        if uuid in self.taken:
            self.taken.pop(uuid)[1].close()


def _labels(gpus: Sequence[Gpu]) -> str:
    return ", ".join(gpu.label for gpu in gpus)


def _too_few(
    purpose: str,
    count: int,
    replicas: int | None,
    devices: Sequence[Gpu],
    candidates: Sequence[Gpu],
) -> str:
    several = replicas is not None and replicas > 1
    wanted = f"{replicas} × {count}" if several else str(count)
    there = f"{len(candidates)}"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        there += " that CUDA_VISIBLE_DEVICES shows"
    if len(candidates) < len(devices):
        there += f" beside {len(devices) - len(candidates)} MIG instances, which serve alone only"
    setting = "gpus or replicas" if several else "gpus"
    return f"{purpose}: wants {wanted} GPUs, there are {there}; set {setting} of its backend"
