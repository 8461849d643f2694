"""One endpoint: how many requests it takes at a time, and whether it takes any now.

State and rules alone, told of every start and end with the time at which it is; nothing here sends
or waits. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

import statistics
from email.utils import parsedate_to_datetime

from alignment_assets.inference.retries import backoff

FIRST_LIMIT = 16
# Fewer latencies than this say little about their median: they are spread over a factor of ten.
COHORT = 64
# A cohort is judged once this share of it has ended; the rest counts as slower than the median.
ENDED_SHARE = 0.75
# Twice the requests at less than this many times the latency is a third more throughput.
LATENCY_HOLDS = 1.5
CREEP = 4

# An endpoint that gives 429 or 503 for so long, and no answer, counts as down.
THROTTLED_SECONDS = 600.0
# The first and the longest pause: after too many requests, and between looks at a dead endpoint.
PAUSE_SECONDS = (1.0, 60.0)
PROBE_SECONDS = (1.0, 30.0)
FAILURES_IN_A_ROW = 8


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks for; ``now`` is a Unix time.

    None, if there is no such header, or none that can be read.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    # At the end of this time an endpoint counts as down, so it is asked once more.
    return min(max(seconds, 0.0), THROTTLED_SECONDS) if seconds == seconds else None


class AdaptiveLimit:
    """How many requests an endpoint is given at once.

    It doubles while that raises throughput: the median latency of the first requests under a new
    limit is compared with that under the last. From there it creeps up while latency holds. Too
    many requests (429, 503) halve it. A longer latency alone never lowers it: longer answers are
    no reason, and a server queues what it cannot take yet.

    Args:
        highest: the most it can become.
    """

    def __init__(self, highest: int) -> None:
        self.value = min(FIRST_LIMIT, highest)
        self._highest = highest
        self._doubling = True
        self._reference: float | None = None
        self._changed_at = float("-inf")
        self._begin_cohort()

    def started(self, request: int, now: float) -> None:
        """A request (any number that names it) is on its way."""
        if self._filling:
            self._filling -= 1
        elif self._left:
            self._left -= 1
            self._pending[request] = now

    def ended(self, request: int, now: float) -> None:
        """A request has its answer."""
        started = self._pending.pop(request, None)
        if started is not None:
            self._latencies.append(now - started)
            if not self._left and len(self._latencies) >= ENDED_SHARE * self._size:
                self._judge()

    def dropped(self, request: int) -> None:
        """A request ended without an answer, which says nothing about latency."""
        if self._pending.pop(request, None) is not None:
            self._left += 1

    def halve(self, started: float, now: float) -> bool:
        """A request that began at ``started`` met too many others; halves once for all of them."""
        if started < self._changed_at:
            return False
        self.value = max(1, self.value // 2)
        self._doubling, self._reference, self._changed_at = False, None, now
        self._begin_cohort()
        return True

    def _begin_cohort(self, more: int = 0) -> None:
        # Those that fill the room which has just been added do not feel yet how it is when full.
        self._filling = more
        self._size = self._left = max(COHORT, self.value)
        self._pending: dict[int, float] = {}
        self._latencies: list[float] = []

    def _judge(self) -> None:
        before = self.value
        waiting = [float("inf")] * (self._size - len(self._latencies))
        median = statistics.median_low(self._latencies + waiting)
        holds = self._reference is None or median < LATENCY_HOLDS * self._reference
        if self._doubling and not holds:
            self.value = max(1, self.value // 2)
            self._doubling = False
        elif self._doubling:
            self._reference = median
            self.value = min(self._highest, self.value * 2)
            self._doubling = self.value < self._highest
        else:
            if self._reference is None:
                self._reference = median
            if holds:
                self.value = min(self._highest, self.value + CREEP)
        self._begin_cohort(max(0, self.value - before))


class Endpoint:
    """One endpoint.

    Attributes:
        url: its base, as the recipe has it.
        version: what answers there, once it is known.
        vllm: whether that is vLLM.
        in_flight: requests on their way.
        available: whether it takes requests; not, once it was taken out.
        lost_since: when it was taken out, until it answers again; else None.
        paused_until: when it may be given requests again after it had too many.
        failures: requests that it failed since its last answer.
        reason: why it was taken out.
    """

    def __init__(self, url: str, concurrency: int) -> None:
        self.url = url
        self.version = "unknown"
        self.vllm = False
        self.in_flight = 0
        self.available = True
        self.lost_since: float | None = None
        self.paused_until = float("-inf")
        self.failures = 0
        self.reason = ""
        self._concurrency = concurrency
        self._limit = AdaptiveLimit(concurrency)
        self._probes = 0
        self._throttles = 0
        self._throttled_since: float | None = None

    @property
    def root(self) -> str:
        """The server's root, where what is not OpenAI's API is."""
        return self.url.removesuffix("/v1")

    @property
    def limit(self) -> int:
        """How many requests it is given at once."""
        return self._limit.value

    def room(self, now: float) -> int:
        """Return how many more requests it may be given now."""
        if not self.available or now < self.paused_until:
            return 0
        return max(0, self._limit.value - self.in_flight)

    def started(self, request: int, now: float) -> None:
        """A request is on its way."""
        self.in_flight += 1
        self._limit.started(request, now)

    def answered(self, request: int, now: float) -> None:
        """A request has an answer, or a refusal that is about itself."""
        self.in_flight -= 1
        self.failures = self._throttles = self._probes = 0
        self._throttled_since = self.lost_since = None
        self._limit.ended(request, now)

    def unanswered(self, request: int) -> None:
        """A request came back without an answer."""
        self.in_flight -= 1
        self._limit.dropped(request)

    def failed(self, now: float, *, spared: bool) -> None:
        """It failed a request.

        If it can be spared, because others are there, it is left alone for longer and longer: what
        fails fast always has room, and would be given all there is to do.
        """
        self.failures += 1
        if spared and self.failures >= FAILURES_IN_A_ROW:
            number = self.failures - FAILURES_IN_A_ROW + 1
            self.paused_until = now + backoff(number, *PAUSE_SECONDS)

    def throttled(self, started: float, now: float, asked: float | None) -> str | None:
        """A request met 429 or 503; ``asked`` are the seconds of its Retry-After.

        Returns:
            Why it counts as down, if it gives nothing else any more.
        """
        if self._throttled_since is None:
            self._throttled_since = now
        if self._limit.halve(started, now):
            self._throttles += 1
            if asked is None:
                asked = backoff(self._throttles, *PAUSE_SECONDS)
        self.paused_until = max(self.paused_until, now + (asked or 0.0))
        if now - self._throttled_since < THROTTLED_SECONDS:
            return None
        return f"nothing but too many requests for {THROTTLED_SECONDS:.0f} s"

    def lost_for(self, now: float) -> float:
        """Return for how long it has been gone; 0, if it is there or may still answer."""
        if self.lost_since is None or (self.available and self.in_flight):
            return 0.0
        return now - self.lost_since

    def take_out(self, reason: str, now: float) -> None:
        """It does not answer: no requests until it is back."""
        self.reason = reason
        self.available = False
        if self.lost_since is None:
            self.lost_since = now

    def bring_back(self) -> None:
        """It can be reached again; how much it takes is to be found out anew."""
        self.available = True
        if self._throttled_since is None:
            self.lost_since = None
        self._limit = AdaptiveLimit(self._concurrency)

    def next_probe(self) -> float:
        """Return the pause before it is looked at once more; each is longer than the last."""
        self._probes += 1
        return backoff(self._probes, *PROBE_SECONDS)
