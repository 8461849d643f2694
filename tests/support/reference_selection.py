"""The rules of ranking and selection once more, in plain Python, from their description alone.

Slow and simple on purpose: the tests hold the SQL of the product against it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

from tests.support.ids import uid
from tests.support.texts import plain_normal

CHOSEN_BANDS = ("above_all", "best", "middle", "worst")
REJECTED_BANDS = ("worst", "middle", "best", "above_all")


@dataclass(frozen=True)
class Candidate:
    """A completion with its score: a logit, a judge's rating, or None; ids are names here.

    Tokens are those of the training row, as the policy's tokenizer counts them.
    """

    completion_id: str
    prompt_id: str
    track: str
    model: str
    variant: str
    text: str | None
    score: float | None
    sample_index: int = 0
    finish_reason: str = "stop"
    prompt_tokens: int | None = 100
    completion_tokens: int | None = 50

    @property
    def normal(self) -> str | None:
        """The text in the form by which texts are compared."""
        return None if self.text is None else plain_normal(self.text)


@dataclass(frozen=True)
class Rules:
    """What a recipe decides about ranking and selection."""

    policy: str
    models: tuple[str, ...]
    seed: int = 7
    compared: int = 5
    strategy: str = "published"
    model_order: tuple[str, ...] = ()
    pairs_per_prompt: int = 1
    rejected_quantile: float = 0.2
    min_references: int = 2
    max_sequence_tokens: int = 4096
    allow_truncated: bool = False
    references: str = "all"


@dataclass(frozen=True)
class Placed:
    """A candidate among the references of its prompt."""

    candidate: Candidate
    reward: float | None
    n_references: int
    quantile: float | None
    band: str | None
    ineligible_reason: str | None


@dataclass(frozen=True)
class Rank:
    """A candidate's place in the judge's order of its prompt."""

    score_position: int | None
    wins: float | None
    position: int | None
    rank_reward: float | None


# (log-probability of A, of B) of each answered comparison, by the ids shown as A and as B.
Comparisons = Mapping[tuple[str, str], tuple[float, float]]


def content_hash(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def id_of(one: Candidate) -> str:
    """Return the completion's id: a name stands for one, as `uid` gives it."""
    try:
        return str(uuid.UUID(one.completion_id))
    except ValueError:
        return uid(one.completion_id)


def ranking_draw(seed: int, one: Candidate) -> str:
    completion = content_hash(one.prompt_id, one.model, one.variant, one.sample_index)
    return content_hash(seed, "ranking", completion)


def is_candidate(candidate: Candidate, rules: Rules) -> bool:
    """Whether a completion is the policy's own or one of the recipe's models'."""
    return candidate.model in rules.models or candidate.model == rules.policy


def by_score(candidates: Sequence[Candidate], rules: Rules) -> list[Candidate]:
    """Return the candidates that have a score, best first, ties by draw."""
    scored = [candidate for candidate in candidates if candidate.score is not None]
    scored.sort(key=lambda c: ranking_draw(rules.seed, c))
    return sorted(scored, key=lambda c: -c.score)


def rank(
    candidates: Sequence[Candidate], comparisons: Comparisons, rules: Rules
) -> dict[str, Rank]:
    """Return the final place of each candidate of one prompt."""
    ordered = by_score(candidates, rules)
    front, rest = ordered[: rules.compared], ordered[rules.compared :]
    wins = {candidate.completion_id: 0.0 for candidate in front}
    for one, other in combinations(wins, 2):
        for_one, for_other = [], []
        if (one, other) in comparisons:
            a, b = comparisons[one, other]
            for_one.append(a)
            for_other.append(b)
        if (other, one) in comparisons:
            a, b = comparisons[other, one]
            for_one.append(b)
            for_other.append(a)
        if not for_one:
            continue
        ahead = sum(map(Fraction, for_one)) - sum(map(Fraction, for_other))
        wins[one] += 1.0 if ahead > 0 else 0.5 if ahead == 0 else 0.0
        wins[other] += 1.0 if ahead < 0 else 0.5 if ahead == 0 else 0.0
    final = sorted(front, key=lambda c: -wins[c.completion_id]) + rest
    ranks: dict[str, Rank] = {c.completion_id: Rank(None, None, None, None) for c in candidates}
    for place, candidate in enumerate(final, start=1):
        compared = candidate in front
        shared = [place]
        if not compared:
            shared = [
                other
                for other, peer in enumerate(final, start=1)
                if peer in rest and peer.score == candidate.score
            ]
        ranks[candidate.completion_id] = Rank(
            ordered.index(candidate) + 1,
            wins[candidate.completion_id] if compared else None,
            place,
            len(final) + 1 - sum(shared) / len(shared),
        )
    return ranks


def band_of(reward: float, references: Sequence[float], rules: Rules) -> str:
    below = Fraction(sum(s <= reward for s in references), len(references))
    if all(reward > s for s in references):
        return "above_all"
    if below == 1:
        return "best"
    limit = max(Fraction(str(rules.rejected_quantile)), Fraction(1, len(references)))
    return "worst" if below <= limit else "middle"


def _is_reference(candidate: Candidate, rules: Rules) -> bool:
    return candidate.model == rules.policy and candidate.variant == "reference"


