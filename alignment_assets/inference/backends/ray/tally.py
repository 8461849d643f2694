"""What the workers of a job tell its driver: how far they are, and what they have begun.

It is a Ray actor beside the driver, and ends with it. It holds as much as there are workers and
stretches in hand, however many requests there are.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from alignment_assets.inference.progress import COUNTS

# Workers say every second that they are there; one that has not for so long has died.
HEARD_SECONDS = 10.0
# Stretches done last. A worker that dies may have told us of them and Ray not, which then gives
# them out again.
DONE_LAST = 4096


class Tally:
    """Counts for all workers."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._done: deque[str] = deque(maxlen=DONE_LAST)
        self._counts: dict[str, Mapping[str, int]] = {}
        self._before: Counter[str] = Counter()
        self._heard: dict[str, float] = {}
        self._ending: dict[str, float] = {}
        self._nodes: dict[str, str] = {}
        self._told: set[str] = set()
        self._restarts = self._left_out = self._in_a_row = 0
        self._given_up: list[str] = []
        self._version = self._last_words = self._broken = ""
        self._changed_at = time.monotonic()

    def opened(self, worker: str, node: str, version: str) -> None:
        """A worker has loaded its engine; one of that name before it has died."""
        if worker in self._nodes:
            self._restarts += 1
            if worker not in self._told:
                self._last_words = f"on {self._nodes[worker]}: its process ended without a word"
            self._told.discard(worker)
        self._before.update(self._counts.pop(worker, {}))
        self._heard[worker] = time.monotonic()
        self._nodes[worker], self._version = node, version
        self._changed_at = time.monotonic()

    def progress(self, worker: str, counts: Mapping[str, int]) -> None:
        """A worker is so far."""
        self._heard[worker] = time.monotonic()
        if counts["in_flight"] or counts != self._counts.get(worker):
            self._changed_at = time.monotonic()
        self._counts[worker] = counts

    def ends(self, worker: str) -> None:
        """A worker has nothing more to do, and puts its last answers where others see them.

        It says so every second.
        """
        self._ending[worker] = time.monotonic()

    def closed(self, worker: str) -> None:
        """A worker has put all its answers where others see them, and ends."""
        self._heard.pop(worker, None)
        self._ending.pop(worker, None)

    def dies(self, worker: str, why: str) -> None:
        """A worker's engine does not go on."""
        self._last_words = f"on {self._nodes.get(worker, 'a node')}: {why}"
        self._told.add(worker)

    def breaks(self, why: str) -> None:
        """No engine can go on, for a reason that another asking would meet again."""
        self._broken = self._broken or why

    def begins(self, stretch: str) -> int:
        """Return how often a stretch was begun before; it is begun once more."""
        self._changed_at = time.monotonic()
        if stretch not in self._begun and stretch in self._done:
            self._begun[stretch] = 1
        self._begun[stretch] += 1
        return self._begun[stretch] - 1

    def is_done(self, stretch: str, *, left_out: bool = False) -> None:
        """A stretch is answered, or left out since engines die of it."""
        self._begun.pop(stretch, None)
        self._done.append(stretch)
        self._left_out += left_out

    def survived(self) -> None:
        """An engine was asked something alone, and lives."""
        self._in_a_row = 0

    def gives_up(self, request_id: str) -> int:
        """Return how many requests were given up one after the other, with this one."""
        self._in_a_row += 1
        self._given_up.append(request_id)
        return self._in_a_row

    def state(self) -> dict[str, Any]:
        """Return what the driver tells its step.

        Those of `COUNTS`, and ``engines`` (that were heard a moment ago), ``ending`` (those, and
        who puts its last answers where others see them), ``restarts``, ``left_out`` (stretches),
        ``given_up`` (ids), ``last_words``, ``broken`` (why none can go on), ``version``, and
        ``idle`` (s in which no engine had anything to do).
        """
        since = time.monotonic() - HEARD_SECONDS
        heard = {worker for worker, at in self._heard.items() if at > since}
        ending = {worker for worker, at in self._ending.items() if at > since}
        counts = Counter(self._before)
        for one in self._counts.values():
            counts.update(one)
        counts["in_flight"] -= self._before["in_flight"]
        return {
            **{name: counts[name] for name in COUNTS},
            "engines": len(heard),
            "ending": len(heard | ending),
            "restarts": self._restarts,
            "left_out": self._left_out,
            "given_up": self._given_up,
            "last_words": self._last_words,
            "broken": self._broken,
            "version": self._version,
            "idle": time.monotonic() - self._changed_at,
        }
