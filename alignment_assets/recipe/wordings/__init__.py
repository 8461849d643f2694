"""The prompt texts of ours that engines are shown: one file each in this folder.

A recipe can name another folder with the same file names. Here belongs reading and validating them;
drawing one for a row is SQL (``sql/assets/completion_requests.sql``).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from alignment_assets.host.paths import project_folder

if TYPE_CHECKING:
    from alignment_assets.recipe.model import Recipe

MARKER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
# What stands in braces and may be meant for a placeholder (no quotes, as JSON has them); doubled
# braces.
_BRACES = re.compile(r"\{\{|\}\}|\{[^{}\"\n]*\}")
# Stand for braces that are to be sent.
_OPEN, _CLOSE = "\x01", "\x02"
# Where SQL names a wording.
_NAMED = re.compile(r"wording_id\s*=\s*'([^']+)'")
PRINCIPLES = ("helpful", "honest", "truthful")
CHARTER = "charter"

# The placeholders that each file must have; those of a judge's question have the prompt as well, if
# the recipe says so.
TEMPLATES: dict[str, set[str]] = {
    "persona": {"persona"},
    "charter_persona": {CHARTER},
    "degrade_system": set(),
    "degrade_question": {"prompt", "completion", "faults"},
    "judge_question": {"completion"},
    "compare_charter_system": set(),
    "compare_question": {"first", "second"},
}
_QUESTIONS_OF_JUDGES = ("judge_question", "compare_question")
# Who may say nothing, so that the whole instruction stands in the question; so may a grader.
_MAY_BE_EMPTY = ("compare_charter_system",)
# The files of a grader's wording, by what follows its name, with their placeholders.
GRADER_TEMPLATES: dict[str, set[str]] = {"_system": set(), "_question": {"prompt"}}


def needed_templates(recipe: Recipe) -> list[str]:
    """Return the template files that a recipe's variants, grader and judges use.

    What graders and judges are asked is SQL, which names the texts that it puts in.
    """
    scorers = recipe.rewards.scorers.values()
    asked = ["judge_comparisons/compare"]
    asked += [f"rewards/{scorer.task}" for scorer in scorers]
    folder = project_folder("sql") / "requests"
    names = [name for file in asked for name in _NAMED.findall(_read(folder / f"{file}.sql"))]
    names += [scorer.rubric for scorer in scorers if scorer.rubric]
    names += _grader_templates(recipe)
    variants = {*recipe.completions.standard_variants, *recipe.completions.controversial_variants}
    if "persona" in variants:
        names.append("persona")
    if "charter" in variants or recipe.completions.standard_charter_models:
        names.append("charter_persona")
    if recipe.calibration.prompts:
        names.append("degrade_system")
    return sorted(set(names))


def _grader_templates(recipe: Recipe) -> dict[str, set[str]]:
    """Return the files of the wordings that grade or are tried, with their placeholders."""
    return {
        f"{candidate.wording}{ending}": needed
        for candidate in recipe.controversy.candidates.values()
        for ending, needed in GRADER_TEMPLATES.items()
    }


def check_wordings(recipe: Recipe) -> None:
    """Raise ValueError where a wording that the recipe needs is missing or malformed."""
    list(read_wordings(recipe))


def read_wordings(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table ``wordings``, with the charter put in where a file asks for it.

    Raises:
        ValueError: a file is missing, or its placeholders are not the ones its use needs.
    """
    folder = recipe.wordings_folder
    variants = {*recipe.completions.standard_variants, *recipe.completions.controversial_variants}
    if "principle" in variants:
        yield from _principles(folder)
    if recipe.calibration.prompts:
        yield from _degradations(recipe)
    rubrics = {scorer.rubric for scorer in recipe.rewards.scorers.values()}
    for name in needed_templates(recipe):
        text = _template(recipe, name, is_rubric=name in rubrics)
        yield _row(name, name, text)


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


