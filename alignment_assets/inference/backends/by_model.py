"""The backends there are, and the inference that a recipe describes: each model by its own.

A model names its backend with that backend's settings: ``backend: {vllm: {gpus: 4}}``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from pydantic import ValidationError

from alignment_assets.inference.backend import Examination, Finding, Inference, Job
from alignment_assets.inference.backends.openai.backend import OpenAIInference
from alignment_assets.inference.backends.ray.backend import RayInference
from alignment_assets.inference.backends.vllm.backend import VllmInference
from alignment_assets.recipe.explain import explain
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.model import Model, Recipe
from alignment_assets.recipe.run import Run

BACKENDS: dict[str, type[Inference]] = {
    "vllm": VllmInference,
    "openai": OpenAIInference,
    "ray": RayInference,
}


class InferenceByModel(Inference):
    """Answers for each model by the backend that the recipe names for it."""

    def limits(self, model: Model) -> str:
        """Return the settings that decide which requests of a model are refused."""
        return BACKENDS[model.backend_name]().limits(model)

    def answer(self, job: Job) -> None:
        """Have the model's backend answer; see `Inference.answer`."""
        BACKENDS[job.model.backend_name]().answer(job)

    def engines(self, models: Collection[str], run: Run) -> dict[str, int]:
        """Return what each backend says of the models that name it."""
        found: dict[str, int] = {}
        for name, backend in BACKENDS.items():
            named = [model for model in models if run.recipe.models[model].backend_name == name]
            if named:
                found |= backend().engines(named, run)
        return found

    def examine(self, examined: Examination) -> Iterator[Finding]:
        """Yield what each backend has to say of the models that name it."""
        for name, backend in BACKENDS.items():
            models = {
                k: model for k, model in examined.models.items() if model.backend_name == name
            }
            if models:
                yield from backend().examine(replace(examined, models=models))


def check_backends(recipe: Recipe) -> None:
    """Check what each model says of its backend.

    Raises:
        RecipeError: no such backend, settings that it does not take, or weights that only servers
            know for a backend that loads them itself.
    """
    problems = []
    for name, model in recipe.models.items():
        place = f"models.{name}.backend"
        backend = BACKENDS.get(model.backend_name)
        if backend is None:
            known = f"no backend {model.backend_name!r}; there are {sorted(BACKENDS)}"
            problems.append(f"{recipe.file}: {place}: {known}")
            continue
        try:
            backend.Settings.model_validate(model.backend_settings)
        except ValidationError as error:
            within = f"{place}.{model.backend_name}"
            problems.append(explain(error, recipe.file, backend.Settings, within))
        if model.weights.startswith("served:") and backend.loads_weights:
            problems.append(
                f"{recipe.file}: {place}: {model.backend_name} loads weights, and only servers "
                f"know {model.weights!r}; name a backend that asks servers: openai"
            )
        if (
            name in recipe.completions.policies
            and recipe.reference_logprobs.scope != "none"
            and "loglikelihood" not in backend.kinds
        ):
            problems.append(
                f"{recipe.file}: {place}: {model.backend_name} gives no log-probabilities of "
                f"completions, which reference_logprobs ask of a policy; name vllm or ray, or "
                f"leave them out by reference_logprobs: {{scope: none}}"
            )
    if problems:
        raise RecipeError("\n".join(problems))
