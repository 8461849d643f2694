"""The JSON schema of a recipe, by which editors complete and check one while it is written.

It stands here because a model's settings are its backend's, which the recipe itself does not know.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from alignment_assets.inference.backends.by_model import BACKENDS
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.part import Part


def recipe_schema() -> dict[str, Any]:
    """Return the schema of `Recipe`, with the settings of every backend in it.

    It is looser than `Recipe`: rules that span keys, such as names that must be defined, are not in
    it. What it refuses, `Recipe` or `check_backends` refuses too.
    """
    settings = {name: backend.Settings for name, backend in BACKENDS.items()}
    models: list[type[Part]] = [Recipe, *settings.values()]
    places, schema = models_json_schema([(model, "validation") for model in models])
    parts = schema["$defs"]
    parts["Model"]["properties"]["backend"] |= {
        "properties": {name: places[model, "validation"] for name, model in settings.items()},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **parts.pop("Recipe"),
        "$defs": parts,
    }
