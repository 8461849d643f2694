"""How many requests an engine on Ray is given at once."""

from __future__ import annotations

import math

from alignment_assets.inference.vllm_settings import WINDOW_PER_SEQUENCE
from alignment_assets.inference.work_queue import CLAIM

# Ray Data remembers some 5 kB of each block for as long as the driver lives.
BLOCKS = 4096
BLOCKS_OF_ENGINE = 16
# A call ends with its longest answer. Where lengths are far apart, as many calls as an engine's
# window holds keep half of it full, and so many times as many keep all of it.
WINDOWS_IN_HAND = 2.5


def rows_of_stretch(requests: int, engines: int) -> int:
    """Return how many requests a block has: `CLAIM`, or more so that blocks are not too many.

    Args:
        requests: how many there are.
        engines: that may answer them; each finds enough blocks to be done when others are.
    """
    most, rows = max(BLOCKS, BLOCKS_OF_ENGINE * engines), CLAIM
    while requests > most * rows:
        rows *= 2
    return rows


def is_short(requests: int) -> bool:
    """Return whether so many requests were asked in stretches of `CLAIM`, whoever answered."""
    return rows_of_stretch(requests, 1) == CLAIM


def calls_at_once(rows: int, max_num_seqs: int) -> int:
    """Return how many blocks an engine has in hand, which keep its window full."""
    return math.ceil(WINDOWS_IN_HAND * WINDOW_PER_SEQUENCE * max_num_seqs / rows) + 1
