"""What the commands share: the terminal, and how a command ends that was asked to.

Every call of the command imports this, so it imports no more than the terminal takes.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import Literal

from rich.console import Console
from rich.text import Text

from alignment_assets.host.shown import ascii_controls

# How rows are written.
Format = Literal["table", "csv", "json", "parquet", "markdown"]

console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)


class Ended(Exception):
    """A signal asked the command to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(
            f"ended by {number.name}; what was made and answered is kept: run this again to go on"
        )
        self.status = 128 + number


def as_text(text: str) -> Text:
    """Return a text from anywhere as a terminal may have it: nothing in it takes effect.

    Control characters are written as escapes, line breaks stay. Rich reads neither markup nor emoji
    names in a `Text`.
    """
    return Text("\n".join(map(ascii_controls, text.split("\n"))))


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(as_text(text), soft_wrap=True)


def say_next(steps: Mapping[str, str]) -> None:
    """Print what a user would do next: commands, each with what it shows."""
    width = max(map(len, steps))
    say("Next:")
    for command, shown in steps.items():
        say(f"  {command:{width}}  {shown}".rstrip())


def tell(text: str) -> None:
    """Print a line as it is, on standard error."""
    errors.print(as_text(text), soft_wrap=True)


def complain(text: str) -> None:
    """Print a text as it is on standard error, so that it is seen."""
    errors.print(as_text(text), style="red", soft_wrap=True)
