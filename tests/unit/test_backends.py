"""A backend is its folder and one line where backends are listed; a recipe names it per model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Examination, Finding, Inference, Job
from alignment_assets.inference.backends.by_model import (
    BACKENDS,
    InferenceByModel,
    check_backends,
)
from alignment_assets.inference.progress import Progress
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.model import Model, Recipe
from alignment_assets.recipe.part import Part
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe

MODEL = "smollm2-135m"


class ParrotSettings(Part):
    """What a recipe says to the parrot."""

    words: int = 2


class Parrot(Inference):
    """A backend of its own: it says how many words it was told to."""

    Settings: ClassVar[type[ParrotSettings]] = ParrotSettings
    loads_weights: ClassVar[bool] = False

    def limits(self, model: Model) -> str:
        return json.dumps({"backend": "parrot", **model.backend_settings})

    def answer(self, job: Job) -> None:
        job.progress.done = ParrotSettings.model_validate(job.model.backend_settings).words

    def examine(self, examined: Examination) -> Iterator[Finding]:
        for name in examined.models:
            yield Finding(f"model {name}", "ok", "it talks")


def with_backend(backend: dict[str, Any], weights: str = "served:bird") -> Recipe:
    models = changed_recipe().model_dump(mode="json")["models"]
    models[MODEL] |= {"backend": backend, "weights": weights}
    return changed_recipe({"models": models})


def test_a_backend_that_is_listed_answers_for_the_models_that_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "parrot", Parrot)
    recipe = with_backend({"parrot": {"words": 7}})
    check_backends(recipe)
    run, gpus, progress = Run(recipe, tmp_path), GpuPool(), Progress("test", 7)
    inference = InferenceByModel()

    inference.answer(Job(run, MODEL, "generate", tmp_path, tmp_path, gpus, progress))

    assert progress.done == 7
    assert json.loads(inference.limits(recipe.models[MODEL])) == {"backend": "parrot", "words": 7}
    found = list(inference.examine(Examination(run, {MODEL: recipe.models[MODEL]}, gpus)))
    assert found == [Finding(f"model {MODEL}", "ok", "it talks")]


@pytest.mark.parametrize(
    ("backend", "weights", "said"),
    [
        ({"parrot": {}}, "hf:a/b", "backend: no backend 'parrot'; there are ["),
        ({"vllm": {"gpu": 1}}, "hf:a/b", "backend.vllm.gpu: unknown key; allowed are ['dtype'"),
        ({"vllm": {"gpus": 0}}, "hf:a/b", "backend.vllm.gpus: Input should be greater than"),
        ({"vllm": {"dtype": "float8"}}, "hf:a/b", "'auto', 'bfloat16', 'float16' or 'float32'"),
        ({"openai": {}}, "hf:a/b", "backend.openai.urls: Field required"),
        ({"vllm": {}}, "served:x", "vllm loads weights, and only servers know 'served:x'"),
        (
            {"vllm": {"engine_arguments": {"trust_remote_code": True}}},
            "hf:a/b",
            "alignment_assets decides about trust_remote_code",
        ),
    ],
)
def test_what_a_model_says_wrong_of_its_backend_is_told_with_its_place(
    backend: dict[str, Any], weights: str, said: str
) -> None:
    recipe = with_backend(backend, weights)
    with pytest.raises(RecipeError) as refused:
        check_backends(recipe)
    assert f"{recipe.file}: models.{MODEL}.backend" in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("backend", [{}, {"vllm": {}, "openai": {}}])
def test_one_backend_answers_for_a_model(backend: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="one backend answers for a model"):
        with_backend(backend)


@pytest.mark.parametrize(
    ("key", "value", "now"),
    [("gpus", 2, "{vllm: {gpus: …}}"), ("endpoints", {"urls": []}, "{openai: {urls: […]}}")],
)
def test_a_setting_that_moved_to_the_backend_is_told_where_it_is(
    key: str, value: Any, now: str
) -> None:
    models = changed_recipe().model_dump(mode="json")["models"]
    models[MODEL] |= {key: value}
    with pytest.raises(RecipeError) as refused:
        changed_recipe({"models": models})
    assert f"models.{MODEL}.{key}: is now backend: {now}" in str(refused.value)
    assert "docs/recipes.md" in str(refused.value)
