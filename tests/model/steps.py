"""The steps of random sequences: every field of a recipe, its files, remakes, spool, kills."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, get_args

from hypothesis import strategies as st
from pydantic import BaseModel

from tests.model.checker import MODEL_TABLES, POLICY_TABLES
from tests.model.study import RECIPE
from tests.model.world import ASKING, CHAINS, KILLS, ORDER, Step

# Values that a field may take instead of the study's, which are among them: so a change can go
# back. A field without any is listed in `UNCHANGED` with the reason.
_SAMPLING: dict[str, list[Any]] = {
    "temperature": [1.0, 0.7, 0.3],
    "top_p": [1.0, 0.9],
    "top_k": [0, 20],
    "min_p": [0.0, 0.1],
    "repetition_penalty": [1.0, 1.1],
    "presence_penalty": [0.0, 0.5],
    "frequency_penalty": [0.0, 0.5],
    "max_tokens": [60, 50, 70],
}
_SCORER: dict[str, list[Any]] = {
    "task": ["rate", "classify"],
    "model": ["judge", "scorer"],
    "rubric": ["judge_helpfulness_system", "judge_charter_system"],
}
ALTERNATIVES: dict[str, list[Any]] = {
    "description": ["Another sentence"],
    "seed": [7, 8, 9],
    "limit": [7, 5, 6, None],
    "template_date": ["2025-09-02", "2025-09-03"],
    "max_prompt_characters": [400, 25],
    "prompts.*.track": ["graded", "standard", "controversial"],
    "prompts.2.keep": [
        {"conversation_type": ["values guided", "controversy guided"]},
        {"conversation_type": ["unguided", "values guided"]},
    ],
    "prompts.0.columns": [
        RECIPE["prompts"][0]["columns"],
        {name: RECIPE["prompts"][0]["columns"][name] for name in ("conversation", "source")},
    ],
    "licence.excluded_subsets": [["flan_v2", "no_robots"], ["math"], ["flan_v2", "wild"], []],
    "consent.agents": [["GPTBot", "*"], ["GPTBot"]],
    "consent.robots": ["robots", None],
    "consent.unknown_origins": ["admitted", "refused", None],
    "licence.excluded_sources": [[], ["web"]],
    "consent.scope": ["domain", "host"],
    "consent.sources": [{}, {"wild": "refused"}, {"math": "refused"}, {"toxic": "refused"}],
    "consent.subsets": [{}, {"math": "refused"}, {"wild": "admitted", "page": "refused"}],
    "models.*.weights": ["hf:a/one", "hf:a/two"],
    "models.*.revision": ["main", "v2"],
    "models.*.billions": [1.0, 5.0],
    "models.*.max_model_len": [8192, 90, 500],
    "models.*.chat_template_arguments": [{}, {"enable_thinking": False}],
    "models.*.reasoning": ["strip", "keep", "reject"],
    "models.*.max_tokens": [None, 40],
    "models.*.temperature": [None, 0.2, 0.5],
    "inference.attempts": [2, 3],
    "inference.max_failed_share": [0.5, 0.2],
    "max_row_bytes": [1 << 24, 1 << 20],
    "placeholders": [["None", "-"], ["N/A"]],
    "personas.max_characters": [None, 30],
    "limits.malformed": [1.0, 0.2],
    "limits.excluded": [1.0, 0.7],
    "limits.unparsable": [1.0, 0.3],
    "limits.empty": [1.0, 0.3],
    "limits.truncated": [1.0, 0.3],
    "limits.unscored": [1.0, 0.3],
    "limits.massless": [1.0, 0.1],
    "limits.uncompared": [1.0, 0.3],
    "controversy.model": ["judge", "scorer"],
    "controversy.threshold": [2, 1, 3],
    "controversy.attempts": [2, 1, 3],
    "controversy.reasoning_characters": [100, 120],
    **{f"controversy.sampling.{name}": values for name, values in _SAMPLING.items()},
    "completions.reference_completions": [3, 2, 4],
    "completions.standard_variants": [["default", "principle"], ["default"], ["principle"]],
    "completions.controversial_variants": [["persona", "charter"], ["charter"], ["default"]],
    "completions.stripped": [False, True],
    "completions.standard_charter_models": [["large"], [], ["large", "small"]],
    **{f"completions.sampling.{name}": values for name, values in _SAMPLING.items()},
    **{
        f"rewards.{track}.{name}": values
        for track in ("standard", "controversial")
        for name, values in _SCORER.items()
    },
    "rewards.comparison_judge": ["judge", "scorer"],
    "rewards.compared_candidates": [3, 2, 4],
    "rewards.min_score_mass": [0.01, 0.02],
    "selection.strategy": ["published", "original", "best_worst", "max_margin", "on_policy_only"],
    "selection.pairs_per_prompt": [1, 2],
    "selection.rejected_quantile": [0.2, 0.5],
    "selection.min_references": [1, 2, 3],
    "selection.max_sequence_tokens": [4096, 120],
    "selection.allow_truncated": [False, True],
    "selection.references": ["all", "eligible"],
    "reference_logprobs.scope": ["selected", "candidates", "none"],
}
UNCHANGED = {
    "name": "another name is another recipe's database, which is refused",
    "wordings": "what stands in the folder is changed instead",
    "prompts": "sources leave and join by a step of their own",
    "prompts.*.name": "a source that is renamed is one that leaves and one that joins",
    "prompts.*.dataset": "what stands in the file is changed instead",
    "prompts.*.configs": "of hub datasets alone",
    "prompts.*.split": "of hub datasets alone",
    "prompts.*.revision": "of hub datasets alone",
    "prompts.*.form": "the rows of a source have one form",
    "prompts.*.columns": "changed where a column may be left out",
    "prompts.*.keep": "changed where a column may be kept by",
    "personas.dataset": "what stands in the file is changed instead",
    "personas.configs": "of hub datasets alone",
    "personas.split": "of hub datasets alone",
    "personas.revision": "of hub datasets alone",
    "personas.columns": "there is one",
    "limits.uncounted": "the fake tokenizer counts everything",
    "limits.exceptions": "as the limits themselves, for one of them",
    "rewards.standard.thinking_tokens": "the fake judge does not think",
    "rewards.controversial.thinking_tokens": "the fake judge does not think",
    "rewards.comparison_thinking_tokens": "the fake judge does not think",
    "wordings_placeholders": "what stands in the folder is changed instead",
    "rewards.judge_sees_question": "checks what stands in the folder",
    "human_labels": "no row follows from them but those of trials and of agreement",
    **dict.fromkeys(
        (
            *("controversy.min_accuracy", "controversy.min_kappa", "controversy.gate_on"),
            *("controversy.trials.models", "controversy.trials.wordings"),
        ),
        "of the trials, which need human_labels",
    ),
    **dict.fromkeys(
        ("calibration.prompts", "calibration.model", "calibration.at_least", "calibration.at_most"),
        "no row follows from it but those of the calibration",
    ),
    "models.*.family": "no row follows from it but those of the calibration",
    "controversy.wording": "what stands in the files is changed instead",
    "consent.blocked_domains": "what a list says, a changed robots.txt says too",
    "consent.blocked_domains.*.file": "there is no list",
    "consent.blocked_domains.*.date": "there is no list",
    "consent.sources.*.decision": "decided in the short form",
    "consent.sources.*.evidence": "shown beside the decision alone",
    "consent.sources.*.date": "shown beside the decision alone",
    "consent.subsets.*.decision": "decided in the short form",
    "consent.subsets.*.evidence": "shown beside the decision alone",
    "consent.subsets.*.date": "shown beside the decision alone",
    "models": "models leave and join by a step of their own",
    "models.*.backend": "who answers is the fake",
    "models.*.licence": "told in exports alone",
    "prompts.*.licence": "told in exports alone",
    "selection.model_order": "of delta alone, which random prompts are drawn by elsewhere",
    "export.test_share": "how an export is split, which has tests of its own",
    "models.*.price": "told in forecasts alone",
    "models.*.system_prompt": "test_requests has it; the checker knows whole conversations",
    "models.*.chat_template": "its file would be read by a real engine alone",
    "completions.models": "models leave and join by a step of their own",
    "completions.policies": "policies leave and join by a step of their own",
    "warehouse.memory_limit": "changes no row",
    "warehouse.threads": "changes no row",
    "warehouse.temp_directory": "changes no row",
    "warehouse.ducklake": "is another database",
    "spool": "another place of the same answers, which has tests of its own",
    "published_prompts": "is shown beside the rows alone",
}


def recipe_fields(model: type[BaseModel], place: str = "") -> Iterator[str]:
    """Yield every field of a recipe's models by its place, ``*`` for a name or number."""
    for name, field in model.model_fields.items():
        parts = [part for part in _models_in(field.annotation) if part is not None]
        several = "dict[" in str(field.annotation) or "tuple[" in str(field.annotation)
        # What may be missing is changed as a whole.
        if not parts or type(None) in get_args(field.annotation):
            yield f"{place}{name}"
        elif several:
            yield f"{place}{name}"
            yield from recipe_fields(parts[0], f"{place}{name}.*.")
        else:
            yield from recipe_fields(parts[0], f"{place}{name}.")


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]


