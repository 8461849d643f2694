"""Inference as a Dagster resource: whoever answers requests, behind one small interface.

`Inference` is what assets know. `VllmInference` answers with vLLM in a worker process of its own.
Which requests there are, and what becomes of the answers, is not decided here.
"""

from __future__ import annotations

import atexit
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import ConfigurableResource
from pydantic import Field

from alignment_assets.inference.fingerprint import model_fingerprint, resolve_weights
from alignment_assets.inference.process import WorkerProcess
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.requests import Task
from alignment_assets.recipe import Model, Recipe
from alignment_assets.resources.gpus import GpuPool, visible_devices


@dataclass(frozen=True)
class Job:
    """Requests for one model.

    Attributes:
        model: the recipe's name of the model that answers.
        recipe: what defines the model.
        home: the run's folder, for logs and recorded revisions.
        task: what the requests ask for.
        requests: the work file.
        spool: the folder that takes the answers.
        total: how many requests there are.
    """

    model: str
    recipe: Recipe
    home: Path
    task: Task
    requests: Path
    spool: Path
    total: int


class Inference(ConfigurableResource[None], ABC):
    """Answers requests into the spool."""

    @abstractmethod
    def fingerprint(self, model: str, recipe: Recipe, home: Path) -> str:
        """Return the fingerprint of one of the recipe's models."""

    @abstractmethod
    def settings(self, model: Model) -> str:
        """Return, as canonical JSON, the settings that decide which requests are refused."""

    @abstractmethod
    def answer(
        self, job: Job, gpus: GpuPool, progress: Progress, report: Callable[[Progress], None]
    ) -> dict[str, Any]:
        """Answer all requests of a job and return what to note about it.

        ``progress`` is kept up to date, and ``report`` called with it about every second.
        """


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
    ) -> dict[str, Any]:
        """Run the job in the shared worker, starting it if need be; see `Inference.answer`."""
        model = job.recipe.models[job.model]
        weights = resolve_weights(job.model, job.recipe, job.home)
        template = (
            job.recipe.resolve(model.chat_template).read_text("utf-8")
            if model.chat_template
            else None
        )
        settings = {
            "location": weights.location,
            "commit": weights.commit,
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
        worker = _engine.running(settings)
        if worker is None:
            report(progress)
            worker = _engine.start(job.model, settings, gpus, job.home / "logs")
        progress.answering()
        command = {"do": "answer", "requests": str(job.requests), "spool": str(job.spool)}
        try:
            for event in worker.ask(command, until="done"):
                for name in (
                    "done",
                    "refused",
                    "in_flight",
                    "prompt_tokens",
                    "completion_tokens",
                    "cached_tokens",
                ):
                    setattr(progress, name, event.get(name, 0))
                report(progress)
        except BaseException:
            _engine.close()
            raise
        return {"engine_log": str(worker.log)}


class _SharedEngine:
    """The one engine that this process has running, kept for the next step that needs the same."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] | None = None
        self._worker: WorkerProcess | None = None
        self._held = ExitStack()

    def running(self, settings: dict[str, Any]) -> WorkerProcess | None:
        """Return the worker if it has this engine loaded."""
        return (
            self._worker
            if self._worker and self._worker.alive and self._settings == settings
            else None
        )

    def start(
        self, name: str, settings: dict[str, Any], gpus: GpuPool, logs: Path
    ) -> WorkerProcess:
        """Return a worker with this engine loaded; another engine is ended first."""
        self.close()
        leased = self._held.enter_context(gpus.lease(int(settings["tensor_parallel_size"]), name))
        environment = {
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_NO_USAGE_STATS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **visible_devices(leased),
        }
        self._worker = WorkerProcess(name, logs, environment)
        try:
            for _ in self._worker.ask({"do": "load", "settings": settings}, until="ready"):
                pass
        except BaseException:
            self.close()
            raise
        self._settings = settings
        return self._worker

    def close(self) -> None:
        """End the engine, if one runs, and give its GPUs back."""
        if self._worker:
            self._worker.close()
        self._worker = self._settings = None
        self._held.close()
        self._held = ExitStack()


_engine = _SharedEngine()
atexit.register(_engine.close)


def close_engine() -> None:
    """End the engine that this process keeps for its next step."""
    _engine.close()
