"""How much an endpoint is given at once, against simulated servers with heavy-tailed latencies."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from alignment_assets.inference.backends.openai.endpoint import (
    AdaptiveLimit,
    Endpoint,
    backoff,
    retry_after,
)

HIGHEST = 256
SIGMA = 0.8


def simulate(
    slower: Callable[[int], float],
    seed: int,
    requests: int = 6000,
    refuse_above: int = 10**9,
) -> tuple[AdaptiveLimit, list[int], float]:
    """Keep a server as full as the limit allows.

    Args:
        slower: times a latency of median 1, by the requests in flight when it begins.
        refuse_above: requests in flight above which it answers 429 at once.

    Returns:
        The limit, its values over time, and the median number in flight in the second half.
    """
    draw = random.Random(seed)
    limit, now, number = AdaptiveLimit(HIGHEST), 0.0, 0
    flight: list[tuple[float, int, float, bool]] = []
    values, loads = [], []
    while number < requests or flight:
        while len(flight) < limit.value and number < requests:
            refused = len(flight) >= refuse_above
            seconds = math.exp(draw.gauss(0.0, SIGMA)) * slower(len(flight) + 1)
            limit.started(number, now)
            heapq.heappush(flight, (now + (0.01 if refused else seconds), number, now, refused))
            number += 1
        now, ended, began, refused = heapq.heappop(flight)
        if refused:
            limit.dropped(ended)
            limit.halve(began, now)
        else:
            limit.ended(ended, now)
        values.append(limit.value)
        loads.append(len(flight))
    half = sorted(loads[len(loads) // 2 : -HIGHEST])
    return limit, values, half[len(half) // 2]


def test_it_grows_to_the_most_where_latency_holds() -> None:
    """Of 40 runs nearly all by doubling at once, the others by and by."""
    runs = [simulate(lambda _: 1.0, seed)[1] for seed in range(40)]
    assert all(values[0] == 16 for values in runs)
    assert sum(values[2500] == HIGHEST for values in runs) >= 36
    assert all(values[-1] >= 100 for values in runs)


def test_it_finds_what_a_server_can_do_and_stays_near() -> None:
    """A server of 64 slots, where more requests only wait longer: it is kept full, not flooded."""
    loads = [simulate(lambda flight: max(1.0, flight / 64), seed)[2] for seed in range(40)]
    assert all(load >= 64 for load in loads)
    assert sum(load <= 2 * 64 for load in loads) >= 36


def test_longer_answers_do_not_lower_it() -> None:
    answered = iter(range(10**9))
    _, values, _ = simulate(lambda _: 1.0 if next(answered) < 3000 else 8.0, seed=1)
    assert values[-1] == max(values)


@pytest.mark.parametrize("seed", range(5))
def test_too_many_requests_halve_it_and_it_comes_again(seed: int) -> None:
    _, values, load = simulate(lambda _: 1.0, seed, refuse_above=40)
    assert max(values) == 64
    assert 16 <= load <= 40
    steps = list(itertools.pairwise(values))
    assert (64, 32) in steps
    assert any(0 < after - before <= 4 for before, after in steps)  # no doubling any more
    assert not any(after >= 2 * before for before, after in steps[values.index(64) + 1 :])


def test_requests_that_met_the_same_rush_halve_it_once() -> None:
    limit = AdaptiveLimit(64)
    for number in range(16):
        limit.started(number, 1.0)
    halved = [limit.halve(1.0, 2.0) for _ in range(16)]
    assert halved == [True, *[False] * 15]
    assert limit.value == 8
    assert limit.halve(2.5, 3.0)
    for _ in range(5):
        limit.halve(9.0, 9.0)
    assert limit.value == 1


def test_it_never_exceeds_what_the_recipe_allows() -> None:
    assert AdaptiveLimit(3).value == 3
    endpoint = Endpoint("http://here/v1", 3)
    for number in range(3):
        assert endpoint.room(0.0) == 3 - number
        endpoint.started(number, 0.0)
    assert endpoint.room(0.0) == 0


def test_pauses_are_those_asked_for_or_grow() -> None:
    now = datetime(2025, 9, 2, 12, 0, 0, tzinfo=UTC).timestamp()
    assert retry_after("7", now) == 7.0
    assert retry_after("0.5", now) == 0.5
    assert retry_after("Tue, 02 Sep 2025 12:00:30 GMT", now) == 30.0
    assert retry_after("Tue, 02 Sep 2025 11:00:00 GMT", now) == 0.0
    assert retry_after("86400", now) == 600.0
    for unreadable in (None, "soon", "nan"):
        assert retry_after(unreadable, now) is None
    for number, longest in ((1, 1.0), (2, 2.0), (3, 4.0), (60, 30.0)):
        assert longest / 2 <= backoff(number, 1.0, 30.0) <= longest

    endpoint = Endpoint("http://here/v1", 8)
    endpoint.started(1, 0.0)
    endpoint.unanswered(1)
    assert endpoint.throttled(0.0, 1.0, 20.0) is None
    assert (endpoint.room(20.9), endpoint.room(21.1)) == (0, 4)
    assert endpoint.throttled(30.0, 602.0, None) == "nothing but too many requests for 600 s"
