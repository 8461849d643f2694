"""What the commands share: the terminal, and how a command ends that was asked to.

Every call of the command imports this, so it imports no more than the terminal takes.
"""

from __future__ import annotations

import signal
import sys
from typing import Literal

from rich.console import Console

# How rows are written.
Format = Literal["table", "csv", "json", "parquet"]

console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)


class Ended(Exception):
    """A signal asked the command to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(
            f"ended by {number.name}; what was made and answered is kept: run this again to go on"
        )
        self.status = 128 + number


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def complain(text: str) -> None:
    """Print a text as it is on standard error, so that it is seen."""
    errors.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
