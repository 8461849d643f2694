"""Signals that ask a command to end, and how it was started notwithstanding."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from alignment_assets.commands.terminal import Ended

_ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ended_by_signals() -> Iterator[Callable[[], None]]:
    """End the body on SIGINT and SIGTERM, at the next point where that is safe.

    A shell starts what it puts behind (`&`) with SIGINT ignored, and around each run Dagster gives
    SIGTERM the meaning of SIGINT: without this, neither would end the command.

    Yields:
        What to call between parts of the work: it ends the body if a signal came that was lost, as
        all are that are raised while Python finalizes an object.

    Raises:
        Ended: it was asked to end.
    """
    # Dagster's handlers do not keep which signal came; the interpreter writes it here.
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = {number: signal.getsignal(number) for number in _ENDING}
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in _ENDING:
        signal.signal(number, signal.default_int_handler)
    lost: list[signal.Signals] = []

    def check() -> None:
        asked_by = _last(reader)
        if asked_by is not None:
            lost.append(asked_by)
            raise KeyboardInterrupt

    # It tells with a traceback of connections that a signal closed.
    pool = logging.getLogger("sqlalchemy.pool")
    level = pool.level
    pool.setLevel(logging.CRITICAL)
    try:
        yield check
    except BaseException as error:  # libraries make errors of their own of it
        asked_by = lost[-1] if lost else _last(reader)
        if asked_by is None:
            raise
        raise Ended(asked_by) from error
    finally:
        pool.setLevel(level)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken)
        os.close(reader)
        os.close(writer)


def _last(reader: int) -> signal.Signals | None:
    try:
        came = [number for number in os.read(reader, 1 << 16) if number in _ENDING]
    except BlockingIOError:
        return None
    return signal.Signals(came[-1]) if came else None