def places_of(pattern: str) -> list[str]:
    """Return where a pattern's field stands in the study's recipe."""
    if "*" not in pattern:
        return [pattern]
    part = RECIPE[pattern.split(".")[0]]
    names = part if isinstance(part, dict) else range(len(part))
    return [pattern.replace("*", str(name)) for name in names]


# What changes the meaning of rows often, beside each field alike.
TELLING = (
    *("licence.excluded_subsets", "limit", "seed", "controversy.threshold"),
    *("rewards.standard.task", "rewards.standard.rubric", "rewards.controversial.rubric"),
    *("rewards.controversial.model", "completions.sampling.temperature", "template_date"),
    "models.*.temperature",
)
WORDINGS = (
    *("judge_charter_system.txt", "judge_helpfulness_system.txt", "judge_question.txt"),
    *("compare_charter_system.txt", "compare_question.txt", "controversy_system.txt"),
    *("persona.txt", "charter_persona.txt", "principles.yaml"),
)
MEMBERS: tuple[Step, ...] = (
    ["members", "models", ["large"]],
    ["members", "models", ["small"]],
    ["members", "models", ["large", "small"]],
    ["members", "policies", ["sibling"]],
    ["members", "policies", ["policy"]],
    ["sources", ["mix", "prism"]],
    ["sources", ["toxic", "mix", "prism"]],
    ["sources", ["mix", "toxic", "prism"]],
)


