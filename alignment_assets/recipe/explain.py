"""What pydantic finds wrong with a file, in words that the file's author can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError


def explain(error: ValidationError, path: Path, model: type[BaseModel], place: str = "") -> str:
    """Return one line for each problem: the file, the place in it and what is allowed.

    Args:
        error: what validating the file's content raised.
        path: the file.
        model: what the content was validated as.
        place: where in the file the content stands; empty if it is all of it.
    """
    lines = []
    for problem in error.errors():
        parts = [*([place] if place else []), *map(str, problem["loc"])]
        found = ".".join(parts) or model.__name__.lower()
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key; allowed are {_allowed_keys(model, problem['loc'][:-1])}"
        lines.append(f"{path}: {found}: {message}")
    return "\n".join(lines)


def _allowed_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the part of ``model`` at ``location``."""
    part: Any = model
    for step in location:
        if not (isinstance(part, type) and issubclass(part, BaseModel)):
            break
        annotation = part.model_fields[str(step)].annotation if step in part.model_fields else part
        part = next((kind for kind in models_in(annotation)), part)
    return sorted(part.model_fields)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field's annotation names, such as those in a list or mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    arguments = getattr(annotation, "__args__", ())
    return [model for argument in arguments for model in models_in(argument)]
