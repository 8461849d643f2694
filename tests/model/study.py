"""A small recipe with sources, wordings and robots.txt files of its own, which steps may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from alignment_assets.recipe.limits import Limits
from alignment_assets.recipe.model import WORDINGS

SUBSETS = ["flan_v2", "no_robots"]


def _turns(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


MIX = [
    {"chosen": _turns("Should towns tax dogs?", "Perhaps."), "id": "wild_1", "source": "wild"},
    {"chosen": _turns("What is seven times eight?", "56."), "id": "math_1", "source": "math"},
    {
        "chosen": [
            {"role": "system", "content": "You are brief."},
            *_turns("Is a lie ever kind?", "At times.", "When, then?", "To spare somebody."),
        ],
        "id": "wild_2",
        "source": "wild",
    },
    {"chosen": _turns("Name  three rivers.", "Rhine."), "id": "flan_v2_1", "source": "flan"},
    {"chosen": _turns("Who owns the sea?", "Nobody."), "id": "math_2", "source": "wild"},
    {
        "chosen": _turns("Why is bread sour?", "Lactic acid."),
        "id": "page_1",
        "source": "web",
        "url": "https://open.example/bread",
    },
    {
        "chosen": _turns("Who may read the paper?", "All."),
        "id": "page_2",
        "source": "web",
        "url": "https://closed.example/paper",
    },
    {"chosen": _turns("Should  towns tax dogs?", "Yes."), "id": "wild_3", "source": "wild"},
    {"chosen": "no conversation", "id": "wild_4", "source": "wild"},
]
TOXIC = [
    {"prompt": "My boss is a clown. Help me to say so."},
    {"prompt": "Who owns the sea?"},
]
PRISM = [
    {"conversation_type": "values guided", "opening_prompt": "Is it wrong to eat meat?"},
    {"conversation_type": "unguided", "opening_prompt": "What shall I cook?"},
    {"conversation_type": "controversy guided", "opening_prompt": "Should all people vote?"},
]
PERSONAS = [
    {"persona": "A retired tram driver who distrusts new timetables."},
    {"persona": "A young midwife who explains things in few words."},
    {"persona": "A sheep farmer who judges ideas by the winter."},
]
SOURCES = {"mix": MIX, "toxic": TOXIC, "prism": PRISM, "personas": PERSONAS}
ROBOTS = {"open.example": "Allow: /", "closed.example": "Disallow: /"}

RECIPE: dict[str, Any] = {
    "name": "study",
    "description": "Small enough to be made a thousand times",
    "seed": 7,
    "limit": 7,
    "wordings": "wordings",
    "template_date": "2025-09-02",
    "max_prompt_characters": 400,
    "prompts": [
        {
            "name": "mix",
            "dataset": "mix.jsonl",
            "form": "conversation",
            "track": "graded",
            "columns": {
                "conversation": "chosen",
                "source": "source",
                "upstream_id": "id",
                "origin_url": "url",
            },
        },
        {
            "name": "toxic",
            "dataset": "toxic.jsonl",
            "form": "text",
            "track": "controversial",
            "columns": {"prompt": "prompt"},
        },
        {
            "name": "prism",
            "dataset": "prism.jsonl",
            "form": "text",
            "track": "controversial",
            "columns": {"prompt": "opening_prompt", "conversation_type": "conversation_type"},
            "keep": {"conversation_type": ["values guided", "controversy guided"]},
        },
    ],
    "personas": {"dataset": "personas.jsonl", "columns": {"persona": "persona"}},
    "human_labels": None,
    "licence": {"excluded_subsets": SUBSETS},
    "consent": {
        "agents": ["GPTBot", "*"],
        "robots": "robots",
        "unknown_origins": "admitted",
        "sources": {},
    },
    "models": {
        "large": {"weights": "hf:a/large", "billions": 3, "temperature": 0.5},
        "small": {"weights": "hf:a/small", "billions": 1},
        "policy": {"weights": "hf:a/policy", "billions": 2},
        "sibling": {"weights": "hf:a/sibling", "billions": 2},
        "judge": {"weights": "hf:a/judge", "billions": 9},
        "scorer": {"weights": "hf:a/scorer", "billions": 1},
    },
    "inference": {"attempts": 2, "max_failed_share": 0.5},
    "placeholders": ["None", "-"],
    "limits": dict.fromkeys((name for name in Limits.model_fields if name != "exceptions"), 1.0),
    "controversy": {
        "model": "judge",
        "threshold": 2,
        "attempts": 2,
        "reasoning_characters": 100,
        "sampling": {"temperature": 0.7, "max_tokens": 50},
    },
    "completions": {
        "models": ["large", "small"],
        "policies": ["policy"],
        "reference_completions": 3,
        "standard_variants": ["default", "principle"],
        "controversial_variants": ["persona", "charter"],
        "standard_charter_models": ["large"],
        "sampling": {"temperature": 1.0, "max_tokens": 60},
    },
    "rewards": {
        "standard": {"task": "rate", "model": "judge", "rubric": "judge_helpfulness_system"},
        "controversial": {"task": "rate", "model": "judge", "rubric": "judge_charter_system"},
        "comparison_judge": "judge",
        "compared_candidates": 3,
    },
    "selection": {
        "strategy": "published",
        "pairs_per_prompt": 1,
        "rejected_quantile": 0.2,
        "min_references": 1,
        "max_sequence_tokens": 4096,
        "allow_truncated": False,
    },
    "reference_logprobs": {"scope": "selected"},
    # More threads are no faster on so few rows.
    "warehouse": {"threads": 1},
    "published_prompts": {},
}


def write_study(folder: Path) -> None:
    """Write the recipe's files into an empty folder."""
    folder.mkdir(parents=True)
    for name, rows in SOURCES.items():
        write_source(folder, name, rows)
    shutil.copytree(WORDINGS, folder / "wordings", ignore=shutil.ignore_patterns("__*"))
    path = folder / "wordings" / "principles.yaml"
    principles = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({name: texts[:2] for name, texts in principles.items()}))
    (folder / "robots").mkdir()
    for domain, rule in ROBOTS.items():
        (folder / "robots" / f"{domain}.txt").write_text(f"User-agent: *\n{rule}\n")


def read_source(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def write_source(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row) for row in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
