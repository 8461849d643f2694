"""The settings that rows are made with: those of a whole table, and those of one partition.

Dagster has one code version for all partitions of an asset. So settings that concern some
partitions alone, such as a model's temperature, must not be in it: a hash of them is kept with each
partition's materialization. Which field is which, `alignment_assets.recipe.consequences` says.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from alignment_assets.recipe.model import Model, Recipe

# What a policy is asked is no concern of the models, nor one model's reasoning of the others.
_OF_SOME = ("completions_reference_completions", "models_reasoning")
_FINGERPRINTS = (
    *("model_fingerprint", "scorer_fingerprint", "judge_fingerprint"),
    "tokenizer_fingerprint",
)


def table_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that SQL names and that concern all partitions of a table alike.

    A model's fingerprint is its own, but for the template date, which is the same for all.
    """
    settings = {name: value for name, value in recipe.settings().items() if name not in _OF_SOME}
    return {**settings, **dict.fromkeys(_FINGERPRINTS, recipe.template_date)}


def partition_settings(recipe: Recipe, table: str, partition: str | None) -> dict[str, str]:
    """Return hashes of the settings that a partition is made with and others are not.

    They are the recipe's words: what a branch, a folder or a variable stands for is looked up when
    the partition is made.

    Args:
        recipe: what says so.
        table: the table.
        partition: its partition; None if it has none.

    Returns:
        The hashes by whose settings they are, such as ``this model`` or ``the judge qwen3-32b``;
        none for a table that is made of other tables alone.
    """
    if table == "recipes":
        return {"the recipe": recipe.fingerprint[:16]}
    if table == "source_prompts":
        (source,) = (source for source in recipe.prompts if source.name == partition)
        return {
            "this source": _hash(source.model_dump(exclude={"name", "track", "keep", "licence"}))
        }
    if table == "grader_trials" and partition:
        model = recipe.controversy.candidates[partition].model
        return {"this candidate": _hash([_identity(recipe, model), _limits(recipe.models[model])])}
    if table == "degraded_answers":
        name = recipe.calibration_model
        said = [_identity(recipe, name), _limits(recipe.models[name])]
        return {f"the model {name}": _hash([*said, recipe.completion_sampling(name).as_json()])}
    if table == "completion_requests" and partition:
        is_policy = partition in recipe.completions.policies
        asked = [
            recipe.completion_sampling(partition).as_json(),
            {track: sorted(variants) for track, variants in recipe.variants(partition).items()},
            recipe.completions.reference_completions if is_policy else None,
        ]
        return {"this model": _hash([_identity(recipe, partition), asked])}
    if table == "completions" and partition:
        spec = recipe.models[partition]
        return {"this model": _hash([*_limits(spec), spec.reasoning])}
    if table in ("policy_tokens", "training_export") and partition:
        return {"this policy": _hash(_identity(recipe, partition))}
    if table == "reference_logprobs" and partition:
        limits = _limits(recipe.models[partition])
        return {"this policy": _hash([_identity(recipe, partition), limits])}
    return {
        f"the {role} {name}": _hash([_identity(recipe, name), _limits(recipe.models[name])])
        for role, name in _answering(recipe, table, partition)
    }


def _answering(recipe: Recipe, table: str, partition: str | None) -> list[tuple[str, str]]:
    """Return who answers for a partition whose name is not theirs, and as what."""
    rewards = recipe.rewards
    if table == "calibration_answers" and partition:
        judge = [("judge", rewards.comparison_judge)] if partition == "controversial" else []
        return [("scorer", rewards.scorers[partition].model), *judge]
    answering = {
        "controversy_labels": [("grader", recipe.controversy.model)],
        "rewards": [("scorer", scorer.model) for scorer in rewards.scorers.values()],
        "judge_comparisons": [("judge", rewards.comparison_judge)],
    }
    return answering.get(table, [])


def _identity(recipe: Recipe, name: str) -> list[Any]:
    """Return what the recipe says of a model's fingerprint, but for the template date."""
    model = recipe.models[name]
    template = recipe.resolve(model.chat_template) if model.chat_template else None
    content = template.read_bytes() if template and template.is_file() else b""
    return [
        model.weights,
        model.revision,
        [template is not None, hashlib.sha256(content).hexdigest()],
        model.chat_template_arguments,
        model.system_prompt,
    ]


def _limits(model: Model) -> list[Any]:
    """Return what decides which requests are refused: under other limits they are asked again."""
    # On a cluster of Ray's vLLM answers too, and refuses the same.
    engine = "vllm" if model.backend_name == "ray" else model.backend_name
    return [engine, model.max_model_len]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
