"""How often, and after which pause, something that failed is tried again."""

from __future__ import annotations

import random

# Deaths of engines after which what they had in hand is asked one by one.
RESTARTS = 3
# A request that kills so many engines, asked alone, is given up.
KILLS = 2
# So many given up one after the other are not to blame: the engine is broken.
GIVEN_UP_IN_A_ROW = 4


def backoff(number: int, first: float, longest: float) -> float:
    """Return the pause before try ``number`` (from 1): it doubles, with up to half taken off."""
    pause: float = min(longest, first * 2.0 ** min(number - 1, 32))
    return pause * random.uniform(0.5, 1.0)