def ineligible_reason(candidate: Candidate, reward: float | None, rules: Rules) -> str | None:
    tokens = (candidate.prompt_tokens, candidate.completion_tokens)
    if candidate.text is None:
        return "no completion"
    if reward is None:
        return "no reward"
    if plain_normal(candidate.text) == "":
        return "empty text"
    if candidate.finish_reason == "length" and not rules.allow_truncated:
        return "truncated"
    if None in tokens:
        return "no token counts"
    if sum(tokens) > rules.max_sequence_tokens:
        return "too many tokens"
    return None


def place(
    candidates: Sequence[Candidate], rewards: Mapping[str, float | None], rules: Rules
) -> list[Placed]:
    """Return each candidate of one prompt with its quantile reward."""
    references = [
        reward
        for candidate in candidates
        if _is_reference(candidate, rules)
        if (reward := rewards[candidate.completion_id]) is not None
        if rules.references == "all" or ineligible_reason(candidate, reward, rules) is None
    ]
    placed = []
    for candidate in candidates:
        reward = rewards[candidate.completion_id]
        quantile = band = None
        if reward is not None and references:
            quantile = sum(s <= reward for s in references) / len(references)
            band = band_of(reward, references, rules)
        reason = ineligible_reason(candidate, reward, rules)
        placed.append(Placed(candidate, reward, len(references), quantile, band, reason))
    return placed


def select(placed: Sequence[Placed], rules: Rules) -> list[tuple[Placed, Placed]]:
    """Return the pairs of one prompt, chosen first, by the recipe's strategy.

    Each pair is drawn like the first, but no text is chosen twice or rejected twice.
    """
    eligible = [one for one in placed if one.ineligible_reason is None and one.band is not None]
    if not placed or placed[0].n_references < rules.min_references:
        return []
    pairs: list[tuple[Placed, Placed]] = []
    while len(pairs) < rules.pairs_per_prompt:
        used = {one for pair in pairs for one in pair} if rules.strategy == "original" else set()
        chosen_before = {chosen.candidate.normal for chosen, _ in pairs}
        rejected_before = {rejected.candidate.normal for _, rejected in pairs}
        partners = {
            one: [
                other
                for other in eligible
                if other.reward < one.reward
                and other not in used
                and other.candidate.normal != one.candidate.normal
                and other.candidate.normal not in rejected_before
                and _may_be(other, "rejected", rules)
            ]
            for one in eligible
            if one.candidate.normal not in chosen_before
            and one not in used
            and _may_be(one, "chosen", rules)
        }
        further = bool(pairs)
        chosen = _drawn([one for one in partners if partners[one]], "chosen", rules, further)
        if chosen is None:
            break
        rejected = _drawn(partners[chosen], "rejected", rules, further)
        assert rejected is not None
        pairs.append((chosen, rejected))
    return pairs


def _may_be(one: Placed, side: str, rules: Rules) -> bool:
    """Return whether the strategy takes a candidate for a side at all."""
    if rules.strategy == "on_policy_only":
        return _is_reference(one.candidate, rules)
    if rules.strategy == "delta":
        half = len(rules.model_order) // 2
        stronger, weaker = rules.model_order[:half], rules.model_order[half:]
        return one.candidate.model in (stronger if side == "chosen" else weaker)
    return True


def _drawn(candidates: Sequence[Placed], side: str, rules: Rules, further: bool) -> Placed | None:
    """Draw from the best of some candidates if one is chosen, from the worst if one is rejected."""

    def place(one: Placed) -> Any:
        if rules.strategy in ("published", "on_policy_only"):
            bands = CHOSEN_BANDS if side == "chosen" else REJECTED_BANDS
            return bands.index(str(one.band))
        if rules.strategy == "original":
            assert one.quantile is not None
            if further:
                return (one.quantile >= 0.5) != (side == "chosen")
            tiers = (("best", "above_all"), ("middle",), ("worst",))
            (tier,) = (number for number, bands in enumerate(tiers) if one.band in bands)
            # Both sides take the highest quantile of their tier.
            return (tier if side == "chosen" else -tier, -one.quantile)
        if rules.strategy == "max_margin":
            assert one.quantile is not None
            return -one.quantile if side == "chosen" else one.quantile
        if rules.strategy == "delta":
            rank = rules.model_order.index(one.candidate.model)
            return rank if side == "chosen" else -rank
        assert rules.strategy == "best_worst" and one.reward is not None
        return -one.reward if side == "chosen" else one.reward

    first = min(map(place, candidates), default=None)
    return min(
        (one for one in candidates if place(one) == first),
        key=lambda one: content_hash(rules.seed, f"{side}/{rules.policy}", id_of(one.candidate)),
        default=None,
    )


def exclusion_reason(placed: Sequence[Placed], rules: Rules) -> str | None:
    """Return why a prompt can give no pair; None if it can."""
    eligible = [one for one in placed if one.ineligible_reason is None]
    if placed[0].n_references < rules.min_references:
        return "too_few_references"
    if len(eligible) < 2:
        return "too_few_eligible"
    if len({one.reward for one in eligible}) == 1:
        return "all_rewards_equal"
    if len({one.candidate.normal for one in eligible}) == 1:
        return "all_texts_equal"
    return None