def read_faults(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the steps in which answers are made worse to try scorers: names and faults.

    Raises:
        ValueError: the file is missing or malformed.
    """
    path = recipe.wordings_folder / "degradations.yaml"
    try:
        steps = yaml.safe_load(_read(path))
    except yaml.YAMLError as error:
        raise ValueError(f"wordings: {path}: not YAML: {error}") from error
    shape = {"name": str, "fault": str}
    if not isinstance(steps, list) or not all(
        isinstance(step, dict) and {key: type(value) for key, value in step.items()} == shape
        for step in steps
    ):
        raise ValueError(f"wordings: {path}: must be a list of entries {{name: …, fault: …}}")
    names = [step["name"] for step in steps]
    if len(names) < 2 or len({*names, "original"}) <= len(names):
        raise ValueError(f"wordings: {path}: needs two steps or more, each with a name of its own")
    if not all(re.fullmatch(r"\w+", name) for name in names):
        raise ValueError(f"wordings: {path}: names are of letters, digits and underscores")
    for step in steps:
        if not step["fault"].strip() or MARKER.search(step["fault"]):
            raise ValueError(
                f"wordings: {path}: the fault of {step['name']} is empty, or has a placeholder; "
                f"say in a sentence how an answer is worse"
            )
    return [(step["name"], step["fault"].strip()) for step in steps]


def _degradations(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the question of each step, with its fault and those before it."""
    question = _template(recipe, "degrade_question", is_rubric=False)
    faults = read_faults(recipe)
    for number, (name, _) in enumerate(faults, start=1):
        listed = "\n".join(f"- {fault}" for _, fault in faults[:number])
        text = question.replace("{faults}", listed)
        yield _row(f"degradation/{number:02d}/{name}", "degradation", text, number=number)


def _template(recipe: Recipe, name: str, *, is_rubric: bool) -> str:
    folder = recipe.wordings_folder
    path = folder / f"{name}.txt"
    text = _marked(path, _read(path).strip(), recipe.wordings_placeholders)
    placed = MARKER.findall(text)
    found = set(placed)
    of_graders = _grader_templates(recipe)
    needed = set() if is_rubric else of_graders.get(name, TEMPLATES.get(name))
    if needed is not None:
        if name in _QUESTIONS_OF_JUDGES and recipe.rewards.judge_sees_question:
            needed = needed | {"prompt"}
        # A lab may put its constitution anywhere.
        unknown, missing = found - needed - {CHARTER}, needed - found
        if unknown or missing:
            raise ValueError(
                f"wordings: {path}: has the placeholders {sorted(found)}, needs {sorted(needed)} "
                f"and may have ['{CHARTER}']: {_advice(unknown, missing)}"
            )
    # Of a lab's own file, its file in sql/requests knows the placeholders.
    may_be_empty = name in _MAY_BE_EMPTY or (name in of_graders and not of_graders[name])
    if not text and not is_rubric and not may_be_empty:
        raise ValueError(f"wordings: {path}: is empty")
    text = text.replace(_OPEN, "{").replace(_CLOSE, "}")
    literal = Counter(MARKER.findall(text)) - Counter(placed)
    if set(literal) & (found | {*(needed or ()), CHARTER}):
        raise ValueError(
            f"wordings: {path}: {{{{…}}}} around the name of a placeholder cannot be sent as it "
            f"stands, since a text would be put in for it; name it otherwise"
        )
    if CHARTER in found:
        charter = _read(folder / "charter.md").strip()
        if MARKER.search(charter):
            raise ValueError(f"wordings: {folder / 'charter.md'}: takes no placeholders")
        text = text.replace(f"{{{CHARTER}}}", charter)
    return text


def _advice(unknown: set[str], missing: set[str]) -> str:
    """Return what to do about placeholders that are not those of ours."""
    advice = []
    if unknown and missing:
        example = f"{min(unknown)}: {min(missing)}"
        advice.append(f"rename them, or say in the recipe wordings_placeholders: {{{example}}}")
    elif unknown:
        advice.append("leave out the others, or double their braces")
    elif missing:
        advice.append("put in what is missing")
    if {"prompt"} & (unknown | missing):
        advice.append("rewards.judge_sees_question says whether a judge sees the prompt")
    return "; ".join(advice)


def _marked(path: Path, text: str, names: Mapping[str, str]) -> str:
    """Return a template with our names of placeholders, and signs for braces that are to be sent.

    In a file with doubled braces, as Python's formatting wants them, these are to be sent as single
    ones; in others all that are not around a name.

    Raises:
        ValueError: something in braces looks like a placeholder and is none.
    """
    is_doubled = "{{" in text

    def mark(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            sign = _OPEN if found[0] == "{{" else _CLOSE
            return sign if is_doubled else sign * 2
        if name := MARKER.fullmatch(found[0]):
            return f"{{{names.get(name[1], name[1])}}}"
        raise ValueError(
            f"wordings: {path}: {found[0]!r} is no placeholder; write a name in the braces, as in "
            f"{{prompt}}, or double all braces that are to be sent, as in {{{{x}}}}"
        )

    return _BRACES.sub(mark, text)


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
