"""Prompts with a few completions each, written down in a line, to select from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.support.reference_selection import Candidate


@dataclass
class Selected:
    """What selection made of one prompt; completions by the names that a case gives them."""

    placed: dict[str, dict[str, Any]]
    selected: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    samples: list[dict[str, Any]]
    exclusions: list[dict[str, Any]]

    def of(self, column: str) -> dict[str, Any]:
        return {name: row[column] for name, row in self.placed.items()}

    @property
    def names(self) -> list[tuple[str, str]]:
        return [
            (name_of(pair["chosen_completion_id"]), name_of(pair["rejected_completion_id"]))
            for pair in self.pairs
        ]

    @property
    def bands(self) -> list[tuple[str, str]]:
        return [(pair["chosen_band"], pair["rejected_band"]) for pair in self.pairs]


# A completion of a case: its reward, or the fields of a `Candidate` that are not ordinary.
Given = float | None | dict[str, Any]
CASES: dict[str, list[Candidate]] = {}


def case(references: Sequence[Given], others: Mapping[str, Given]) -> str:
    """Add a prompt to those that are selected from together, and return its id.

    Its references are named ref1, ref2, … in the order given.
    """
    prompt_id = f"prompt {len(CASES)}"
    given = {f"ref{number}": value for number, value in enumerate(references, start=1)}
    CASES[prompt_id] = [
        _candidate(prompt_id, name, value, variant, index)
        for variant, listed in (("reference", given), ("default", others))
        for index, (name, value) in enumerate(listed.items())
    ]
    return prompt_id


def _candidate(prompt_id: str, name: str, value: Given, variant: str, index: int) -> Candidate:
    model = "policy" if variant == "reference" else "model"
    ordinary = Candidate(
        f"{prompt_id}/{name}", prompt_id, "standard", model, variant, f"text of {name}", None, index
    )
    return replace(ordinary, **(value if isinstance(value, dict) else {"score": value}))


def name_of(completion_id: str) -> str:
    """Return the name that a case gives a completion."""
    return completion_id.split("/")[1]


def truncated(rewards: Sequence[float]) -> list[Given]:
    """Return completions with these rewards that ran into their token limit."""
    return [{"score": reward, "finish_reason": "length"} for reward in rewards]
