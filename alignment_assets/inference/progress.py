"""How far an engine is with its requests, and who is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from alignment_assets.inference.types import Answer


@dataclass
class Progress:
    """The state of one run of requests.

    Attributes:
        label: what runs, e.g. ``completions[qwen3-14b]``.
        total: requests to answer.
        reused: requests that the spool had answered already.
        state: loading, answering or done.
        done: requests with an answer or a reason, those counted in ``failed`` among them.
        failed: requests that ended without an answer.
        in_flight: requests that the engines hold.
        prompt_tokens: of requests answered, ``cached_tokens`` of them from the prefix cache.
        weights: what answers: where its weights are, and their commit or content hash.
        engine: the backend, once it is known.
        engine_version: its version; several are joined by commas.
        engines: how many engines or endpoints share the work.
        gpus: the GPUs they hold together.
        restarts: engines that died and were started again.
        logs: the engines' log files.
    """

    label: str
    total: int
    reused: int = 0
    state: str = "loading"
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds_loading: float = 0.0
    weights: str = ""
    engine: str = ""
    engine_version: str = ""
    engines: int = 1
    gpus: int = 0
    restarts: int = 0
    logs: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic, repr=False)
    _ended: float | None = field(default=None, repr=False)

    def answering(self) -> None:
        """The engine is ready: speed is counted from now."""
        self.seconds_loading = time.monotonic() - self._started
        self.state, self._started = "answering", time.monotonic()

    def finish(self) -> None:
        """Nothing more comes: the clock stops."""
        if self.state == "loading":
            self.answering()
        self.state, self._ended = "done", time.monotonic()

    def count(self, answer: Answer) -> None:
        """One more request has its answer."""
        self.done += 1
        self.failed += answer.error is not None
        self.prompt_tokens += answer.prompt_tokens or 0
        self.completion_tokens += answer.completion_tokens or 0
        self.cached_tokens += answer.cached_tokens or 0

    @property
    def seconds(self) -> float:
        """Seconds of answering, loading apart."""
        return (self._ended or time.monotonic()) - self._started if self.state != "loading" else 0.0

    @property
    def output_tokens_per_second(self) -> float:
        """Generated tokens a second."""
        return self.completion_tokens / self.seconds if self.seconds else 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Prompt tokens a second, cached ones included."""
        return self.prompt_tokens / self.seconds if self.seconds else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end at the mean speed so far; None before the first answer."""
        return self.seconds * (self.total - self.done) / self.done if self.done else None

    def line(self) -> str:
        """Return the state as one line of a log."""
        if self.state == "loading":
            return (
                f"{self.label}: loading the model for {self.total:,} requests "
                f"({self.reused:,} answered before), {time.monotonic() - self._started:,.0f} s"
            )
        cached = self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0
        eta = "" if self.eta_seconds is None else f", ETA {self.eta_seconds:,.0f} s"
        return (
            f"{self.label}: {self.done:,}/{self.total:,} done, {self.failed:,} failed, "
            f"{self.in_flight:,} in flight, {self.output_tokens_per_second:,.0f} tokens/s out, "
            f"{self.prompt_tokens_per_second:,.0f} in ({cached:.0%} cached){eta}"
        )


# What is counted while engines answer.
COUNTS = ("done", "failed", "in_flight", "prompt_tokens", "completion_tokens", "cached_tokens")
# How often engines tell how far they are.
PROGRESS_SECONDS = 1.0
# How often they tell that they are loading: a large model takes minutes.
LOADING_SECONDS = 15.0
# Told of every change of any progress in this process; the command line shows it on the terminal.
listeners: list[Callable[[Progress], None]] = []


class ProgressLog:
    """Passes progress on to the listeners, and every so often to a log."""

    def __init__(self, log: Callable[[str], None], every: float = 30.0) -> None:
        self._log = log
        self._every = every
        self._logged_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Tell of the present state."""
        for listener in listeners:
            listener(progress)
        due = time.monotonic() - self._logged_at >= self._every
        if due or progress.state != "answering":
            self._logged_at = time.monotonic()
            self._log(progress.line())


@contextmanager
def told_while_loading(progress: Progress, report: Callable[[Progress], None]) -> Iterator[None]:
    """Report now and then while engines load, as nothing else does until they are ready."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(LOADING_SECONDS) and progress.state == "loading":
            report(progress)

    thread = threading.Thread(target=tell, name="told_while_loading", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
