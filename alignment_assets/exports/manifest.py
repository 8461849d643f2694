"""``manifest.json``: what an export is made of, and what its files are, for programs to read.

There is no time of day in it: the same tables give the same bytes. It is also by what a folder is
known as an export of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.exports.shards import Source, Written
from alignment_assets.pages.answers import Answer
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse.schema import product_version

NAME = "manifest.json"
MADE_BY = "alignment-assets"
# The policy's chat template, where the recipe names one in place of its own.
TEMPLATE = "chat_template.jinja"
NOT_STATED = "not stated"
_FINGERPRINTS = """
SELECT DISTINCT model_fingerprint
FROM completions
WHERE model = $policy
ORDER BY ALL
"""


def manifest(
    source: Source, recipe: Recipe, written: Sequence[Written], answers: Mapping[str, Answer]
) -> dict[str, Any]:
    """Return what the manifest says.

    Args:
        source: where the rows came from.
        recipe: what they were made by.
        written: the formats.
        answers: to the questions ``left_out_of_exports`` and ``engines_by_model``.
    """
    policy = recipe.models[source.policy]
    engines = ("model", "task", "engine", "engine_version", "weights", "fingerprint")
    licences = _licences(recipe, source.policy)
    return {
        "made_by": MADE_BY,
        "recipe": {
            "name": recipe.name,
            "description": recipe.description,
            "fingerprint": recipe.fingerprint,
            "seed": recipe.seed,
            "limit": recipe.limit,
        },
        "policy": {
            "name": source.policy,
            "weights": policy.weights,
            "revision": source.commit or policy.revision,
            "model_fingerprint": _fingerprint(source),
            "chat_template": TEMPLATE if policy.chat_template else None,
            "chat_template_arguments": policy.chat_template_arguments,
            "template_date": str(recipe.template_date),
        },
        "selection": recipe.selection.model_dump(mode="json"),
        "test_share": source.test_share,
        "versions": {
            "alignment_assets": product_version(),
            "duckdb": duckdb.__version__,
            "engines": [
                {name: row[name] for name in engines}
                for row in answers["engines_by_model"].rows.records
                if row["model"] in licences["models"]
            ],
        },
        "judges": list(dict.fromkeys(_judging(recipe))),
        "licences": licences,
        "formats": {one.format.name: _format(one, answers) for one in written},
    }


def shown_weights(weights: str) -> str:
    """Return how weights are told to others: of a folder its name, not where it stands."""
    return Path(weights).name if Path(weights).is_absolute() else weights


def _licences(recipe: Recipe, policy: str) -> dict[str, dict[str, str]]:
    """Return the licence of each prompt source, and of each model that has a part in the rows."""
    answering = [one for one in recipe.answering_models if one in recipe.completions.models]
    models = dict.fromkeys((*answering, policy, *_judging(recipe)))
    return {
        "sources": {one.name: one.licence or NOT_STATED for one in recipe.prompts},
        "models": {name: recipe.models[name].licence or NOT_STATED for name in models},
    }


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest into a folder."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return what a folder's manifest says; None if it has none of ours."""
    try:
        found = json.loads((folder / NAME).read_bytes())
    except (OSError, RecursionError, ValueError):
        return None
    ours = isinstance(found, dict) and found.get("made_by") == MADE_BY
    return found if ours and isinstance(found.get("formats"), dict) else None


def is_ours(folder: Path) -> bool:
    """Return whether a folder is an export of ours."""
    return read_manifest(folder) is not None


def fault(folder: Path, files: Mapping[str, tuple[str, int]]) -> str | None:
    """Return how a folder is not the export that has some files; None if it is.

    Args:
        folder: of the export.
        files: the sha256 of each, which the manifest has to have, and its size, by their paths.
    """
    found = read_manifest(folder)
    if found is None:
        return f"no export in {folder}"
    try:
        listed = {
            file["path"]: file["sha256"]
            for one in found["formats"].values()
            for file in one["files"]
        }
    except (AttributeError, KeyError, TypeError):
        listed = {}
    if listed != {path: digest for path, (digest, _) in files.items()}:
        return f"another export in {folder}"
    for path, (_, size) in files.items():
        try:
            found_size = (folder / path).stat().st_size
        except OSError:
            return f"{folder / path} is gone"
        if found_size != size:
            return f"{folder / path} has {found_size:,} bytes of {size:,}"
    return None


def _format(one: Written, answers: Mapping[str, Answer]) -> dict[str, Any]:
    left_out = [
        {"reason": row["reason"], "rows": row["left_out"]}
        for row in answers["left_out_of_exports"].rows.records
        if row["format"] == one.format.name
    ]
    return {
        "about": one.format.about,
        "rows": one.splits,
        "left_out": left_out,
        "columns": [asdict(column) for column in one.columns],
        "files": [
            {"path": f.path, "split": f.split, "rows": f.rows, "bytes": f.bytes, "sha256": f.sha256}
            for f in one.files
        ],
    }


def _fingerprint(source: Source) -> str | None:
    """Return the fingerprint of the policy as it answered; None if there is none, or no single."""
    found = source.connection.execute(_FINGERPRINTS, {"policy": source.policy}).fetchall()
    return str(found[0][0]) if len(found) == 1 else None


def _judging(recipe: Recipe) -> list[str]:
    rewards = recipe.rewards
    scorers = (scorer.model for scorer in rewards.scorers.values())
    return [recipe.controversy.model, *scorers, rewards.comparison_judge]
