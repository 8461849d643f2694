"""Where a stretch of requests is cut so that engines compute shared beginnings once.

An engine keeps what it has computed of a conversation's beginning, and the next conversation that
begins alike costs it the rest alone. Work files have such conversations together: the samples of a
prompt, or the comparisons of its answers. Here belongs which neighbours share how much; who takes
what is decided by those who ask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alignment_assets.inference.types import Request


def cut(requests: Sequence[Request], places: Iterable[int]) -> int:
    """Return where to cut a stretch of requests: where its parts share least of a beginning.

    Args:
        requests: in the order of asking.
        places: how many requests may be before the cut, at least one of them and not all; of
            places that are equally good the first is taken.
    """
    return min(places, key=lambda place: shared(requests[place - 1], requests[place]))


def shared(first: Request, second: Request) -> int:
    """Return how many characters the beginnings of two conversations have in common."""
    count = 0
    for one, other in zip(first.messages, second.messages, strict=False):
        if one["role"] != other["role"]:
            return count
        alike = _alike(one["content"], other["content"])
        count += alike
        if alike < max(len(one["content"]), len(other["content"])):
            return count
    return count


def _alike(one: str, other: str) -> int:
    """Return the length of two texts' common beginning, found by halves: slices compare fast."""
    if one == other:
        return len(one)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