# The first table that a field of the recipe shows in, by how the field's place starts.
SHOWS_IN = {
    "consent.scope": "origin_consent",
    **dict.fromkeys(
        ("seed", "limit", "max_prompt", "licence", "consent.s", "consent.u"), "prompt_exclusions"
    ),
    "consent": "origin_consent",
    "prompts": "source_prompts",
    "controversy": "controversy_labels",
    "rewards.comp": "judge_comparisons",
    "rewards": "rewards",
    "selection": "quantile_rewards",
    "reference_logprobs": "reference_logprobs",
    "": "completion_requests",
}
PROMPT_STAGE = ORDER[: ORDER.index("completion_requests")]


def setting(draw: Random, patterns: Sequence[str] = tuple(ALTERNATIVES)) -> Step:
    """Draw a field of the recipe, and more often another value than the study's for it."""
    pattern = draw.choice(patterns)
    first, *others = ALTERNATIVES[pattern]
    value = draw.choice(others) if others and draw.random() < 0.8 else first
    return ["set", draw.choice(places_of(pattern)), value]


def change(draw: Random) -> Step:
    """Draw something that is done to the recipe, its files or the spool."""
    kind = draw.choices(
        ("field", "telling", "edit", "reword", "spool", "members", "robots"),
        (3, 6, 4, 2, 3, 2, 1),
    )[0]
    if kind in ("field", "telling"):
        return setting(draw, TELLING if kind == "telling" else tuple(ALTERNATIVES))
    if kind == "edit":
        file = draw.choice(("mix", "mix", "toxic", "prism", "personas"))
        how = draw.choice(("space", "space", "word", "word", "drop", "again"))
        return ["edit", file, draw.randrange(6), how]
    if kind == "reword":
        return ["reword", draw.choice(WORDINGS), draw.choice(("Be fair.", "Be exact."))]
    if kind == "spool":
        how = draw.choice(("drop", "quarantine", "damage"))
        return ["spool", draw.choice(ASKING), draw.randrange(3), how]
    if kind == "members":
        return list(draw.choice(MEMBERS))
    domain = draw.choice(("open.example", "closed.example"))
    return ["robots", domain, draw.choice(("Allow: /", "Disallow: /"))]


