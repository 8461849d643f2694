"""What the environment says: values that a recipe takes from it, and a limit over the recipe's."""

from __future__ import annotations

import os

from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import LIMIT

# More prompts there are nowhere.
LIMIT_DIGITS = 19


class LimitError(Expected):
    """ALIGNMENT_LIMIT holds no number of prompts."""


class UnsetError(Expected):
    """A variable is not set; the message names it and the setting that wants it, never a value."""


def from_environment(value: str, where: str) -> str:
    """Return ``value``, or what the variable holds if ``value`` is ``env:NAME``.

    Raises:
        UnsetError: the variable is not set.
    """
    if not value.startswith("env:"):
        return value
    name = value.removeprefix("env:")
    if not os.environ.get(name):
        raise UnsetError(
            f"{where}: the environment variable {name} is not set; set it and run again"
        )
    return os.environ[name]


def limit_from_environment() -> int | None:
    """Return how many prompts ALIGNMENT_LIMIT lets a run take; None where it is not set.

    Raises:
        LimitError: it holds something else.
    """
    said = os.environ.get(LIMIT)
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < LIMIT_DIGITS and int(said)):
        raise LimitError(
            f"{LIMIT}={said[:LIMIT_DIGITS]!r} is no number of prompts; set it to 1 or more, or "
            f"unset it"
        )
    return int(said)
