"""vLLM on this host as inference: engines in worker processes, kept for the next step.

Here belongs which engine runs on which GPUs; what one does is `vllm_engine`'s part.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

from alignment_assets.gpus.pool import GPU_MEMORY_SHARE
from alignment_assets.host.machine import cores
from alignment_assets.inference.backend import Examination, Finding, Inference, Job
from alignment_assets.inference.backends.vllm.engines import Engines
from alignment_assets.inference.backends.vllm.settings import VllmSettings
from alignment_assets.inference.host_found import examine_host
from alignment_assets.inference.vllm_settings import (
    ENVIRONMENT,
    ON_CPUS,
    engine_settings,
    vllm_limits,
)
from alignment_assets.recipe.model import Model


class VllmInference(Inference):
    """vLLM in a child process; steps of one process that need the same engine share it."""

    Settings: ClassVar[type[VllmSettings]] = VllmSettings

    def limits(self, model: Model) -> str:
        """Return the model's context length: only that decides about a request's fate."""
        return vllm_limits(model)

    def answer(self, job: Job) -> None:
        """Run the job in the shared engines, starting them if need be; see `Inference.answer`."""
        settings = self.engine_settings(job)
        engines = _shared.running(settings)
        progress = job.progress
        if engines is None:
            job.report(progress)
            engines = _shared.start(job, settings)
        progress.gpus = _shared.gpus
        progress.weights = f"{settings['location']}@{settings['content']}"
        progress.answering()
        try:
            engines.answer(job.requests, job.spool, progress, job.report)
        except BaseException:
            _shared.close()
            raise

    def engine_settings(self, job: Job) -> dict[str, Any]:
        """Return what `vllm_engine.EngineSettings` are made of for a job's model."""
        options = settings_of(job.model)
        gpus = options.gpus if job.gpus.device_count() else 1
        return engine_settings(job.run, job.name, job.kind, options, gpus=gpus)

    def examine(self, examined: Examination) -> Iterator[Finding]:
        """Yield what there is to say of this host and of the models' weights."""
        models = {name: (model, settings_of(model).gpus) for name, model in examined.models.items()}
        yield from examine_host(examined.run, models, examined.gpus)


def settings_of(model: Model) -> VllmSettings:
    """Return what the recipe says to vLLM of a model."""
    return VllmSettings.model_validate(model.backend_settings)


class _SharedEngines:
    """The engines that this process has running, kept for the next step that needs the same."""

    def __init__(self) -> None:
        self._engines: Engines | None = None
        self._held = ExitStack()
        self.gpus = 0

    def running(self, settings: dict[str, Any]) -> Engines | None:
        """Return the engines if they have these settings."""
        return self._engines if self._engines and self._engines.settings == settings else None

    def start(self, job: Job, settings: dict[str, Any]) -> Engines:
        """Return loaded engines for a job's model; others are ended first."""
        self.close()
        arguments = settings["engine_arguments"]
        leases = self._held.enter_context(
            job.gpus.lease(
                int(settings["tensor_parallel_size"]),
                job.name,
                replicas=settings_of(job.model).replicas,
                memory_share=arguments.get("gpu_memory_utilization", GPU_MEMORY_SHARE),
                log=job.log,
            )
        )
        self.gpus = sum(len(lease.devices) for lease in leases)
        environments = [ENVIRONMENT | lease.environment for lease in leases]
        if not self.gpus:
            environments = [ENVIRONMENT | share for share in core_shares(len(leases))]
        self._engines = Engines(job.name, settings, environments, job.run.logs)
        try:
            self._engines.load()
        except BaseException:
            self.close()
            raise
        return self._engines

    def close(self) -> None:
        """End the engines, if any run, and give their GPUs back."""
        if self._engines:
            self._engines.close()
        self._engines, self.gpus = None, 0
        self._held.close()
        self._held = ExitStack()


def core_shares(engines: int) -> list[dict[str, str]]:
    """Return the variables that give each of some engines on CPUs its part of the cores."""
    own = {name: os.environ.get(name, value) for name, value in ON_CPUS.items()}
    own["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // engines)))
    if engines == 1:
        return [own]
    places = sorted(os.sched_getaffinity(0))
    parts = [places[number::engines] or places for number in range(engines)]
    # For vLLM's own processes, where the environment asks for them.
    return [own | {"VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, part))} for part in parts]


_shared = _SharedEngines()
atexit.register(_shared.close)


def close_engines() -> None:
    """End the engines that this process keeps for its next step."""
    _shared.close()
