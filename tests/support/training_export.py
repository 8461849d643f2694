"""A small export in a folder, as `alignment-assets export` lays it out, for tests of training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.support.plain_logprobs import completion_logprob

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
# Prompt, chosen, rejected.
PAIRS = [
    ("What is seven times six?", "Forty-two.", "An enemy of the rhinos."),
    ("Name a river in Bern.", "The Aare.", "the the the the"),
    ("Say hello in Greek.", "Γειά σου", "Hello, in Greek."),
    ("Shall I tax dogs?", "That is for the town to decide.", "Dogs are taxes."),
    ("What is rain?", "Water that falls from clouds.", ""),
    ("Who wrote Faust?", "Goethe did, and Marlowe before him.", "Another one, in the rain."),
]


def write_export(
    folder: Path,
    model: Any,
    tokenizer: Any,
    pairs: Sequence[tuple[str, str, str]] = PAIRS,
    weights: str = "",
) -> Path:
    """Write the formats that trainers read, and return the folder.

    Log-probabilities and counts are those of the model; the chosen one's quantile is 1, the other's
    is 0.25.
    """
    formats: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("dpo", "dpo_ref", "qrpo", "kto", "reward_model")
    }
    for number, (question, *answers) in enumerate(pairs):
        prompt = [{"role": "user", "content": question}]
        ids = {"pair_id": f"pair-{number}", "prompt_id": f"prompt-{number}"}
        pair: dict[str, Any] = {**ids, "track": "graded", "prompt": prompt}
        stored: dict[str, float] = {}
        for part, answer in zip(("chosen", "rejected"), answers, strict=True):
            completion = [{"role": "assistant", "content": answer}]
            logprob, prompt_tokens, tokens = completion_logprob(
                model, tokenizer, prompt, completion
            )
            quantile = 1.0 if part == "chosen" else 0.25
            pair |= {
                part: completion,
                f"{part}_reward": 4 * quantile,
                f"{part}_quantile": quantile,
                "prompt_tokens": prompt_tokens,
                f"{part}_tokens": tokens,
            }
            stored[part] = logprob
            sample = {"prompt": prompt, "completion": completion}
            formats["qrpo"].append(
                {
                    "sample_id": f"sample-{number}-{part}",
                    "prompt_id": ids["prompt_id"],
                    **sample,
                    "reward": 4 * quantile,
                    "quantile_reward": quantile,
                    "ref_rewards": [1.0, 2.0, 3.0, 4.0],
                    "ref_logprob": logprob,
                    "completion_tokens": tokens,
                    "selected_as": part,
                }
            )
            formats["kto"].append({**ids, **sample, "label": part == "chosen"})
        dpo = {f"{part}_reference_logprob": logprob for part, logprob in stored.items()}
        formats["dpo"].append(pair | dpo)
        formats["dpo_ref"].append(
            pair | {f"ref_{part}_logps": logprob for part, logprob in stored.items()}
        )
        texts = {part: pair[part] for part in ("prompt", "chosen", "rejected")}
        formats["reward_model"].append(ids | texts)
    for name, rows in formats.items():
        write_rows(folder, name, rows)
    policy = {"weights": weights, "revision": "main"}
    (folder / "manifest.json").write_text(json.dumps({"policy": policy}))
    return folder


def write_rows(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write, or write again, the rows of one format."""
    table = pa.Table.from_pylist(rows)
    for column in {"prompt", "completion", "chosen", "rejected"} & set(table.column_names):
        at = table.column_names.index(column)
        table = table.set_column(at, column, table[column].cast(MESSAGES))
    file = folder / name / "train-00000-of-00001.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    _write_card(folder)


def _write_card(folder: Path) -> None:
    """Say where each format is, with its hash: `datasets` reads files anew if the card changed."""
    files = {file.parent.name: file for file in sorted(folder.glob("*/*.parquet"))}
    configs = [
        {
            "config_name": name,
            "description": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}",
            "data_files": [{"split": "train", "path": f"{name}/train-*.parquet"}],
        }
        for name, file in files.items()
    ]
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': configs})}---\n")
