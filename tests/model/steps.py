"""The steps of random sequences: every field of a recipe, its files, remakes, spool files, kills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from hypothesis import strategies as st
from pydantic import BaseModel

from tests.model.study import RECIPE
from tests.model.world import ASKING, CHAINS, KILLS, Step

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
    "consent.unknown_origins": ["admitted", "refused"],
    "consent.sources": [{}, {"wild": "refused"}, {"math": "refused"}],
    "models.*.weights": ["hf:a/one", "hf:a/two"],
    "models.*.revision": ["main", "v2"],
    "models.*.billions": [1.0, 5.0],
    "models.*.max_model_len": [8192, 90, 500],
    "models.*.chat_template_arguments": [{}, {"enable_thinking": False}],
    "models.*.max_tokens": [None, 40],
    "models.*.temperature": [None, 0.2, 0.5],
    "inference.attempts": [2, 3],
    "inference.max_failed_share": [0.5, 0.2],
    "controversy.model": ["judge", "scorer"],
    "controversy.threshold": [2, 1, 3],
    "controversy.attempts": [2, 1, 3],
    "controversy.reasoning_characters": [100, 120],
    **{f"controversy.sampling.{name}": values for name, values in _SAMPLING.items()},
    "completions.reference_completions": [3, 2, 4],
    "completions.standard_variants": [["default", "principle"], ["default"], ["principle"]],
    "completions.controversial_variants": [["persona", "charter"], ["charter"], ["default"]],
    "completions.standard_charter_models": [["large"], [], ["large", "small"]],
    **{f"completions.sampling.{name}": values for name, values in _SAMPLING.items()},
    **{
        f"rewards.{track}.{name}": values
        for track in ("standard", "controversial")
        for name, values in _SCORER.items()
    },
    "rewards.comparison_judge": ["judge", "scorer"],
    "rewards.compared_candidates": [3, 2, 4],
    "selection.strategy": ["published", "best_worst"],
    "selection.pairs_per_prompt": [1, 2],
    "selection.rejected_quantile": [0.2, 0.5],
    "selection.min_references": [1, 2, 3],
    "selection.max_sequence_tokens": [4096, 120],
    "selection.allow_truncated": [False, True],
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
    "human_labels": "no row follows from them but those of controversy_agreement",
    "models": "models leave and join by a step of their own",
    "models.*.backend": "who answers is the fake",
    "models.*.chat_template": "its file would be read by a real engine alone",
    "completions.models": "models leave and join by a step of their own",
    "completions.policies": "policies leave and join by a step of their own",
    "warehouse.memory_limit": "changes no row",
    "warehouse.threads": "changes no row",
    "warehouse.temp_directory": "changes no row",
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


def _places(pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern]
    part = RECIPE[pattern.split(".")[0]]
    names = part if isinstance(part, dict) else range(len(part))
    return [pattern.replace("*", str(name)) for name in names]


_number = st.integers(0, 2)
# What changes the meaning of rows often, beside each field alike.
_TELLING = (
    *("licence.excluded_subsets", "limit", "seed", "controversy.threshold"),
    *("rewards.standard.task", "rewards.standard.rubric", "rewards.controversial.rubric"),
    *("rewards.controversial.model", "completions.sampling.temperature", "template_date"),
    "models.*.temperature",
)


@st.composite
def _settings(draw: st.DrawFn, patterns: tuple[str, ...] = tuple(ALTERNATIVES)) -> Step:
    pattern = draw(st.sampled_from(patterns))
    path = draw(st.sampled_from(_places(pattern)))
    return ["set", path, draw(st.sampled_from(ALTERNATIVES[pattern]))]


_edits = st.tuples(
    st.just("edit"),
    st.sampled_from(["mix", "toxic", "prism", "personas"]),
    st.integers(0, 4),
    st.sampled_from(["space", "word", "space", "word", "drop", "again"]),
).map(list)
_rewordings = st.tuples(
    st.just("reword"),
    st.sampled_from(
        [
            *("judge_charter_system.txt", "judge_helpfulness_system.txt", "judge_question.txt"),
            *("compare_charter_system.txt", "compare_question.txt", "controversy_system.txt"),
            *("persona.txt", "charter_persona.txt", "principles.yaml"),
        ]
    ),
    st.sampled_from(["Be fair.", "Be exact."]),
).map(list)
_robots = st.tuples(
    st.just("robots"),
    st.sampled_from(["open.example", "closed.example"]),
    st.sampled_from(["Allow: /", "Disallow: /"]),
).map(list)
_spool = st.tuples(
    st.just("spool"),
    st.sampled_from(ASKING),
    _number,
    st.sampled_from(["drop", "quarantine", "damage"]),
).map(list)
_members = st.sampled_from(
    [
        ["members", "models", ["large"]],
        ["members", "models", ["small"]],
        ["members", "models", ["large", "small"]],
        ["members", "policies", ["sibling"]],
        ["members", "policies", ["policy"]],
        ["sources", ["mix", "prism"]],
        ["sources", ["toxic", "mix", "prism"]],
        ["sources", ["mix", "toxic", "prism"]],
    ]
)
_change = st.one_of(
    _settings(), _settings(_TELLING), _settings(_TELLING), _edits, _edits, _rewordings, _spool,
    _spool, _members, _robots,
)  # fmt: skip
_upstream = st.one_of(
    st.just(["make", "prompts", 0]),
    st.just(["make", "prompts", 0]),
    *(
        st.tuples(st.just("make"), st.just(chain), _number).map(list)
        for chain in ("wordings", "model", "answers", "completions", "rewards", "rewards")
    ),
    st.tuples(st.just("make"), st.sampled_from(sorted(CHAINS)), _number).map(list),
)
_last = st.one_of(
    *[st.just(["make", "policy", 0])] * 5,
    st.just(["make", "pairs", 0]),
    st.tuples(st.just("make_but"), st.sampled_from(ASKING[1:3]), _number).map(list),
    st.just(["make", "all", 0]),
)
_killed = st.tuples(
    st.just("make"),
    st.sampled_from(["model", "policy", "prompts", "completions", "rewards"]),
    _number,
    st.sampled_from(KILLS),
    st.integers(0, 5),
).map(list)


@st.composite
def sequences(draw: st.DrawFn, longest: int = 12, shortest: int = 4) -> list[Step]:
    """Draw steps: what people do is to change something, remake a part, and use the result."""
    steps: list[Step] = []
    wanted = draw(st.integers(shortest, longest))
    while len(steps) < wanted:
        steps += draw(st.lists(_change, min_size=1, max_size=2))
        if draw(st.integers(0, 7)) == 7:
            steps.append(draw(_killed))
        steps += draw(st.lists(_upstream, min_size=0, max_size=3))
        steps.append(draw(_last))
    return steps[:longest]


def as_lines(steps: list[Step]) -> str:
    return "\n".join(f"    {json.dumps(step)}," for step in steps)
