"""Commands that a message proposes: of the recipe and the limit that this process works on."""

from __future__ import annotations

import os
import shlex

# Name the recipe and stand over its limit, for this process and those that it starts; the options
# of the command set them.
RECIPE, LIMIT = "ALIGNMENT_RECIPE", "ALIGNMENT_LIMIT"


def proposed(command: str) -> str:
    """Return a command of ours as a shell takes it, with the recipe and limit that are set."""
    words = [f"alignment-assets {command}"]
    for option, variable in (("--recipe", RECIPE), ("--limit", LIMIT)):
        if value := os.environ.get(variable):
            words.append(f"{option} {shlex.quote(value)}")
    return " ".join(words)
