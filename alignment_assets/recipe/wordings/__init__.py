"""The prompt texts of ours that engines are shown: one file each in this folder.

A recipe can name another folder with the same file names. Here belongs reading and validating them;
drawing one for a row is SQL (``sql/assets/completion_requests.sql``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from alignment_assets.host.paths import project_folder

if TYPE_CHECKING:
    from alignment_assets.recipe.model import Recipe

MARKER = re.compile(r"\{([a-z]+)\}")
# Where SQL names a wording.
_NAMED = re.compile(r"wording_id\s*=\s*'([^']+)'")
PRINCIPLES = ("helpful", "honest", "truthful")

# The markers each file must hold, once each and in this order.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "persona": ("persona",),
    "charter_persona": ("charter",),
    "controversy_system": (),
    "controversy_question": ("prompt",),
    "judge_charter_system": ("charter",),
    "judge_helpfulness_system": (),
    "judge_question": ("prompt", "completion"),
    "compare_charter_system": ("charter",),
    "compare_question": ("prompt", "first", "second"),
}


def needed_templates(recipe: Recipe) -> list[str]:
    """Return the template files that a recipe's variants, grader and judges use.

    What graders and judges are asked is SQL, which names the texts that it puts in.
    """
    scorers = recipe.rewards.scorers.values()
    asked = ["controversy_labels/grade", "judge_comparisons/compare"]
    asked += [f"rewards/{scorer.task}" for scorer in scorers]
    folder = project_folder("sql") / "requests"
    names = [name for file in asked for name in _NAMED.findall(_read(folder / f"{file}.sql"))]
    names += [scorer.rubric for scorer in scorers if scorer.rubric]
    variants = {*recipe.completions.standard_variants, *recipe.completions.controversial_variants}
    if "persona" in variants:
        names.append("persona")
    if "charter" in variants or recipe.completions.standard_charter_models:
        names.append("charter_persona")
    return sorted(set(names))


def check_wordings(recipe: Recipe) -> None:
    """Raise ValueError where a wording that the recipe needs is missing or malformed."""
    list(read_wordings(recipe))


def read_wordings(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table ``wordings``, with the charter put in where a file asks for it.

    Raises:
        ValueError: a file is missing, or its markers are not the ones its use needs.
    """
    folder = recipe.wordings_folder
    variants = {*recipe.completions.standard_variants, *recipe.completions.controversial_variants}
    if "principle" in variants:
        yield from _principles(folder)
    rubrics = {scorer.rubric for scorer in recipe.rewards.scorers.values()}
    for name in needed_templates(recipe):
        yield _row(name, name, _template(folder, name, shown_as_is=name in rubrics))


def _principles(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / "principles.yaml"
    try:
        principles = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise ValueError(f"wordings: {path}: not YAML: {error}") from error
    if not isinstance(principles, dict) or sorted(principles) != sorted(PRINCIPLES):
        raise ValueError(f"wordings: {path}: the keys must be {', '.join(PRINCIPLES)}")
    for principle in PRINCIPLES:
        texts = principles[principle]
        if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"wordings: {path}: {principle} must be a list of texts, at least one")
        for number, text in enumerate(texts):
            wording_id = f"principle/{principle}/{number:02d}"
            yield _row(wording_id, "principle", text.strip(), principle, number)


def _template(folder: Path, name: str, *, shown_as_is: bool) -> str:
    path = folder / f"{name}.txt"
    text = _read(path).strip()
    markers = tuple(MARKER.findall(text))
    if shown_as_is:  # a rubric: nothing is put in but the charter
        expected: tuple[str, ...] = ("charter",) if "charter" in markers else ()
    else:
        # For a text of a lab's own, its file in sql/requests puts something in for each marker.
        expected = TEMPLATES.get(name, markers)
    if markers != expected:
        raise ValueError(
            f"wordings: {path}: needs the markers {list(expected)} in this order, "
            f"has {list(markers)}"
        )
    if "charter" in expected:
        charter = _read(folder / "charter.md").strip()
        if MARKER.search(charter):
            raise ValueError(f"wordings: {folder / 'charter.md'}: takes no markers")
        text = text.replace("{charter}", charter)
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"wordings: {path}: not UTF-8: {error}") from error
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"wordings: no file {path}; the recipe's variants and rubrics need it, and the "
            f"package's wordings folder has one to start from"
        ) from None


def _row(
    wording_id: str, kind: str, text: str, principle: str | None = None, number: int | None = None
) -> dict[str, Any]:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {
        "wording_id": wording_id,
        "kind": kind,
        "principle": principle,
        "number": number,
        "text": text,
        "wording_hash": digest,
    }
