"""A limit for code that is not ours and may never end, such as a chat template."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeLimitError(RuntimeError):
    """What ran took more processor time than it may."""


@contextmanager
def processor_seconds(limit: float) -> Iterator[None]:
    """End what runs in the body once this process has computed for ``limit`` seconds meanwhile.

    Processor time counts, so that a busy machine ends nothing. It works in the main thread, where
    Python takes signals; in another nothing is limited.

    Raises:
        TimeLimitError: inside the body, between two steps of Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise TimeLimitError(f"more than {limit:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
