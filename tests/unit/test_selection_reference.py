"""Ranking and selection of 2,000 random prompts, held against the same rules in plain Python."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.warehouse.resource import Warehouse
from tests.support.random_candidates import MODELS, POLICIES, by_prompt, judge, random_candidates
from tests.support.reference_selection import (
    Candidate,
    Comparisons,
    Placed,
    Rules,
    exclusion_reason,
    is_candidate,
    place,
    rank,
    select,
)
from tests.support.tables import (
    fill_candidates,
    new_warehouse,
    read_rows,
    read_selection,
    run_asset,
)

pytestmark = pytest.mark.slow

PROMPTS = 2000
RULES = {policy: Rules(policy=policy, models=MODELS) for policy in POLICIES}


@dataclass
class World:
    """Random prompts in a warehouse, with their rankings, and what the judge answered."""

    warehouse: Warehouse
    prompts: dict[str, list[Candidate]]
    comparisons: dict[str, Comparisons]

    def placed(self, rules: Rules) -> dict[str, list[Placed]]:
        """Return the candidates of each prompt among its references, by the reference."""
        found = {}
        for prompt_id, everyone in self.prompts.items():
            candidates = [one for one in everyone if is_candidate(one, rules)]
            rewards = {one.completion_id: one.score for one in candidates}
            if everyone[0].track == "controversial":  # ranked under the seed of `RULES`
                ranks = rank(candidates, self.comparisons[rules.policy], RULES[rules.policy])
                rewards = {name: one.rank_reward for name, one in ranks.items()}
            if candidates:
                found[prompt_id] = place(candidates, rewards, rules)
        return found


def make_world(home: Path, candidates: list[Candidate], **configuration: Any) -> World:
    warehouse = new_warehouse(home, **configuration)
    fill_candidates(warehouse, candidates)
    comparisons = {}
    for policy, rules in RULES.items():
        comparisons[policy] = judge(warehouse, rules, seed=11)
        run_asset(warehouse, "judge_rankings", rules)
    return World(warehouse, by_prompt(candidates), comparisons)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), random_candidates(PROMPTS, seed=2))


@pytest.mark.parametrize("policy", POLICIES)
def test_rankings_agree_with_the_reference(world: World, policy: str) -> None:
    rules = RULES[policy]
    rows = read_rows(world.warehouse, f"FROM judge_rankings WHERE policy = '{policy}'")
    found = {row["completion_id"]: row for row in rows}
    expected = {}
    for everyone in world.prompts.values():
        if everyone[0].track == "controversial":
            candidates = [one for one in everyone if is_candidate(one, rules)]
            expected |= rank(candidates, world.comparisons[policy], rules)
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        row = found[name]
        assert (row["score_position"], row["wins"]) == (one.score_position, one.wins), name
        assert row["position"] == one.position, name
        assert row["rank_reward"] == one.rank_reward, name  # halves and thirds, summed alike
    # All that can happen did: draws of a comparison, one order missing, shared ranks.
    assert {row["wins"] for row in rows} >= {None, 0.0, 0.5, 1.0, 3.5, 4.0}
    orders = {pair["orders"] for row in rows for pair in row["comparisons"] or ()}
    assert orders == {1, 2}
    assert any(row["rank_reward"] and row["rank_reward"] % 1 for row in rows)


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        (POLICIES[0], {}),
        (POLICIES[1], {"pairs_per_prompt": 2, "seed": 8}),
        (POLICIES[0], {"pairs_per_prompt": 3}),
        (POLICIES[0], {"pairs_per_prompt": 3, "strategy": "best_worst"}),
        (POLICIES[1], {"strategy": "best_worst"}),
        (POLICIES[0], {"strategy": "max_margin"}),
        (POLICIES[1], {"strategy": "max_margin", "pairs_per_prompt": 3}),
        (POLICIES[0], {"strategy": "on_policy_only"}),
        (POLICIES[1], {"strategy": "on_policy_only", "pairs_per_prompt": 2}),
        (POLICIES[0], {"strategy": "delta", "model_order": ("qwen", "llama")}),
        (
            POLICIES[1],
            {
                "strategy": "delta",
                "model_order": ("olmo", POLICIES[1], "llama"),
                "pairs_per_prompt": 2,
            },
        ),
        (POLICIES[0], {"strategy": "original"}),
        (POLICIES[1], {"strategy": "original", "pairs_per_prompt": 3}),
        (
            POLICIES[1],
            {
                "allow_truncated": True,
                "max_sequence_tokens": 4097,
                "rejected_quantile": 0.35,
                "min_references": 4,
            },
        ),
    ],
)
def test_selection_agrees_with_the_reference(
    world: World, policy: str, changes: dict[str, Any]
) -> None:
    rules = replace(RULES[policy], **changes)
    placed_rows, _, pair_rows, sample_rows, excluded_rows = read_selection(world.warehouse, rules)
    prompts = world.placed(rules)

    everyone = {one.candidate.completion_id: one for placed in prompts.values() for one in placed}
    found = {row["completion_id"]: row for row in placed_rows}
    assert found.keys() == everyone.keys()
    for name, one in everyone.items():
        for column in ("reward", "n_references", "quantile", "band", "ineligible_reason"):
            assert found[name][column] == getattr(one, column), (name, column)

    expected = {
        (prompt_id, index): pair
        for prompt_id, placed in prompts.items()
        for index, pair in enumerate(select(placed, rules))
    }
    assert {(row["prompt_id"], row["pair_index"]) for row in pair_rows} == expected.keys()
    for row in pair_rows:
        pair = expected[row["prompt_id"], row["pair_index"]]
        for side, one in zip(("chosen", "rejected"), pair, strict=True):
            assert row[f"{side}_completion_id"] == one.candidate.completion_id
            assert row[side] == [{"role": "assistant", "content": one.candidate.text}]
            for column in ("reward", "quantile", "band"):
                assert row[f"{side}_{column}"] == getattr(one, column)
        references = [
            one.reward
            for one in prompts[row["prompt_id"]]
            if one.candidate.variant == "reference" and one.reward is not None
        ]
        assert row["reference_rewards"] == sorted(references)

    paired = {prompt_id for prompt_id, _ in expected}
    reasons = {
        prompt_id: exclusion_reason(placed, rules)
        or (None if prompt_id in paired else "not_selected")
        for prompt_id, placed in prompts.items()
    }
    assert {row["prompt_id"]: row["reason"] for row in excluded_rows} == {
        prompt_id: reason for prompt_id, reason in reasons.items() if reason
    }
    assert None in reasons.values()
    assert len(set(reasons.values())) >= 4

    selected = {one.candidate.completion_id for pair in expected.values() for one in pair}
    assert Counter(row["completion_id"] for row in sample_rows) == Counter(selected)


def test_threads_and_the_order_of_rows_change_nothing(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    candidates = [one for everyone in world.prompts.values() for one in everyone]
    random.Random(5).shuffle(candidates)
    shuffled = make_world(tmp_path_factory.mktemp("shuffled"), candidates, threads=8)
    home = world.warehouse.home
    rules = replace(RULES[POLICIES[0]], pairs_per_prompt=3)

    first, *others = (
        read_selection(warehouse, rules)
        for warehouse in (
            new_warehouse(home, threads=1),
            new_warehouse(home, threads=2),
            shuffled.warehouse,
        )
    )

    assert len(first[2]) > PROMPTS
    for other in others:
        assert other == first