def first_table(step: Step) -> str:
    """Return the first table, in the order of making, that a change shows in."""
    kind, where = step[0], str(step[1])
    if kind == "edit":
        return "personas" if where == "personas" else "source_prompts"
    if kind == "spool":
        return where
    if kind == "set":
        return next(table for start, table in SHOWS_IN.items() if where.startswith(start))
    first = {"reword": "wordings", "robots": "origin_consent", "members": "completion_requests"}
    return first.get(kind, "source_prompts")


def remake(draw: Random, changed: Step) -> Step:
    """Draw a part to remake: mostly from where the change shows on, of one model."""
    first = first_table(changed)
    # Whoever has set files of a partition aside makes that partition again.
    number = changed[2] if changed[0] == "spool" else draw.randrange(3)
    if draw.random() < 0.3 or first in POLICY_TABLES:
        common = ("prompts", "wordings", "model", "model", "answers", "completions", "rewards")
        chain = draw.choice(common) if draw.random() < 0.7 else draw.choice(sorted(CHAINS)[1:])
        return ["make", chain, draw.randrange(3)]
    stage = MODEL_TABLES if first in MODEL_TABLES else PROMPT_STAGE
    last = first if draw.random() < 0.3 else stage[-1]
    return ["make_from", first, last, number]


def use(draw: Random, changed: Step) -> Step:
    """Draw something to remake that uses what was remade."""
    kind = draw.choices(("policy", "pairs", "but", "all"), (24, 2, 5, 1))[0]
    if kind != "but":
        return ["make", kind, 0]
    left, first = draw.choice(MODEL_TABLES), first_table(changed)
    first = "source_prompts" if first in POLICY_TABLES else first
    return ["make_but", left, draw.randrange(3), min(first, left, key=ORDER.index)]


def killed(draw: Random, changed: Step, by_process: bool) -> Step:
    """Draw what is killed: after so many calls of a point, or so many milliseconds."""
    first = first_table(changed)
    chain = "model" if first in MODEL_TABLES else "prompts" if first in PROMPT_STAGE else "policy"
    if draw.random() < 0.5:
        chain = draw.choice(("model", "policy", "prompts", "completions", "rewards"))
    count = draw.randrange(1500) if by_process else draw.randrange(6)
    return ["make", chain, draw.randrange(3), draw.choice((*KILLS, "spool write")), count]


def again(draw: Random, killed: Step) -> Step:
    """Draw which part of what was killed is launched again."""
    tables = CHAINS[killed[1]]
    return ["make", draw.choice((killed[1], *tables[-3:])), killed[2]]


def sequence(
    number: int, longest: int = 12, shortest: int = 2, by_process: bool = False
) -> list[Step]:
    """Return the steps of a number: people change something, remake a part, and use the result."""
    draw = Random(number)
    steps: list[Step] = []
    wanted = draw.triangular(shortest, longest, shortest)
    while len(steps) < wanted:
        changes = [change(draw) for _ in range(draw.randint(1, 2))]
        steps += changes
        changed = draw.choice(changes)
        if draw.random() < 0.2:
            steps.append(killed(draw, changed, by_process))
            died = steps[-1]
            if draw.random() < 0.5:
                steps.append(changed := change(draw))
            steps.append(again(draw, died))
        elif draw.random() < 0.8:
            steps += [remake(draw, changed) for _ in range(draw.choice((1, 1, 2)))]
        steps.append(use(draw, changed))
    return steps[:longest]


# Drawn as numbers: what hypothesis draws by parts is mostly small and alike at first.
numbers = st.integers(0, 2**48)


def as_lines(steps: list[Step]) -> str:
    return "\n".join(f"    {json.dumps(step)}," for step in steps)
