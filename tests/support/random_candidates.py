"""Random prompts with all that goes wrong among candidates, and a random judge of them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse
from tests.support.ids import named
from tests.support.reference_selection import Candidate, Comparisons, Rules
from tests.support.tables import fill, parameters

MODELS = ("llama", "qwen", "mistral", "olmo")
POLICIES = ("policy-8b", "policy-70b")
VARIANTS = {"standard": ("default", "principle"), "controversial": ("persona", "charter")}


def random_candidates(prompts: int, seed: int) -> list[Candidate]:
    """Return the candidates of both policies for that many prompts."""
    dice = random.Random(seed)
    found: list[Candidate] = []
    for number in range(prompts):
        track = dice.choice(("standard", "standard", "controversial"))
        prompt = _Prompt(dice, f"prompt-{number}", track)
        for model in MODELS:
            for variant in VARIANTS[track]:
                if dice.random() < 0.95:
                    found.append(prompt.candidate(model, variant, 0))
        for policy in POLICIES:
            for index in range(dice.choice((10, 10, 10, 10, 9, 7, 5, 4, 3, 2, 1, 0))):
                found.append(prompt.candidate(policy, "reference", index))
    return found


class _Prompt:
    """A prompt, and how its candidates tend to be."""

    def __init__(self, dice: random.Random, prompt_id: str, track: str) -> None:
        self._dice, self._id, self._track = dice, prompt_id, track
        self._scores = dice.choice(("spread", "spread", "tied", "tied", "equal", "models above"))
        self._texts = dice.choice((1, 2, 3, 10, 1000, 1000, 1000, 1000))
        self._spoilt = dice.choice((0.0, 0.05, 0.05, 0.3, 0.8))

    def candidate(self, model: str, variant: str, index: int) -> Candidate:
        dice = self._dice
        changes: dict[str, Any] = {}
        if dice.random() < self._spoilt:
            changes = dice.choice(
                (
                    {"text": None, "score": None, "finish_reason": "rejected"},
                    {"text": None, "finish_reason": "context_length"},
                    {"score": None},
                    {"text": ""},
                    {"finish_reason": "length"},
                    {"finish_reason": "length"},
                    {"prompt_tokens": 4000, "completion_tokens": dice.choice((96, 97))},
                    {"prompt_tokens": None, "completion_tokens": None},
                )
            )
        ordinary = {
            "text": f"text {dice.randrange(self._texts)}",
            "score": self._score(model),
        }
        return Candidate(
            completion_id=f"{self._id}/{model}/{variant}/{index}",
            prompt_id=self._id,
            track=self._track,
            model=model,
            variant=variant,
            sample_index=index,
            **{**ordinary, **changes},
        )

    def _score(self, model: str) -> float:
        if self._scores == "equal":
            return 3.5
        if self._scores == "tied":
            return float(self._dice.randrange(1, 5))
        lead = 6.0 if self._scores == "models above" and model in MODELS else 0.0
        return self._dice.gauss(0, 2) + lead


def by_prompt(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    grouped: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        grouped[candidate.prompt_id].append(candidate)
    return grouped


def comparison_questions(warehouse: Warehouse, rules: Rules) -> pa.Table:
    """Return what the judge is asked for a policy, by the product's own query."""
    query = sql_files.read_sql("requests", "judge_comparisons/compare")
    values = sql_files.named_parameters(
        query, {**parameters(rules), "judge_fingerprint": "judge", "thinking": None}
    )
    with warehouse.read() as connection:
        return connection.execute(query, values).to_arrow_table()


def judge(warehouse: Warehouse, rules: Rules, seed: int) -> Comparisons:
    """Have a random judge fill ``judge_comparisons``; return what it answered, by (A, B)."""
    wording = {"text": "{a} {b} {c}", "wording_hash": "hash"}
    fill(
        warehouse,
        "wordings",
        [
            {**wording, "wording_id": name, "kind": name}
            for name in ("compare_charter_system", "compare_question")
        ],
    )
    questions = comparison_questions(warehouse, rules).to_pylist()
    questions.sort(key=lambda q: (q["first_completion_id"], q["second_completion_id"]))
    dice = random.Random(f"{seed} {rules.policy}")
    answers, answered = [], {}
    for question in questions:
        a, b = (dice.choice((-0.25, -0.5, -1.5, dice.uniform(-9, 0))) for _ in "AB")
        labels = [("A", a), ("B", b)]
        if dice.random() < 0.1:
            labels = dice.choice((None, labels[:1], labels[1:]))
        if labels and len(labels) == 2:
            pair = named([question["first_completion_id"], question["second_completion_id"]])
            answered[tuple(pair)] = (a, b)
        answers.append(
            {
                "request_id": question["request_id"],
                "finish_reason": "stop" if labels else "rejected",
                "error": None if labels else "refused",
                "label_logprobs": labels and [{"label": k, "logprob": v} for k, v in labels],
            }
        )
    with warehouse.stage("judge_comparisons", {"policy": rules.policy}) as staging:
        for name, rows in (("requests", questions), ("answers", answers)):
            staging.connection.register("given", pa.Table.from_pylist(rows))
            staging.connection.execute(f"CREATE TEMP TABLE {name} AS FROM given")
        values = parameters(rules)
        staging.insert(sql_files.read_sql("assets", "judge_comparisons"), values)
        staging.publish(values)
    return answered
