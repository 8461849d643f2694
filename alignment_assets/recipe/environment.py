"""Values of a recipe that stand in the environment: ``env:NAME``."""

from __future__ import annotations

import os

from alignment_assets.host.expected import Expected


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
