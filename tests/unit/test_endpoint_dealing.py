"""Which endpoint is asked which request: like beginnings together, the load even, each once."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import pytest

from alignment_assets.inference.backends.openai.dealing import BLOCK, Dealer
from alignment_assets.inference.backends.openai.endpoint import Endpoint
from alignment_assets.inference.prefixes import cut, shared
from alignment_assets.inference.types import Request

CHARTER = "Be just, be kind, and say what is true. " * 20


def endpoints(count: int, concurrency: int = 8) -> list[Endpoint]:
    return [Endpoint(f"http://host-{number}/v1", concurrency) for number in range(count)]


def asking(texts: Iterable[str], system: str | None = None) -> list[Request]:
    told = [] if system is None else [{"role": "system", "content": system}]
    return [
        Request(str(number), "t", "generate", [*told, {"role": "user", "content": text}])
        for number, text in enumerate(texts)
    ]


def samples(prompts: int, each: int) -> list[Request]:
    return asking(
        f"{prompt} asks: {'why? ' * 40}" for prompt in range(prompts) for _ in range(each)
    )


class Run:
    """Endpoints that answer what they are dealt, in random order, at simulated speeds."""

    def __init__(self, there: list[Endpoint], requests: list[Request], seed: int = 0) -> None:
        self.draw = random.Random(seed)
        self.there, self.read, self.ended = there, 0, 0
        self.dealer = Dealer(there, self._reading(requests))
        self.taken: dict[str, list[Request]] = defaultdict(list)
        self.flight: list[tuple[Endpoint, Request]] = []
        for endpoint in there:
            self.dealer.offer(endpoint, 0.0)

    def _reading(self, requests: list[Request]) -> Iterator[Request]:
        for request in requests:
            self.read += 1
            yield request

    def fill(self) -> None:
        while endpoint := self.dealer.next_endpoint(0.0):
            request = self.dealer.take(endpoint)
            if request is None:
                return
            endpoint.started()
            self.flight.append((endpoint, request))

    def end_one(self) -> None:
        endpoint, request = self.flight.pop(self.draw.randrange(len(self.flight)))
        endpoint.answered()
        self.taken[endpoint.url].append(request)
        self.dealer.offer(endpoint, 0.0)

    def to_the_end(self) -> Run:
        self.fill()
        while self.flight:
            self.end_one()
            self.fill()
        return self

    @property
    def loads(self) -> list[int]:
        return [len(self.taken[endpoint.url]) for endpoint in self.there]


def meetings(run: Run) -> int:
    """Return how often a prompt met an endpoint for the first time."""
    return sum(len({r.messages[-1]["content"] for r in taken}) for taken in run.taken.values())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_samples_of_a_prompt_go_to_one_endpoint_and_the_load_is_even(count: int) -> None:
    run = Run(endpoints(count), samples(prompts=200, each=10)).to_the_end()
    assert sum(run.loads) == 2000
    assert meetings(run) <= 200 + 4 * count  # those that the end of the list takes apart
    assert max(run.loads) <= 1.1 * 2000 / count


def test_a_list_shorter_than_what_endpoints_take_is_spread_over_all_of_them() -> None:
    there = endpoints(4, concurrency=64)
    run = Run(there, samples(prompts=10, each=10))
    run.fill()
    assert sorted(endpoint.in_flight for endpoint in there) == [25, 25, 25, 25]


def test_128_endpoints_are_all_asked_and_little_is_read_ahead() -> None:
    there = endpoints(128)
    run = Run(there, samples(prompts=2000, each=10))
    run.fill()
    assert {endpoint.in_flight for endpoint in there} == {8}
    assert run.read <= 128 * BLOCK + BLOCK + 1
    run.to_the_end()
    assert sum(run.loads) == 20_000
    assert max(run.loads) <= 1.25 * 20_000 / 128


def test_one_endpoint_alone_is_read_for_as_it_has_room() -> None:
    run = Run(endpoints(1), samples(prompts=10, each=10))
    run.fill()
    assert run.read == 8


@pytest.mark.parametrize("seed", range(20))
def test_each_request_is_asked_once_whoever_dies_or_pauses(seed: int) -> None:
    there, draw = endpoints(5), random.Random(seed)
    requests = samples(prompts=60, each=7)
    run = Run(there, requests, seed)
    run.fill()
    while run.flight:
        endpoint = draw.choice(there)
        event = draw.random()
        if event < 0.02 and endpoint.available and sum(e.available for e in there) > 1:
            endpoint.take_out("gone", 0.0)
            run.dealer.give_back(endpoint)
        elif event < 0.06 and not endpoint.available:
            endpoint.bring_back()
            run.dealer.offer(endpoint, 0.0)
        elif event < 0.08:
            endpoint.throttled(0.0, 0.0, 0.0)
        else:
            run.end_one()
        run.fill()
    asked = Counter(r.request_id for taken in run.taken.values() for r in taken)
    assert asked == Counter(request.request_id for request in requests)


def test_the_block_of_a_dead_endpoint_is_the_next_ones_before_anything_new() -> None:
    there = endpoints(2)
    run = Run(there, samples(prompts=100, each=10))
    run.fill()
    dead, other = there
    first_unasked = run.dealer.take(dead)
    assert first_unasked
    left = int(first_unasked.request_id) + 1
    dead.take_out("gone", 0.0)
    run.dealer.give_back(dead)
    asked = [run.dealer.take(other) for _ in range(BLOCK)]
    assert str(left) in {request.request_id for request in asked if request}


def test_one_that_failed_a_request_is_passed_over_and_keeps_its_turn() -> None:
    one, other = there = endpoints(2, concurrency=1)
    dealer = Run(there, []).dealer
    assert dealer.next_endpoint(0.0, apart_from=one) is other
    other.started()
    assert dealer.next_endpoint(0.0, apart_from=one) is None
    assert dealer.next_endpoint(0.0) is one


def test_one_that_pauses_is_given_nothing_until_it_is_offered_again() -> None:
    one, other = there = endpoints(2)
    dealer = Run(there, []).dealer
    one.throttled(0.0, 0.0, 5.0)
    assert {dealer.next_endpoint(1.0) for _ in range(6)} == {other}
    dealer.offer(one, 6.0)
    assert {dealer.next_endpoint(6.0) for _ in range(6)} == {one, other}


# -- where a stretch ends --------------------------------------------------------------------------


def test_what_two_conversations_share_is_counted_from_the_beginning() -> None:
    one, same, longer, late = asking(["why?", "why?", "why? How?", "How? why?"])
    assert shared(one, same) == 4
    assert shared(one, longer) == 4
    assert shared(one, late) == 0
    under, other = asking(["why?", "how?"], CHARTER)
    assert shared(under, other) == len(CHARTER)
    assert shared(under, one) == 0
    assert shared(under, asking(["x"], CHARTER[:100])[0]) == 100


def test_a_stretch_is_cut_where_its_parts_share_least() -> None:
    groups = [f"{prompt} {CHARTER}" for prompt in "aaabbbbccd"]
    assert cut(asking(groups), range(9, 3, -1)) == 9
    assert cut(asking(groups), range(8, 3, -1)) == 7
    assert cut(asking(groups, "the same for all"), range(6, 3, -1)) == 6  # no group ends there
    # Of two beginnings that end, the shorter one.
    compared = [f"{CHARTER}{first}{CHARTER}{n}" for first in "ab" for n in range(4)]
    assert cut(asking(compared), range(7, 0, -1)) == 4
