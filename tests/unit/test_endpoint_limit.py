"""How much an endpoint is given at once, against simulated servers with heavy-tailed latencies."""

from __future__ import annotations

import heapq
import itertools
import math
import random
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


def simulate(seed: int, requests: int = 6000, refuse_above: int = 10**9) -> tuple[list[int], int]:
    """Keep a server as full as the limit allows.

    Args:
        refuse_above: requests in flight above which it answers 429 at once.

    Returns:
        The limit after each request, and the median number in flight in the second half.
    """
    draw = random.Random(seed)
    limit, now, number = AdaptiveLimit(HIGHEST), 0.0, 0
    flight: list[tuple[float, int, float, bool]] = []
    values, loads = [], []
    while number < requests or flight:
        while len(flight) < limit.value and number < requests:
            refused = len(flight) >= refuse_above
            seconds = math.exp(draw.gauss(0.0, SIGMA))
            heapq.heappush(flight, (now + (0.01 if refused else seconds), number, now, refused))
            number += 1
        now, _, began, refused = heapq.heappop(flight)
        if refused:
            limit.halve(began, now)
        else:
            limit.answered()
        values.append(limit.value)
        loads.append(len(flight))
    half = sorted(loads[len(loads) // 2 : -HIGHEST])
    return values, half[len(half) // 2]


def test_it_is_the_most_from_the_first_request_on() -> None:
    assert AdaptiveLimit(3).value == 3
    endpoint = Endpoint("http://here/v1", 3)
    for number in range(3):
        assert endpoint.room(0.0) == 3 - number
        endpoint.started()
    assert endpoint.room(0.0) == 0
    values, load = simulate(seed=1)
    assert set(values) == {HIGHEST}
    assert load == HIGHEST - 1


@pytest.mark.parametrize("seed", range(5))
def test_too_many_requests_halve_it_and_it_comes_again(seed: int) -> None:
    values, load = simulate(seed, refuse_above=40)
    assert 24 <= load <= 40
    steps = list(itertools.pairwise(values))
    assert values[0] == 128
    assert any(after == before // 2 for before, after in steps[1000:])  # more was tried, in vain
    assert all(after - before <= 1 for before, after in steps)


def test_requests_that_met_the_same_rush_halve_it_once() -> None:
    limit = AdaptiveLimit(16)
    halved = [limit.halve(1.0, 2.0) for _ in range(16)]
    assert halved == [True, *[False] * 15]
    assert limit.value == 8
    assert limit.halve(2.5, 3.0)
    for _ in range(5):
        limit.halve(9.0, 9.0)
    assert limit.value == 1


def test_after_an_outage_it_is_soon_where_it_was_and_after_a_rush_it_creeps() -> None:
    """An outage: 503 and nothing else, again and again. A rush: 429 between answers."""

    def answers_until(limit: AdaptiveLimit, value: int) -> int:
        for number in itertools.count():
            if limit.value >= value:
                return number
            limit.answered()
        raise AssertionError

    outage, rush = AdaptiveLimit(HIGHEST), AdaptiveLimit(HIGHEST)
    for second in range(12):
        outage.halve(second, second)
        if rush.value > 16:
            rush.answered()
            rush.halve(second, second)
    assert (outage.value, rush.value) == (1, 16)
    assert answers_until(outage, 128) == 127  # each round of answers doubles it
    assert answers_until(rush, 32) > 80
    assert answers_until(outage, HIGHEST) > 5000
    for _ in range(100):
        outage.answered()
    assert outage.value == HIGHEST


def test_answers_that_do_not_come_in_time_lower_it_where_they_are_many() -> None:
    limit = AdaptiveLimit(HIGHEST)
    for number in range(1000):
        limit.answered()
        if number % 100 == 99:
            limit.late(0.0, float(number))
    assert limit.value == HIGHEST  # one of a hundred has itself to blame
    for number in range(2000, 2300):
        limit.late(float(number), float(number))
        limit.answered()
    assert limit.value < 16


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
    endpoint.started()
    endpoint.unanswered()
    assert endpoint.throttled(0.0, 1.0, 20.0) is None
    assert (endpoint.room(20.9), endpoint.room(21.1)) == (0, 4)
    assert endpoint.throttled(30.0, 602.0, None) == "nothing but too many requests for 600 s"
