"""Which endpoint gets which request: each takes stretches of the list, whoever has room is next.

A stretch is a block of requests that follow each other, and ends where the next ones share least
with it, so that conversations which begin alike meet one endpoint's prefix cache. Whoever has none
left takes the next block, and at the end of the list half of another's: so all end together. No
step here looks at all endpoints, but for that last one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from alignment_assets.inference.backends.openai.endpoint import Endpoint
from alignment_assets.inference.prefixes import cut
from alignment_assets.inference.types import Request

# Requests of a block, at most; at least half as many. So many are read ahead for each endpoint.
BLOCK = 64


class Dealer:
    """Deals the requests of a list to endpoints.

    Args:
        endpoints: all there are.
        requests: the list; read as endpoints take requests, and for several endpoints up to
            `BLOCK` for each, and one more, ahead of that.
    """

    def __init__(self, endpoints: Sequence[Endpoint], requests: Iterator[Request]) -> None:
        self._requests = requests
        self._most = BLOCK if len(endpoints) > 1 else 1
        self._ahead: list[Request] = []
        self._blocks: dict[str, deque[Request]] = {e.url: deque() for e in endpoints}
        # Blocks of endpoints that are gone.
        self._given_back: deque[deque[Request]] = deque()
        # Endpoints with room, each once; some that have none any more, until their turn.
        self._turns: deque[Endpoint] = deque()
        self._in_turn: set[str] = set()
        # Requests that are read and not taken.
        self._held = 0

    def offer(self, endpoint: Endpoint, now: float) -> None:
        """An endpoint may have room that it had not."""
        if endpoint.url not in self._in_turn and endpoint.room(now):
            self._in_turn.add(endpoint.url)
            self._turns.append(endpoint)

    def next_endpoint(self, now: float, apart_from: Endpoint | None = None) -> Endpoint | None:
        """Return one that has room, each in its turn; None if there is none."""
        passed_over = None
        found = None
        while self._turns and found is None:
            endpoint = self._turns.popleft()
            if not endpoint.room(now):
                self._in_turn.remove(endpoint.url)
            elif endpoint is apart_from:
                passed_over = endpoint
            else:
                found = endpoint
        if passed_over is not None:
            self._turns.appendleft(passed_over)
        if found is not None:
            self._turns.append(found)
        return found

    def take(self, endpoint: Endpoint) -> Request | None:
        """Return the next request for an endpoint; None if all have been taken."""
        block = self._blocks[endpoint.url]
        if not block:
            block = self._blocks[endpoint.url] = self._next_block() or self._half_of_the_longest()
            if not block:
                return None
        self._held -= 1
        return block.popleft()

    def give_back(self, endpoint: Endpoint) -> None:
        """An endpoint is gone: what it has not taken of its block is for the next one."""
        if block := self._blocks[endpoint.url]:
            self._given_back.append(block)
            self._blocks[endpoint.url] = deque()

    def _next_block(self) -> deque[Request]:
        if self._given_back:
            return self._given_back.popleft()
        # One more than a block has, to see what the next one shares with it.
        wanted = self._most + 1 if self._most > 1 else 1
        read = list(islice(self._requests, wanted - len(self._ahead)))
        self._ahead += read
        self._held += len(read)
        end = len(self._ahead)
        if end > self._most:
            end = cut(self._ahead, range(self._most, self._most // 2, -1))
        block, self._ahead = deque(self._ahead[:end]), self._ahead[end:]
        return block

    def _half_of_the_longest(self) -> deque[Request]:
        """Take about the later half of what the endpoint with the most to do has not taken."""
        if not self._held:
            return deque()
        url = max(self._blocks, key=lambda url: len(self._blocks[url]))
        block = list(self._blocks[url])
        end, middle = 0, len(block) / 2
        if len(block) > 1:
            places = range(max(1, len(block) // 4), len(block) * 3 // 4 + 1)
            end = cut(block, sorted(places, key=lambda place: abs(place - middle)))
        self._blocks[url] = deque(block[:end])
        return deque(block[end:])
