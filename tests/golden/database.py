"""The fixed database in ``database.yaml``, with what its comments leave to the loader."""

from __future__ import annotations

import hashlib
from collections import UserDict
from pathlib import Path
from typing import Any

import yaml

from tests.support.ids import uid

FOLDER = Path(__file__).parent

Row = dict[str, Any]


class Golden(UserDict[str, Any]):
    """What ``database.yaml`` says."""

    def __init__(self) -> None:
        super().__init__(yaml.safe_load((FOLDER / "database.yaml").read_text(encoding="utf-8")))
        self["source_prompts"] = [
            {"dataset": dataset, **row}
            for dataset, rows in self["source_prompts"].items()
            for row in rows
        ]
        for row in (*self.prompts, *self["human_labels"]):
            row["prompt_hash"] = row["prompt_id"]
            row["prompt_id"] = uid(row["prompt_hash"])
        for row in self["personas"]:
            row["persona_hash"] = row["persona_id"]
            row["persona_id"] = uid(row["persona_hash"])
        for row in (*self.prompts, *self["human_labels"]):
            if (text := row.get("text")) is not None:
                spoken = {"system": row.get("system"), "user": text}
                row["messages"] = [{"role": r, "content": c} for r, c in spoken.items() if c]
                row["messages_hash"] = f"{text} as read"
        for row in self["wordings"]:
            row["wording_hash"] = f"hash of {row['wording_id']}"

    @property
    def prompts(self) -> list[Row]:
        return list(self["source_prompts"])

    def said_by(self, wording: str) -> dict[str, list[str]]:
        """Return what the candidate with a wording says about each labelled prompt."""
        trials: dict[str, list[str]] = self["trials"][wording]
        return {**self["grades"], **trials} if wording == "controversy" else trials

    @property
    def policies(self) -> list[str]:
        return list(self["settings"]["completions_policies"])

    @property
    def models(self) -> list[str]:
        """Return those that answer, the policies included."""
        return [*self["settings"]["completions_models"], *self.policies]

    def policy_tokens(self, name: str) -> tuple[int, int] | None:
        """Return what a policy's tokenizer counts of a completion's row; None if it cannot.

        The prompt has no system prompt of ours, so it is as the least of its completions has it.
        """
        said, prompt = self["completions"][name], completion_parts(name)[0]
        if "policy_tokens" in said:
            return said["policy_tokens"] and tuple(said["policy_tokens"])
        before = min(
            other["tokens"][0]
            for key, other in self["completions"].items()
            if completion_parts(key)[0] == prompt and "tokens" in other
        )
        return before, said["tokens"][1]


GOLDEN = Golden()


def content_hash(*parts: str | None) -> str:
    """Return the hash of some parts, as the first comment of sql/macros.sql says."""
    return hashlib.sha256(
        "\x1f".join("\x1e" if p is None else p for p in parts).encode()
    ).hexdigest()


def completion_parts(name: str) -> tuple[str, str, str, str]:
    """Return prompt, model, variant and sample index of a completion's readable name."""
    prompt, model, variant, index = name.split("/")
    return prompt, model, variant, index
