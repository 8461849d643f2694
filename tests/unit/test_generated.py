"""What is made from code is current, and is what it is for: completion, checks, a reference."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from jsonschema import Draft202012Validator

from alignment_assets.commands.app import app
from alignment_assets.host.paths import project_folder
from tests.conftest import REPOSITORY
from tests.support.generated import GENERATED, walk

SCHEMA = json.loads((project_folder("recipes") / "recipe.schema.json").read_text(encoding="utf-8"))
RECIPES = [*REPOSITORY.glob("recipes/*.yaml"), *REPOSITORY.glob("tests/recipes/*.yaml")]
COMMANDS = {
    path: command
    for path, command in walk("alignment-assets", typer.main.get_command(app))
    if not hasattr(command, "commands")
}


def refusals(recipe: dict[str, Any]) -> list[str]:
    """Return what the shipped schema finds wrong with a recipe."""
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(recipe)]


def demo() -> dict[str, Any]:
    """Return the demo recipe's content, each part a copy of its own."""
    content = yaml.safe_load((REPOSITORY / "recipes/demo.yaml").read_text(encoding="utf-8"))
    copied: dict[str, Any] = json.loads(json.dumps(content))
    return copied


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_current(name: str) -> None:
    current = (REPOSITORY / name).read_text(encoding="utf-8") == GENERATED[name]()
    assert current, f"{name} is not what the code says; run `make docs` and commit the file"


# -- the schema of recipes -------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_names_its_schema_and_keeps_to_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == REPOSITORY / "recipes/recipe.schema.json"
    assert refusals(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    ("place", "value", "refusal"),
    [
        ("selecton", {}, "'selecton' was unexpected"),
        ("selection.rejected_quantiles", 0.2, "'rejected_quantiles' was unexpected"),
        ("selection.rejected_quantile", 20, "20 is greater than the maximum of 1"),
        ("completions.sampling.max_tokens", "many", "'many' is not of type 'integer'"),
        ("models.smollm2-135m.backend", {"vllm": {"gpu": 2}}, "'gpu' was unexpected"),
        ("models.smollm2-135m.backend", {"rya": {}}, "'rya' was unexpected"),
        ("models.smollm2-135m.backend", {"openai": {}}, "'urls' is a required property"),
        ("models.smollm2-135m.backend", {}, "{} should be non-empty"),
    ],
)
def test_the_schema_refuses_what_the_recipe_refuses(place: str, value: Any, refusal: str) -> None:
    recipe = part = demo()
    *parents, last = place.split(".")
    for parent in parents:
        part = part[parent]
    part[last] = value
    (found,) = refusals(recipe)
    assert refusal in found


def test_the_schema_takes_a_labs_own_strategy_and_task_and_names_those_that_come_along() -> None:
    recipe = demo()
    recipe["selection"]["strategy"] = "mine"
    recipe["rewards"]["standard"]["task"] = "coherence"
    assert refusals(recipe) == []
    parts = SCHEMA["$defs"]
    assert "published" in parts["Selection"]["properties"]["strategy"]["examples"]
    assert "rate" in parts["Scorer"]["properties"]["task"]["examples"]


# -- the reference of commands ---------------------------------------------------------------------


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_is_documented_with_an_example_that_it_takes(path: str) -> None:
    page = (REPOSITORY / "docs/commands.md").read_text(encoding="utf-8")
    _, heading, rest = page.partition(f"## `{path}`\n")
    assert heading, f"docs/commands.md has no {path}; run `make docs`"
    _, _, example = rest.split("\n#")[0].rpartition("\nExample: `")
    assert example.startswith(f"{path} ") or example.startswith(f"{path}`"), f"{path}: no example"
    arguments = shlex.split(example.strip().removesuffix("`").removeprefix(path))
    with COMMANDS[path].make_context(path, arguments):
        pass
