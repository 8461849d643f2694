"""The inference that a recipe describes: each model answered by the backend that it names.

Here belongs the choice alone; `vllm` and `endpoints` beside this module answer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.backends.openai.backend import EndpointInference
from alignment_assets.inference.backends.vllm.backend import VllmInference
from alignment_assets.inference.progress import Progress
from alignment_assets.recipe.model import Model, Recipe


class ModelInference(Inference):
    """Endpoints for the models that have some in the recipe, vLLM on this host for the others."""

    engine_arguments: dict[str, Any] = Field(
        default={},
        description="More arguments of vllm.LLM, for all models that run on this host.",
    )

    def fingerprint(self, model: str, recipe: Recipe, home: Path) -> str:
        """Return the fingerprint of one of the recipe's models."""
        return self._of(recipe.models[model]).fingerprint(model, recipe, home)

    def settings(self, model: Model) -> str:
        """Return the settings that decide which requests of a model are refused."""
        return self._of(model).settings(model)

    def answer(
        self, job: Job, gpus: GpuPool, progress: Progress, report: Callable[[Progress], None]
    ) -> None:
        """Have the model's backend answer; see `Inference.answer`."""
        self._of(job.recipe.models[job.model]).answer(job, gpus, progress, report)

    def _of(self, model: Model) -> Inference:
        if model.endpoints is not None:
            return EndpointInference()
        return VllmInference(engine_arguments=self.engine_arguments)
