"""What a change of each field of a recipe makes stale: every field is declared here, once.

A field is in the code version of tables (*graph*), in the hash that is kept with some of their
partitions (*partition*), or in neither, with the reason. ``recipe/settings.py`` and the assets do
what stands here; a test changes every field and compares what `status` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from alignment_assets.recipe.explain import models_in
from alignment_assets.recipe.limits import Limits
from alignment_assets.recipe.model import Recipe


@dataclass(frozen=True)
class Consequence:
    """What a change of a field makes stale; what is made from it follows when that is made again.

    Attributes:
        why: the reason, or what exactly counts.
        graph: tables in whose code version the field is: all of their partitions are stale.
        partition: tables of which only the partitions that the field concerns are stale.
    """

    why: str
    graph: tuple[str, ...] = ()
    partition: tuple[str, ...] = ()


def graph(*tables: str, why: str = "") -> Consequence:
    """Declare a field that is in the code version of tables."""
    return Consequence(why, graph=tables)


def partition(*tables: str, why: str) -> Consequence:
    """Declare a field that is in the hash kept with partitions of tables."""
    return Consequence(why, partition=tables)


def nothing(why: str) -> Consequence:
    """Declare a field that makes nothing stale."""
    return Consequence(why)


_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty"),
    *("presence_penalty", "frequency_penalty", "max_tokens"),
)
_READING = ("dataset", "configs", "split", "revision", "columns")
_SCORER = ("task", "model", "thinking_tokens")

_OF_SOURCE = partition("source_prompts", why="of the source: its rows are read by it")
_RULE_OF_SOURCES = graph("prompt_exclusions", "licensed_prompts", why="a rule over the rows read")
_RULE_OF_CONSENT = graph("prompt_exclusions", "licensed_prompts")
_EVIDENCE = graph("prompt_exclusions", why="an exclusion tells it")
_OF_MODEL = partition(
    *("completion_requests", "grader_trials", "controversy_labels", "rewards"),
    *("degraded_answers", "calibration_answers"),
    *("judge_comparisons", "policy_tokens", "reference_logprobs", "training_export"),
    why="of the model where it answers, of every partition that it grades, scores or judges, and "
    "of the policy that it is: a request is named by it, and tokens are counted by it",
)
_LIMITS = partition(
    *("completions", "grader_trials", "controversy_labels", "rewards", "judge_comparisons"),
    *("degraded_answers", "calibration_answers", "reference_logprobs"),
    why="of the model where it answers, of every partition that it grades, scores or judges, and "
    "of the policy that it is: what was refused is asked again under other limits",
)
_OWN_SAMPLING = partition(
    "completion_requests", "degraded_answers", why="of the model, where it answers"
)
_SAMPLING_OF_ALL = partition(
    "completion_requests",
    "degraded_answers",
    why="of the models that do not have it of their own",
)
_VARIANTS = Consequence(
    "of the models, not of the policies; of `wordings`, if it needs other texts",
    graph=("wordings",),
    partition=("completion_requests",),
)
_WHO_GRADES = "a new candidate for the grader is a partition that is missing"
_GATE = "if there is a gate for the first time, or none any more; else what is published stays"
_WHO_IS_TRIED = (
    "a new candidate is a partition that is missing; if it needs other texts, what reads "
    "`wordings` is stale after those are made again, and asks nothing"
)
_RESOURCES = nothing("of the machine, not of the rows")
_ELSEWHERE = nothing("another database, to which `move` takes the tables as they are")
_TOLD = graph("training_export", why="the export tells it")

# By place in the recipe; `*` stands for each entry of a list or mapping.
CONSEQUENCES: dict[str, Consequence] = {
    "name": nothing("another name is another recipe: all is missing, and the home is another"),
    "description": nothing("for readers"),
    "seed": graph(
        *("prompt_exclusions", "completion_requests", "judge_comparisons", "judge_rankings"),
        *("selected_pairs", "selection_report"),
        *("degraded_answers", "calibration_answers", "judge_calibration"),
        why="every table that draws; `training_export` where it has a test split",
    ),
    "limit": graph("prompt_exclusions"),
    "wordings": graph("wordings", why="if a text in the folder is another"),
    "wordings_placeholders": nothing("what the texts become by it counts"),
    "template_date": graph(
        *("completion_requests", "grader_trials", "controversy_labels", "rewards"),
        *("degraded_answers", "calibration_answers"),
        *("judge_comparisons", "policy_tokens", "reference_logprobs"),
        why="a request is named by it",
    ),
    "max_prompt_characters": graph("prompt_exclusions"),
    "max_row_bytes": graph("source_prompts", "personas", "human_labels"),
    "placeholders": graph("source_prompts", "personas"),
    "prompts": graph(
        *("prompt_exclusions", "licensed_prompts"),
        why="which sources there are, in which order; a new one is a partition that is missing, "
        "and `training_export` tells its licence",
    ),
    "prompts.*.name": graph(
        *("prompt_exclusions", "licensed_prompts"), why="another name is another source"
    ),
    **dict.fromkeys((f"prompts.*.{field}" for field in (*_READING, "form")), _OF_SOURCE),
    "prompts.*.licence": _TOLD,
    "prompts.*.track": _RULE_OF_SOURCES,
    "prompts.*.keep": _RULE_OF_SOURCES,
    **dict.fromkeys((f"personas.{field}" for field in _READING), graph("personas")),
    "personas.max_characters": graph("personas"),
    "human_labels": graph("human_labels"),
    **dict.fromkeys((f"human_labels.{field}" for field in _READING), graph("human_labels")),
    "licence.excluded_subsets": graph("prompt_exclusions"),
    "licence.excluded_sources": graph("prompt_exclusions"),
    "consent.agents": graph("origin_consent"),
    "consent.robots": graph("origin_consent", why="which folder or table; not what is in it"),
    "consent.scope": graph("origin_consent"),
    "consent.blocked_domains": graph("origin_consent"),
    "consent.blocked_domains.*.file": graph(
        "origin_consent", why="which file; not the domains in it"
    ),
    "consent.blocked_domains.*.date": graph("origin_consent"),
    "consent.unknown_origins": _RULE_OF_CONSENT,
    **{
        f"consent.{rules}{field}": consequence
        for rules in ("sources", "subsets")
        for field, consequence in (
            ("", _RULE_OF_CONSENT),
            (".*.decision", _RULE_OF_CONSENT),
            (".*.evidence", _EVIDENCE),
            (".*.date", _EVIDENCE),
        )
    },
    "models": nothing("a model that no other field names does nothing"),
    "models.*.weights": Consequence(
        f"{_OF_MODEL.why}; `judge_calibration` if their owner is another",
        graph=("judge_calibration",),
        partition=_OF_MODEL.partition,
    ),
    "models.*.family": graph("judge_calibration", why="of a model that answers or scores"),
    "models.*.revision": _OF_MODEL,
    "models.*.chat_template": _OF_MODEL,
    "models.*.chat_template_arguments": _OF_MODEL,
    "models.*.system_prompt": _OF_MODEL,
    "models.*.reasoning": partition("completions", why="of the model, where it answers"),
    "models.*.backend": _LIMITS,
    "models.*.backend.*.*": nothing(
        "how and where a model runs names no request: the answers that are there stay"
    ),
    "models.*.billions": nothing("orders partitions"),
    "models.*.licence": _TOLD,
    "models.*.price": nothing("forecasts tell what it comes to"),
    "models.*.price.prompt": nothing("forecasts tell what it comes to"),
    "models.*.price.completion": nothing("forecasts tell what it comes to"),
    "models.*.max_model_len": _LIMITS,
    "models.*.max_tokens": _OWN_SAMPLING,
    "models.*.temperature": _OWN_SAMPLING,
    "inference.attempts": nothing("what failed is asked again by the next run in any case"),
    "inference.max_failed_share": nothing("bars publishing; what is published stays"),
    **dict.fromkeys(
        (f"limits.{name}" for name in Limits.model_fields),
        nothing("bars publishing; what is published stays"),
    ),
    "controversy.model": graph(
        *("controversy_labels", "grader_agreement", "controversy_agreement"), why=_WHO_GRADES
    ),
    "controversy.wording": graph(
        *("wordings", "controversy_labels", "grader_agreement", "controversy_agreement"),
        why=f"{_WHO_GRADES}; `wordings`, if it needs other texts",
    ),
    "controversy.threshold": graph(
        "controversy_labels", "grader_agreement", "controversy_agreement"
    ),
    "controversy.attempts": graph("grader_trials", "controversy_labels"),
    "controversy.reasoning_characters": graph("grader_trials", "controversy_labels"),
    "controversy.trials.models": nothing(_WHO_IS_TRIED),
    "controversy.trials.wordings": graph("wordings", why=_WHO_IS_TRIED),
    "controversy.min_accuracy": graph("controversy_labels", why=_GATE),
    "controversy.min_kappa": graph("controversy_labels", why=_GATE),
    "controversy.gate_on": nothing("bars grading; what is published stays"),
    **{
        f"controversy.sampling.{field}": graph("grader_trials", "controversy_labels")
        for field in _SAMPLING
    },
    "completions.models": graph(
        *("judge_comparisons", "judge_rankings", "policy_tokens", "quantile_rewards"),
        *("calibration_answers", "judge_calibration"),
        why="whose candidates a policy has; a new model's own partitions are missing, the other "
        "models' are fresh; `degraded_answers` if the largest is another",
    ),
    "completions.policies": nothing("a new policy's partitions are missing, all others are fresh"),
    "completions.reference_completions": partition(
        "completion_requests", why="of the policies, not of the models"
    ),
    "completions.standard_variants": _VARIANTS,
    "completions.controversial_variants": _VARIANTS,
    "completions.stripped": graph("completions"),
    "completions.standard_charter_models": partition(
        "completion_requests", why="of the models that join or leave the list"
    ),
    **{f"completions.sampling.{field}": _SAMPLING_OF_ALL for field in _SAMPLING},
    **{
        f"rewards.{track}.{field}": graph("rewards", "calibration_answers")
        for track in ("standard", "controversial")
        for field in _SCORER
    },
    **dict.fromkeys(
        ("rewards.standard.model", "rewards.controversial.model"),
        Consequence(
            "of the track's scorer",
            graph=("rewards", "judge_calibration"),
            partition=("calibration_answers",),
        ),
    ),
    **dict.fromkeys(
        ("rewards.standard.rubric", "rewards.controversial.rubric"),
        graph(
            *("rewards", "calibration_answers", "wordings"),
            why="`wordings`, if it needs other texts",
        ),
    ),
    "rewards.comparison_judge": Consequence(
        "of the controversial track's scorer",
        graph=("judge_comparisons",),
        partition=("calibration_answers",),
    ),
    "rewards.judge_sees_question": nothing(
        "says what the wordings have to be like; what they are counts"
    ),
    "rewards.min_score_mass": graph("rewards", "judge_comparisons", "calibration_answers"),
    "rewards.comparison_thinking_tokens": graph("judge_comparisons", "calibration_answers"),
    "rewards.compared_candidates": graph("judge_comparisons", "judge_rankings"),
    "calibration.prompts": graph(
        *("degraded_answers", "calibration_answers", "judge_calibration"),
        why="`wordings`, if they are the first",
    ),
    "calibration.model": graph("degraded_answers"),
    "calibration.at_least": graph("quantile_rewards", why=_GATE),
    "calibration.at_most": graph("quantile_rewards", why=_GATE),
    "selection.strategy": graph(
        "selected_pairs", "selection_report", why="by its file in `sql/selection`"
    ),
    "selection.model_order": graph("selected_pairs", "selection_report"),
    "selection.pairs_per_prompt": graph("selected_pairs", "selection_report"),
    "selection.rejected_quantile": graph("quantile_rewards"),
    "selection.min_references": graph("selected_pairs", "selection_exclusions", "selection_report"),
    "selection.max_sequence_tokens": graph("quantile_rewards"),
    "selection.allow_truncated": graph("quantile_rewards"),
    "selection.references": graph("quantile_rewards", "dpo_pairs", "selection_report"),
    "reference_logprobs.scope": graph("reference_logprobs"),
    "export.test_share": graph("training_export"),
    "warehouse.memory_limit": _RESOURCES,
    "warehouse.threads": _RESOURCES,
    "warehouse.temp_directory": _RESOURCES,
    "warehouse.ducklake": _ELSEWHERE,
    "warehouse.ducklake.catalog": _ELSEWHERE,
    "warehouse.ducklake.data": _ELSEWHERE,
    "spool": nothing("answers count wherever they are kept"),
    "published_prompts": nothing("shown beside the run's own numbers"),
}


def fields_of(model: type[BaseModel] = Recipe, place: str = "") -> Iterator[str]:
    """Yield the place of every field of a recipe's models, in the order of their declaration.

    A part that has to be there is no field of its own; a list, a mapping and a part that may be
    left out are, beside the fields in them.
    """
    for name, field in model.model_fields.items():
        here, parts = f"{place}{name}", models_in(field.annotation)
        if not parts or field.annotation not in parts:
            yield here
        for part in parts:
            inside = f"{here}.*." if _is_many(field.annotation) else f"{here}."
            yield from fields_of(part, inside)


def _is_many(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) in (tuple, dict)
