"""Labels of people and grades that a rule of arithmetic draws, for figures of agreement."""

from __future__ import annotations

PROMPTS, PEOPLE = 80, 3


def people_of(prompt: int) -> dict[int, int]:
    """Return the labels of a prompt by person: two or three, seldom one."""
    base = (prompt * prompt + prompt // 7) % 4
    labels = {
        person: min(3, max(0, base + (prompt * 5 + person * 3) % 7 // 3 - 1))
        for person in range(PEOPLE)
    }
    if prompt % 5 == 0:
        del labels[prompt % 3]
    if prompt % 17 == 0:
        labels = {0: base}
    return labels


def grade_of(prompt: int) -> int | None:
    """Return the grader's grade; None where its answer was no grade."""
    if prompt % 13 == 6:
        return None
    base = (prompt * prompt + prompt // 7) % 4
    return min(3, max(0, base + (prompt * 11) % 9 // 4 - 1))
