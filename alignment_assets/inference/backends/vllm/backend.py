"""vLLM on this host as inference: engines in worker processes, kept for the next step.

Here belongs which engine runs on which GPUs; what it does is `engine`'s part.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import Field

from alignment_assets.gpus.pool import MEMORY_SHARE, GpuPool
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.backends.vllm.engines import Engines
from alignment_assets.inference.fingerprint import model_fingerprint, resolve_weights
from alignment_assets.inference.progress import Progress
from alignment_assets.recipe.model import Model, Recipe


class VllmInference(Inference):
    """vLLM in a child process; steps of one process that need the same engine share it."""

    engine_arguments: dict[str, Any] = Field(
        default={},
        description="More arguments of vllm.LLM, for all models (gpu_memory_utilization, …).",
    )

    def fingerprint(self, model: str, recipe: Recipe, home: Path) -> str:
        """Return the hash of weights, chat template, its arguments and template date."""
        return model_fingerprint(resolve_weights(model, recipe, home), recipe.models[model], recipe)

    def settings(self, model: Model) -> str:
        """Return the model's context length: only that decides about a request's fate."""
        return json.dumps({"backend": "vllm", "max_model_len": model.max_model_len}, sort_keys=True)

    def answer(
        self, job: Job, gpus: GpuPool, progress: Progress, report: Callable[[Progress], None]
    ) -> None:
        """Run the job in the shared engines, starting them if need be; see `Inference.answer`."""
        settings = self.engine_settings(job, gpus)
        engines = _shared.running(settings)
        if engines is None:
            report(progress)
            engines = _shared.start(job, settings, gpus)
        progress.gpus = _shared.gpus
        progress.weights = f"{settings['location']}@{settings['content']}"
        progress.answering()
        try:
            engines.answer(job.requests, job.spool, progress, report)
        except BaseException:
            _shared.close()
            raise

    def engine_settings(self, job: Job, gpus: GpuPool) -> dict[str, Any]:
        """Return what `engine.EngineSettings` are made of for a job's model."""
        model = job.recipe.models[job.model]
        weights = resolve_weights(job.model, job.recipe, job.home)
        template = (
            job.recipe.resolve(model.chat_template).read_text("utf-8")
            if model.chat_template
            else None
        )
        return {
            "location": weights.location,
            "commit": weights.commit,
            "content": weights.content,
            "runner": "pooling" if job.task == "classify" else "generate",
            "tensor_parallel_size": model.gpus if gpus.device_count() else 1,
            "max_model_len": model.max_model_len,
            "max_num_seqs": model.max_num_seqs,
            "dtype": model.dtype,
            "chat_template": template,
            "chat_template_arguments": model.chat_template_arguments,
            "template_date": job.recipe.template_date,
            "engine_arguments": self.engine_arguments,
            "refusal_settings": self.settings(model),
        }


class _SharedEngines:
    """The engines that this process has running, kept for the next step that needs the same."""

    def __init__(self) -> None:
        self._engines: Engines | None = None
        self._held = ExitStack()
        self.gpus = 0

    def running(self, settings: dict[str, Any]) -> Engines | None:
        """Return the engines if they have these settings."""
        return self._engines if self._engines and self._engines.settings == settings else None

    def start(self, job: Job, settings: dict[str, Any], gpus: GpuPool) -> Engines:
        """Return loaded engines for a job's model; others are ended first."""
        self.close()
        arguments = settings["engine_arguments"]
        leases = self._held.enter_context(
            gpus.lease(
                int(settings["tensor_parallel_size"]),
                job.model,
                replicas=job.recipe.models[job.model].replicas,
                memory_share=arguments.get("gpu_memory_utilization", MEMORY_SHARE),
                log=job.log,
            )
        )
        self.gpus = sum(len(lease.devices) for lease in leases)
        environment = {
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_NO_USAGE_STATS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        environments = [environment | lease.environment for lease in leases]
        if not self.gpus and len(leases) > 1:
            for share, cores in zip(environments, _core_shares(len(leases)), strict=True):
                share["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
        self._engines = Engines(job.model, settings, environments, job.home / "logs")
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


def _core_shares(count: int) -> list[list[int]]:
    """Return this process's cores in as many parts, so that engines on a CPU keep apart."""
    cores = sorted(os.sched_getaffinity(0))
    return [cores[number::count] or cores for number in range(count)]


_shared = _SharedEngines()
atexit.register(_shared.close)


def close_engines() -> None:
    """End the engines that this process keeps for its next step."""
    _shared.close()
