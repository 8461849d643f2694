"""Scores and the judge's ranking, on answers that are given by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from pydantic import Field

from alignment_assets.inference.types import Answer, Request
from tests.conftest import ANY_LOSS, Graph, changed_recipe
from tests.support.fakes import FakeInference
from tests.support.reference_selection import Candidate
from tests.support.tables import fill_candidates, read_rows, take_as_made

MODEL, POLICY = "smollm2-135m", "smollm2-135m-policy"


class ScriptedInference(FakeInference):
    """Answers a question about ``reply-…`` texts as a script says.

    Attributes:
        script: by the replies in the question, in their order and joined by a blank: a logit, or
            probabilities by label. What is not in it is refused.
    """

    script: dict[str, Any] = Field(default={})

    def _answer(self, request: Request) -> Answer:
        replies = " ".join(re.findall(r"reply-\w+", request.messages[-1]["content"]))
        scripted = self.script.get(replies)
        if scripted is None:
            return Answer(request.request_id, request.task, "rejected", error="not for this engine")
        answer = Answer(request.request_id, request.task, "stop")
        if request.task == "classify":
            return replace(answer, value=scripted)
        return replace(
            answer, label_logprobs={label: math.log(share) for label, share in scripted.items()}
        )


def graph_of(
    home: Path, instance: DagsterInstance, candidates: Sequence[Candidate], script: dict[str, Any]
) -> Graph:
    """Return a graph whose completions are given, with its wordings in place."""
    recipe = changed_recipe(
        {
            "inference": {"max_failed_share": 1.0},
            **ANY_LOSS,
            "completions.models": [MODEL],
            "rewards.standard": {"task": "classify", "model": "smollm2-135m-judge"},
        }
    )
    graph = Graph(recipe, home, instance, ScriptedInference(log=str(home / "asked"), script=script))
    graph.materialize("key:wordings")
    fill_candidates(graph.warehouse, candidates)
    take_as_made(graph)
    return graph


def completion(name: str, prompt: str, track: str, score: float | None = None) -> Candidate:
    variant = "default" if track == "standard" else "charter"
    return Candidate(name, prompt, track, MODEL, variant, f"reply-{name}", score)


@pytest.fixture
def rewards(tmp_path: Path, instance: DagsterInstance) -> dict[str, dict[str, Any]]:
    """Rewards of completions, by the completion's name."""
    failed = {"text": None, "finish_reason": "context_length"}
    candidates = [
        completion("low", "easy", "standard"),
        completion("high", "easy", "standard"),
        completion("nan", "easy", "standard"),
        completion("refused", "easy", "standard"),
        replace(completion("failed", "easy", "standard"), **failed),
        completion("even", "hard", "controversial"),
        completion("two", "hard", "controversial"),
        completion("sure", "hard", "controversial"),
        completion("mute", "hard", "controversial"),
    ]
    script = {
        "reply-low": -13.25,
        "reply-high": 41.5,
        "reply-nan": float("nan"),
        "reply-even": {str(number): 0.1 for number in range(1, 10)},
        "reply-two": {"7": 0.3, "9": 0.1},
        "reply-sure": {str(number): 1.0 if number == 4 else 1e-300 for number in range(1, 10)},
        "reply-mute": {},
    }
    graph = graph_of(tmp_path, instance, candidates, script)
    graph.materialize("key:rewards", MODEL)
    asked = {request["messages"][-1]["content"]: request for request in graph.asked()}
    assert len(asked) == 8  # all but the failed completion
    # A reward model sees the conversation alone, a judge the rubric too.
    assert asked["reply-low"]["messages"] == [
        {"role": "user", "content": "question easy"},
        {"role": "assistant", "content": "reply-low"},
    ]
    return {row["completion_id"]: row for row in read_rows(graph.warehouse, "FROM rewards")}


def test_scores_of_reward_model_and_judge(rewards: dict[str, dict[str, Any]]) -> None:
    assert len(rewards) == 9
    # A logit is passed on as it is: no sigmoid, no scale.
    assert (rewards["low"]["reward"], rewards["high"]["reward"]) == (-13.25, 41.5)
    assert rewards["low"]["task"] == "classify"
    assert rewards["low"]["score_mass"] is None
    # A rating is the mean of the nine numbers, renormalized over them.
    assert rewards["even"]["reward"] == pytest.approx(5.0)
    assert rewards["even"]["score_mass"] == pytest.approx(0.9)
    # (7 * 0.3 + 9 * 0.1) / 0.4, numbers without a log-probability counting nothing.
    assert rewards["two"]["reward"] == pytest.approx(7.5)
    assert rewards["two"]["score_mass"] == pytest.approx(0.4)
    assert rewards["sure"]["reward"] == pytest.approx(4.0)
    assert rewards["two"]["task"] == "rate"
    kept = {entry["label"]: entry["logprob"] for entry in rewards["two"]["label_logprobs"]}
    assert kept == {"7": math.log(0.3), "9": math.log(0.1)}


def test_a_completion_without_a_score_keeps_its_row_and_the_reason(
    rewards: dict[str, dict[str, Any]],
) -> None:
    reasons = {
        name: row["missing_reason"] for name, row in rewards.items() if row["reward"] is None
    }
    assert reasons.keys() == {"failed", "refused", "nan", "mute"}
    assert reasons["failed"] == "no completion: context_length"
    assert reasons["refused"] == "no score: not for this engine"
    assert reasons["nan"].startswith("no score: an answer that cannot be: a score is a number")
    assert reasons["mute"].startswith("no score: ")
    assert rewards["failed"]["request_id"] is None


