"""What the commands share: the terminal, and failures that a user can act on.

Every call of the command imports this, so it imports no more than the terminal takes.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console

# How rows are written.
Format = Literal["table", "csv", "json", "parquet"]

console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)


class Expected(Exception):
    """A failure that the user can act on; shown without a traceback."""


class Ended(Exception):
    """A signal asked the command to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(
            f"ended by {number.name}; what was answered is kept: run this again to go on"
        )
        self.status = 128 + number


@contextmanager
def expected(*kinds: type[Exception]) -> Iterator[None]:
    """Show these errors without a traceback."""
    try:
        yield
    except kinds as error:
        raise Expected(str(error)) from error


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
