"""Which completions are chosen and rejected, rule by rule, on cases that can be counted by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.support.reference_selection import Rules
from tests.support.selection_cases import CASES, Selected, case, name_of, truncated
from tests.support.tables import (
    fill_candidates,
    new_warehouse,
    read_selection,
)

RULES = Rules(policy="policy", models=("model",))
TEN = tuple(float(number) for number in range(1, 11))

Find = Callable[..., Selected]


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """Return what selection makes of a case under changed rules; all are selected from at once."""
    warehouse = new_warehouse(tmp_path_factory.mktemp("cases"))
    fill_candidates(warehouse, [one for candidates in CASES.values() for one in candidates])
    known: dict[Rules, list[list[dict[str, Any]]]] = {}

    def found(prompt_id: str, **changes: Any) -> Selected:
        rules = replace(RULES, **changes)
        if rules not in known:
            known[rules] = read_selection(warehouse, rules)
        placed, *rest = (
            [row for row in rows if row["prompt_id"] == prompt_id] for rows in known[rules]
        )
        return Selected({name_of(row["completion_id"]): row for row in placed}, *rest)

    return found


QUANTILES = case(TEN, {"low": 0.5, "tie": 1.0, "between": 2.5, "top": 10.0, "over": 10.1})


def test_a_quantile_is_the_share_of_reference_rewards_not_above(find: Find) -> None:
    quantiles = find(QUANTILES).of("quantile")
    assert [quantiles[name] for name in ("low", "tie", "between", "top", "over")] == [
        0.0,  # none of ten
        0.1,  # a reference with the same reward counts
        0.2,
        1.0,
        1.0,
    ]
    # A reference is a candidate too, and counts itself.
    assert [quantiles[f"ref{number}"] for number in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert set(find(QUANTILES).of("n_references").values()) == {10}


BANDS = case(TEN, {"over": 10.5, "tie": 10.0, "under": 9.5, "third": 3.0, "second": 2.9})


def test_bands_of_ten_references(find: Find) -> None:
    bands = find(BANDS).of("band")
    assert bands["over"] == "above_all"
    assert bands["tie"] == bands["ref10"] == "best"
    assert bands["under"] == bands["third"] == "middle"  # quantiles 0.9 and 0.3
    assert bands["second"] == bands["ref2"] == "worst"  # quantile 0.2, the limit itself


def test_a_recipe_moves_the_limit_of_the_worst_band(find: Find) -> None:
    bands = find(BANDS, rejected_quantile=0.5).of("band")
    assert (bands["ref5"], bands["ref6"]) == ("worst", "middle")


THREE_REFERENCES = case((1.0, 2.0, 3.0), {"half": 2.5})


def test_with_few_references_the_lowest_of_them_is_in_the_worst_band(find: Find) -> None:
    # Its quantile is 1/3: more than 0.2, but no reference's can be less.
    bands = find(THREE_REFERENCES).of("band")
    assert (bands["ref1"], bands["ref2"], bands["half"]) == ("worst", "middle", "middle")
    assert bands["ref3"] == "best"


ORDINARY = case(TEN, {"over": 11.0, "tie": 10.0, "middle": 5.0, "low": 0.0})


def test_chosen_is_above_every_reference_and_rejected_below_nearly_all(find: Find) -> None:
    found = find(ORDINARY)
    ((chosen, rejected),) = found.names
    assert chosen == "over"
    assert rejected in {"low", "ref1", "ref2"}
    assert found.bands == [("above_all", "worst")]
    (pair,) = found.pairs
    assert (pair["chosen_reward"], pair["chosen_quantile"]) == (11.0, 1.0)
    assert pair["chosen"] == [{"role": "assistant", "content": "text of over"}]
    assert pair["rejected"] == [{"role": "assistant", "content": f"text of {rejected}"}]
    assert pair["prompt"] == [{"role": "user", "content": f"question {ORDINARY}"}]
    assert pair["reference_rewards"] == list(TEN)
    assert found.exclusions == []


TWENTY_FIVE_ALIKE = [case(TEN, {"over": 11.0, "higher": 12.0}) for _ in range(25)]


def test_every_completion_of_a_band_can_be_drawn(find: Find) -> None:
    drawn = [find(prompt_id).names[0] for prompt_id in TWENTY_FIVE_ALIKE]
    assert {chosen for chosen, _ in drawn} == {"over", "higher"}
    assert {rejected for _, rejected in drawn} == {"ref1", "ref2"}
    assert drawn != [find(prompt_id, seed=8).names[0] for prompt_id in TWENTY_FIVE_ALIKE]


STAND_INS = {
    # Nothing is above all references: the best of them is chosen.
    case(TEN, {}): ("best", "worst"),
    # The best is too long to be used.
    case((*TEN[:9], {"score": 10.0, "completion_tokens": 4096}), {}): ("middle", "worst"),
    # Both completions of the worst band are empty.
    case(({"score": 1.0, "text": ""}, {"score": 2.0, "text": ""}, *TEN[2:]), {"over": 11.0}): (
        "above_all",
        "middle",
    ),
    # All that can be used are in the worst band, or above all references, or there and the best.
    case(truncated(TEN), {"low": 1.5, "lower": 0.5}): ("worst", "worst"),
    case(truncated(TEN), {"over": 11.0, "higher": 12.0}): ("above_all", "above_all"),
    case(truncated(TEN), {"over": 11.0, "tie": 10.0}): ("above_all", "best"),
}


@pytest.mark.parametrize("prompt_id", STAND_INS)
def test_an_empty_band_is_replaced_by_the_next_and_the_row_says_so(
    find: Find, prompt_id: str
) -> None:
    assert find(prompt_id).bands == [STAND_INS[prompt_id]]


ONE_BAND = [case(truncated(TEN), {"low": 1.5, "lower": 0.5}) for _ in range(8)]


def test_within_one_band_the_higher_reward_is_chosen_whatever_the_draw(find: Find) -> None:
    for prompt_id in ONE_BAND:
        assert find(prompt_id).names == [("low", "lower")]


LIKE_ONE = [case(TEN, {"over": {"score": 11.0, "text": "text of ref1"}}) for _ in range(8)]
LIKE_BOTH = case(
    ({"score": 1.0, "text": "Yes."}, {"score": 2.0, "text": "Yes."}, *TEN[2:]),
    {"over": {"score": 11.0, "text": "Yes."}},
)


def test_a_pair_has_two_texts(find: Find) -> None:
    for prompt_id in LIKE_ONE:  # which leaves ref2 alone in the worst band
        assert find(prompt_id).names == [("over", "ref2")]
    assert find(LIKE_BOTH).bands == [("above_all", "middle")]


UNUSABLE = {
    case(TEN, {"over": changes}): reason
    for reason, changes in {
        "truncated": {"score": 11.0, "finish_reason": "length"},
        "too many tokens": {"score": 11.0, "completion_tokens": 3997},
        "empty text": {"score": 11.0, "text": ""},
        "no reward": {"score": None},
        "no completion": {"score": None, "text": None, "finish_reason": "rejected"},
    }.items()
}


@pytest.mark.parametrize("prompt_id", UNUSABLE)
def test_an_unusable_completion_is_kept_with_the_reason_and_not_selected(
    find: Find, prompt_id: str
) -> None:
    found = find(prompt_id)
    assert found.of("ineligible_reason")["over"] == UNUSABLE[prompt_id]
    assert found.names[0][0] == "ref10"


FITS = case(TEN, {"over": {"score": 11.0, "completion_tokens": 3996}})


def test_a_sequence_of_exactly_the_limit_is_used(find: Find) -> None:
    assert find(FITS).names[0][0] == "over"


HIGHEST_TRUNCATED = case((*TEN[:9], *truncated([20.0])), {"over": 15.0})


def test_a_truncated_reference_counts_as_reference_but_is_not_selected(find: Find) -> None:
    found = find(HIGHEST_TRUNCATED)
    assert found.of("n_references")["over"] == 10
    assert found.of("quantile")["over"] == 0.9  # below the truncated one
    assert found.of("ineligible_reason")["ref10"] == "truncated"
    assert found.bands == [("middle", "worst")]
    assert find(HIGHEST_TRUNCATED, allow_truncated=True).names[0][0] == "ref10"


FAILED = {"text": None, "finish_reason": "rejected"}
FAILED_UNSCORED = case((1.0, 2.0, {**FAILED, "score": None}), {"over": 3.0})
FAILED_SCORED = case((1.0, 2.0, {**FAILED, "score": 9.0}), {"over": 3.0})


def test_a_failed_completion_is_a_reference_only_with_a_reward(find: Find) -> None:
    found = find(FAILED_UNSCORED)
    assert found.of("n_references")["over"] == 2
    assert found.pairs[0]["reference_rewards"] == [1.0, 2.0]
    found = find(FAILED_SCORED)
    assert found.of("n_references")["over"] == 3
    assert found.of("quantile")["over"] == pytest.approx(2 / 3)
    assert found.pairs[0]["reference_rewards"] == [1.0, 2.0, 9.0]


NEIGHBOUR = {"model": "neighbour", "variant": "reference"}
TWO_POLICIES = case(
    (1.0, 2.0),
    {"over": 3.0, "their1": {**NEIGHBOUR, "score": 50.0}, "their2": {**NEIGHBOUR, "score": 60.0}},
)


def test_reference_completions_of_another_policy_do_not_count(find: Find) -> None:
    own, theirs = find(TWO_POLICIES), find(TWO_POLICIES, policy="neighbour")
    assert set(own.placed) == {"ref1", "ref2", "over"}
    assert own.names == [("over", "ref1")]
    assert own.pairs[0]["reference_rewards"] == [1.0, 2.0]
    # The same completion is the best for one policy and the worst for another.
    assert (own.placed["over"]["band"], theirs.placed["over"]["band"]) == ("above_all", "worst")
    assert theirs.names in ([("their2", "over")], [("their2", "their1")])


EXCLUDED = {
    case((1.0, None, None), {"over": 3.0, "low": 0.0}): ("too_few_references", 1, 5, 3),
    case((), {"over": 3.0, "low": 0.0}): ("too_few_references", 0, 2, 2),
    case((1.0, {"score": 2.0, "text": ""}), {}): ("too_few_eligible", 2, 2, 1),
    case((4.0, 4.0, 4.0), {"tie": 4.0}): ("all_rewards_equal", 3, 4, 4),
    case(
        ({"score": 1.0, "text": "Yes."}, {"score": 2.0, "text": "Yes."}),
        {"over": {"score": 3.0, "text": "Yes."}},
    ): ("all_texts_equal", 2, 3, 3),
}


@pytest.mark.parametrize("prompt_id", EXCLUDED)
def test_a_prompt_without_a_pair_is_listed_with_the_reason(find: Find, prompt_id: str) -> None:
    found = find(prompt_id)
    assert found.pairs == found.samples == []
    (row,) = found.exclusions
    counts = (row["n_references"], row["n_candidates"], row["n_eligible"])
    assert (row["reason"], *counts) == EXCLUDED[prompt_id]


TWO_REFERENCES = case((1.0, 2.0), {"over": 3.0})


def test_two_references_are_enough_unless_a_recipe_asks_for_more(find: Find) -> None:
    assert find(TWO_REFERENCES).names == [("over", "ref1")]
    (row,) = find(TWO_REFERENCES, min_references=3).exclusions
    assert row["reason"] == "too_few_references"


MANY_ABOVE = [
    case(TEN, {"over": 11.0, "higher": 12.0, "twin": {"score": 13.0, "text": "text of over"}})
    for _ in range(6)
]


def test_further_pairs_share_no_text_and_leave_the_first_as_it_is(find: Find) -> None:
    for prompt_id in MANY_ABOVE:
        three = find(prompt_id, pairs_per_prompt=3)
        assert three.pairs[0] == find(prompt_id).pairs[0]
        assert [pair["pair_index"] for pair in three.pairs] == [0, 1, 2]
        # The three above all have two texts, and the worst band has two: then others stand in.
        assert three.bands == [("above_all", "worst"), ("above_all", "worst"), ("best", "middle")]
        for side in ("chosen", "rejected"):
            assert len({pair[side][0]["content"] for pair in three.pairs}) == 3


FOUR_ABOVE = [case(truncated(TEN), {"a": 11.0, "b": 12.0, "c": 13.0, "d": 14.0}) for _ in range(12)]


def test_pairs_within_one_band_reject_nothing_twice(find: Find) -> None:
    # Chosen and rejected come from the same few, and the first chosen is often not the highest.
    counts = set()
    for prompt_id in FOUR_ABOVE:
        names = find(prompt_id, pairs_per_prompt=3).names
        counts.add(len(names))
        for side in zip(*names, strict=True):
            assert len(set(side)) == len(names)
    assert counts <= {1, 2, 3}
    assert len(counts) > 1


FIVE_USABLE = [
    case(truncated(TEN), {"a": 11.0, "b": 8.5, "c": 7.5, "d": 1.5, "e": 0.5}) for _ in range(8)
]


def test_a_sample_stands_once_whichever_pairs_it_is_in(find: Find) -> None:
    on_both_sides = 0
    for prompt_id in FIVE_USABLE:
        found = find(prompt_id, pairs_per_prompt=3)
        sides = [name for pair in found.names for name in pair]
        samples = [name_of(sample["completion_id"]) for sample in found.samples]
        assert sorted(samples) == sorted(set(sides))
        on_both_sides += len(set(sides)) < len(sides)
        # It is called by its side in the first pair that has it.
        first_side = {
            name: side
            for pair in reversed(found.names)
            for side, name in zip(("chosen", "rejected"), pair, strict=True)
        }
        assert first_side == {name_of(s["completion_id"]): s["selected_as"] for s in found.samples}
    assert on_both_sides


LOSS = case(TEN[:9], {"over": {"score": 9.5, "completion_tokens": 50}, "low": 0.5})


def test_a_sample_has_all_terms_of_its_loss_but_the_log_probabilities(find: Find) -> None:
    samples = {name_of(sample["completion_id"]): sample for sample in find(LOSS).samples}
    sample = samples["over"]
    assert (sample["selected_as"], sample["reward"], sample["quantile"]) == ("chosen", 9.5, 1.0)
    assert sample["reference_rewards"] == list(TEN[:9])
    assert sample["completion"] == [{"role": "assistant", "content": "text of over"}]
    # (quantile - b log Z - b (log pi - log pi_ref))^2, length-normalized: b = beta / |y|.
    beta, log_pi, log_pi_ref = 5.0, -71.0, -70.0
    b = beta / sample["completion_tokens"]
    assert b == 0.1
    # Z = b (exp(1/b) - 1); for small b, log Z is about log b + 1/b.
    log_z = math.log(b * math.expm1(1 / b))
    assert log_z == pytest.approx(math.log(0.1) + 10, abs=1e-4)
    loss = (sample["quantile"] - b * log_z - b * (log_pi - log_pi_ref)) ** 2
    # 1 - 0.1 (10 - 2.302585) + 0.1 = 0.3302585
    assert loss == pytest.approx(0.3302585**2, abs=1e-4)


BLANKS = {
    case(TEN, {"over": {"score": 11.0, "text": blank}})
    for blank in ("\n\n", " \u200b\n", "\ufeff", "\t\u00ad")
}


@pytest.mark.parametrize("prompt_id", BLANKS)
def test_a_text_that_shows_nothing_is_empty(find: Find, prompt_id: str) -> None:
    assert find(prompt_id).of("ineligible_reason")["over"] == "empty text"


ALIKE = {
    case([{"score": 1.0, "text": one}, {"score": 2.0, "text": other}], {})
    for one, other in (
        ("Forty.", "Forty.\n"),
        ("At  noon.", "At\u00a0noon."),
        ("Un caf\u00e9.", "Un cafe\u0301."),
        ("Yes.", "Y\u200bes."),
    )
}


@pytest.mark.parametrize("prompt_id", ALIKE)
def test_texts_that_look_alike_are_one(find: Find, prompt_id: str) -> None:
    found = find(prompt_id)
    assert found.pairs == []
    assert [row["reason"] for row in found.exclusions] == ["all_texts_equal"]


LENGTHS = case(
    TEN,
    {
        "fits": {"score": 11.0, "prompt_tokens": 4000, "completion_tokens": 96},
        "over": {"score": 12.0, "prompt_tokens": 4000, "completion_tokens": 97},
        "unknown": {"score": 13.0, "prompt_tokens": None},
    },
)


def test_the_policys_tokens_of_prompt_and_answer_decide_about_length(find: Find) -> None:
    found = find(LENGTHS)
    assert found.names[0][0] == "fits"
    reasons = found.of("ineligible_reason")
    assert (reasons["over"], reasons["unknown"]) == ("too many tokens", "no token counts")
    assert found.pairs[0]["chosen_tokens"] == 96


LONG_REFERENCES = case(
    [
        *TEN[:8],
        {"score": 20.0, "completion_tokens": 4000},
        {"score": 30.0, "finish_reason": "length"},
        {"score": 40.0, "text": "\n"},
    ],
    {"over": 15.0},
)


def test_ineligible_references_count_or_not_as_the_recipe_says(find: Find) -> None:
    everyone, eligible = find(LONG_REFERENCES), find(LONG_REFERENCES, references="eligible")
    assert everyone.of("n_references")["over"] == 11
    assert everyone.of("band")["over"] == "middle"
    assert eligible.of("n_references")["over"] == 8
    assert eligible.of("band")["over"] == "above_all"
    assert eligible.of("ineligible_reason") == everyone.of("ineligible_reason")
    assert all(pair["reference_rewards"] == list(TEN[:8]) for pair in eligible.pairs)
