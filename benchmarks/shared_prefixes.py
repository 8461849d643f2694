"""Lists of conversations that share prefixes, in the order in which requests are asked.

Of the shapes that ``sql/requests`` has, drawn from a seed: the samples of a prompt, prompts under
one long system prompt, and the comparisons of each prompt's best completions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

Messages = list[dict[str, str]]

_SYLLABLES = ("an", "ber", "cor", "di", "ec", "for", "gu", "hil", "is", "ju", "ko", "lam", "ner")


def _text(draw: random.Random, median: float) -> str:
    """Return words of a lognormal length in characters."""
    length = int(min(8000, median * draw.lognormvariate(0.0, 0.7)))
    words = []
    while sum(map(len, words)) + len(words) < length:
        words.append("".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4))))
    return " ".join(words)


def _longest_first(draw: random.Random, count: int, median: float) -> list[str]:
    return sorted((_text(draw, median) for _ in range(count)), key=len, reverse=True)


def samples() -> Iterator[Messages]:
    """Yield ten samples of each of 200 prompts, without a system prompt."""
    for prompt in _longest_first(random.Random("samples"), 200, 800):
        for _ in range(10):
            yield [{"role": "user", "content": prompt}]


def charter() -> Iterator[Messages]:
    """Yield 2,000 prompts under one charter."""
    draw = random.Random("charter")
    system = {"role": "system", "content": _text(draw, 2000)}
    for prompt in _longest_first(draw, 2000, 400):
        yield [system, {"role": "user", "content": prompt}]


def comparisons() -> Iterator[Messages]:
    """Yield the 20 comparisons of the best five completions of each of 100 prompts."""
    draw = random.Random("comparisons")
    system = {"role": "system", "content": _text(draw, 2000)}
    for prompt in _longest_first(draw, 100, 400):
        best = [_text(draw, 1000) for _ in range(5)]
        for first in best:
            for second in best:
                if first is not second:
                    question = f"Compare.\n\n{prompt}\n\nReply A:\n{first}\n\nReply B:\n{second}"
                    yield [system, {"role": "user", "content": question}]


LISTS: dict[str, Callable[[], Iterator[Messages]]] = {
    "ten samples of a prompt": samples,
    "prompts under one charter": charter,
    "comparisons of a prompt's best": comparisons,
}