# What the judge says, by the replies shown as A and B: the probabilities of the answers A and B.
JUDGE = {
    # d is better than each, whichever stands first.
    **{f"reply-d reply-{other}": {"A": 0.8, "B": 0.1} for other in "abce"},
    **{f"reply-{other} reply-d": {"A": 0.1, "B": 0.8} for other in "abce"},
    # Whoever stands first is preferred, b more than a: over both orders b wins.
    "reply-a reply-b": {"A": 0.5, "B": 0.4},
    "reply-b reply-a": {"A": 0.6, "B": 0.3},
    # The same, but alike in both orders: half a win each.
    "reply-a reply-c": {"A": 0.6, "B": 0.3},
    "reply-c reply-a": {"A": 0.6, "B": 0.3},
    # One order is refused, the other counts.
    "reply-a reply-e": {"A": 0.7, "B": 0.2},
    # Of b and c, one order is refused and the other lacks an answer: no comparison.
    "reply-c reply-b": {"A": 0.7},
    "reply-b reply-e": {"A": 0.7, "B": 0.2},
    "reply-e reply-b": {"A": 0.2, "B": 0.7},
    "reply-c reply-e": {"A": 0.7, "B": 0.2},
    "reply-e reply-c": {"A": 0.2, "B": 0.7},
    "reply-x reply-y": {"A": 0.3, "B": 0.6},
    "reply-y reply-x": {"A": 0.6, "B": 0.3},
}
SCORES = {"a": 8.0, "b": 7.0, "c": 7.0, "d": 6.0, "e": 5.0, "f": 4.0, "g": 4.0, "h": 2.0, "i": None}


@pytest.fixture
def judged(tmp_path: Path, instance: DagsterInstance) -> Graph:
    """Three prompts, judged: nine candidates one of which has no score, two, and a single one."""
    candidates = [
        *(completion(name, "nine", "controversial", score) for name, score in SCORES.items()),
        completion("x", "two", "controversial", 5.0),
        completion("y", "two", "controversial", 3.0),
        completion("z", "one", "controversial", 3.0),
    ]
    # The policy was asked too, but none of its completions has a score.
    candidates += [
        replace(completion(f"own_{prompt}", prompt, "controversial"), model=POLICY)
        for prompt in ("nine", "two", "one")
    ]
    graph = graph_of(tmp_path, instance, candidates, JUDGE)
    graph.materialize("key:judge_comparisons or key:judge_rankings", POLICY)
    return graph


def test_the_first_five_are_compared_in_both_orders_and_ranked_by_wins_then_score(
    judged: Graph,
) -> None:
    compared = read_rows(
        judged.warehouse,
        "SELECT first_completion_id, second_completion_id, missing_reason FROM judge_comparisons",
    )
    asked = [(row["first_completion_id"], row["second_completion_id"]) for row in compared]
    assert sorted(asked) == sorted([*permutations("abcde", 2), *permutations("xy", 2)])
    missing = {
        row["first_completion_id"] + row["second_completion_id"]: row["missing_reason"]
        for row in compared
        if row["missing_reason"]
    }
    assert missing == {
        "ea": "no comparison: not for this engine",
        "bc": "no comparison: not for this engine",
        "cb": "no comparison: stop",
    }

    rows = {row["completion_id"]: row for row in read_rows(judged.warehouse, "FROM judge_rankings")}
    wins = {name: rows[name]["wins"] for name in SCORES}
    assert wins == {
        "d": 4.0,
        "b": 2.0,  # over a and e
        "a": 1.5,  # over e, and half of c
        "c": 1.5,  # over e, and half of a
        "e": 0.0,
        **dict.fromkeys("fghi"),
    }
    # a and c won alike: a has the higher score. f and g share the mean of 2 and 3.
    assert {name: rows[name]["rank_reward"] for name in SCORES} == {
        "d": 8.0,
        "b": 7.0,
        "a": 6.0,
        "c": 5.0,
        "e": 4.0,
        "f": 2.5,
        "g": 2.5,
        "h": 1.0,
        "i": None,
    }
    assert [rows[name]["position"] for name in "dbaceh"] == [1, 2, 3, 4, 5, 8]
    assert {rows["f"]["position"], rows["g"]["position"]} == {6, 7}
    assert rows["i"]["position"] is rows["i"]["score_position"] is None

    met = {pair["opponent_id"]: pair for pair in rows["a"]["comparisons"]}
    assert met.keys() == {"b", "c", "d", "e"}
    # The mean of the two orders' log-probabilities: a as A and as B, against b as B and as A.
    assert met["b"]["logprob"] == pytest.approx((math.log(0.5) + math.log(0.3)) / 2)
    assert met["b"]["opponent_logprob"] == pytest.approx((math.log(0.4) + math.log(0.6)) / 2)
    assert (met["b"]["orders"], met["e"]["orders"]) == (2, 1)


def test_fewer_than_five_candidates_are_ranked_all_the_same(judged: Graph) -> None:
    ranks = {
        row["completion_id"]: row["rank_reward"]
        for row in read_rows(judged.warehouse, "FROM judge_rankings")
        if row["prompt_id"] != "nine"
    }
    assert ranks == {"y": 2.0, "x": 1.0, "z": 1.0, "own_two": None, "own_one": None}
