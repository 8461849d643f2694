"""How long to pause before something that failed is tried again."""

from __future__ import annotations

import random


def backoff(number: int, first: float, longest: float) -> float:
    """Return the pause before try ``number`` (from 1): it doubles, with up to half taken off."""
    pause: float = min(longest, first * 2.0 ** min(number - 1, 32))
    return pause * random.uniform(0.5, 1.0)
