"""One endpoint: how many requests it takes at a time, and whether it takes any now.

State and rules alone, told of every start and end with the time at which it is; nothing here sends
or waits. Times are seconds of a monotonic clock.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from alignment_assets.inference.retries import backoff

# How much a limit that was lowered grows while it is asked for as often as it stands.
CREEP = 4
# An endpoint that leaves one of so many requests without an answer in time has too many.
ONE_LATE_OF = 8

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
    """How many requests an endpoint is given at once: at first, the most that the recipe allows.

    Too many requests (429, 503) halve it, and so do answers that do not come in time, where they
    are many. It comes back as answers do: with each of them by one, to half of what was too much,
    from there slowly, by `CREEP` for as many answers as it stands at.

    Args:
        highest: the most it can be.
    """

    def __init__(self, highest: int) -> None:
        self.value = highest
        self._highest = highest
        # What it grows to quickly: half of what was too much.
        self._safe = highest
        self._growth = 0.0
        self._changed_at = float("-inf")
        # Answers, and requests that had none in time, since it was halved.
        self._answered = self._late = 0

    def answered(self) -> None:
        """A request has its answer."""
        self._answered += 1
        if self.value < self._highest:
            self._growth += 1.0 if self.value < self._safe else CREEP / self.value
            if self._growth >= 1.0:
                self.value += 1
                self._growth -= 1.0

    def late(self, started: float, now: float) -> None:
        """A request that began at ``started`` had no answer in time."""
        self._late += 1
        if self._late * ONE_LATE_OF > self._answered:
            self.halve(started, now)

    def halve(self, started: float, now: float) -> bool:
        """A request that began at ``started`` met too many others; halves once for all of them."""
        if started < self._changed_at:
            return False
        self.value = max(1, self.value // 2)
        if self._answered:  # else it is not the rush that is too much: nothing gets through at all
            self._safe = self.value
        else:
            self._safe = min(self._safe, max(1, self._highest // 2))
        self._growth, self._changed_at = 0.0, now
        self._answered = self._late = 0
        return True


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

    def started(self) -> None:
        """A request is on its way."""
        self.in_flight += 1

    def answered(self) -> None:
        """A request has an answer, or a refusal that is about itself."""
        self.in_flight -= 1
        self.failures = self._throttles = self._probes = 0
        self._throttled_since = self.lost_since = None
        self._limit.answered()

    def unanswered(self) -> None:
        """A request came back without an answer."""
        self.in_flight -= 1

    def late(self, started: float, now: float) -> None:
        """A request that began at ``started`` had no answer in time."""
        self._limit.late(started, now)

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
        """It can be reached again, and is given as much as at first."""
        self.available = True
        if self._throttled_since is None:
            self.lost_since = None
        self._limit = AdaptiveLimit(self._concurrency)

    def next_probe(self) -> float:
        """Return the pause before it is looked at once more; each is longer than the last."""
        self._probes += 1
        return backoff(self._probes, *PROBE_SECONDS)
