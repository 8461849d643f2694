"""Recipe files: finding one by name or path, reading it and saying what is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from alignment_assets.host.expected import Expected
from alignment_assets.host.paths import project_folder
from alignment_assets.recipe.explain import explain
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.moved import moved_keys
from alignment_assets.recipe.wordings import check_wordings


class RecipeError(Expected):
    """A recipe that cannot be used; the message names the file, the place and what is allowed."""


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a value lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            problem = f"the key {', '.join(twice)} stands twice"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_mapping(node, deep)


def find_recipe(name: str | None = None) -> Path:
    """Return the file of a recipe given by name or path.

    Without one, ``ALIGNMENT_RECIPE`` names it; without that it is ``recipe.yaml`` in the working
    directory, and where that is missing ``demo``.

    Raises:
        RecipeError: there is no such file; the message lists the recipes that come along.
    """
    here = "recipe.yaml" if Path("recipe.yaml").is_file() else "demo"
    wanted = name or os.environ.get("ALIGNMENT_RECIPE") or here
    if Path(wanted).suffix in {".yaml", ".yml"}:
        path = Path(wanted).expanduser().absolute()
    else:
        path = project_folder("recipes") / f"{wanted}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in project_folder("recipes").glob("*.yaml"))
        raise RecipeError(f"no recipe {wanted!r}: give a path to a .yaml file or one of {known}")
    return path


def load_recipe(name: str | None = None) -> Recipe:
    """Read and validate a recipe, given by name or path.

    Raises:
        RecipeError: no such file, no YAML, an unknown key, a wrong type, or a name that nothing
            defines; the message has the file, the place in it and what is allowed.
    """
    path = find_recipe(name)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8: {error}") from error
    return parse_recipe(content, path)


def parse_recipe(content: Any, path: Path) -> Recipe:
    """Validate a recipe's content as if it were read from ``path``; see `load_recipe`."""
    if moved := [f"{path}: {line}" for line in moved_keys(content)]:
        raise RecipeError("\n".join(moved))
    try:
        recipe = Recipe.model_validate(content)
        recipe._file = path
        check_wordings(recipe)
    except ValidationError as error:
        raise RecipeError(explain(error, path, Recipe)) from None
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
    return recipe
