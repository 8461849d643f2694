"""Is an engine that is fed a sliding window as fast as one call over the whole list?

Chats of very different answer lengths, the demo's model, at most 64 sequences, on this machine's
CPU. Ours is the whole path: work file, worker process, window, spool. Beside it, on an engine that
was started with the same arguments: one bare ``LLM.chat`` call, and calls of 64. Loading is left
out.

Fails where ours is under 0.95 of one call (medians), or slower than calls of 64 in any round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Job
from alignment_assets.inference.backends.vllm.backend import VllmInference, close_engines
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import REQUEST_SCHEMA
from alignment_assets.inference.vllm_settings import ENVIRONMENT, ON_CPUS
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.model import Recipe, Sampling
from alignment_assets.recipe.run import Run
from benchmarks.report import Claim, conclude, show

MODEL = "smollm2-135m"
BATCH = 64
SHARE_OF_ONE_CALL = 0.95
TOPICS = ("a river", "fair taxes", "the moon", "school", "bread", "trains", "honesty", "winter")

Chat = tuple[list[dict[str, str]], dict[str, Any]]


def chats(count: int, round_number: int) -> list[Chat]:
    """Return conversations with their sampling: answers end after 4 to 256 tokens."""
    draw = random.Random(round_number)
    drawn = []
    for number in range(count):
        text = f"{number} of round {round_number}: tell me about {draw.choice(TOPICS)}."
        limit = max(4, min(256, round(draw.lognormvariate(3.4, 0.9))))
        sampling = Sampling(max_tokens=limit).model_dump()
        drawn.append(([{"role": "user", "content": text}], sampling))
    return drawn


def bare_engine(pipe: Connection, settings: dict[str, Any]) -> None:
    """Answer lists of chats in calls of a given size, and say how many tokens and seconds."""
    # As ours on a CPU.
    os.environ.update(ENVIRONMENT | ON_CPUS | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"})
    from vllm import LLM, SamplingParams

    from alignment_assets.inference.vllm_engine import EngineSettings, llm_arguments

    os.setsid()  # so that vLLM's own processes end with this one
    llm = LLM(**llm_arguments(EngineSettings(**settings)))
    pipe.send("ready")
    while True:
        size, asked = pipe.recv()
        llm.reset_prefix_cache()
        started, tokens = time.monotonic(), 0
        for first in range(0, len(asked), size):
            part = asked[first : first + size]
            answers = llm.chat(
                [messages for messages, _ in part],
                [SamplingParams(**sampling) for _, sampling in part],
                use_tqdm=False,
            )
            tokens += sum(len(answer.outputs[0].token_ids) for answer in answers)
        pipe.send((tokens, time.monotonic() - started))


def whole_path(recipe: Recipe, home: Path, asked: Sequence[Chat]) -> tuple[int, float]:
    """Have our engine answer; return the tokens it generated and the seconds it took."""
    folder = Path(tempfile.mkdtemp(dir=home))
    work = folder / "requests.parquet"
    rows = [
        {
            "request_id": str(uuid.UUID(int=number)),
            "task": "generate",
            "kind": "generate",
            "messages": messages,
            "sampling": json.dumps(sampling),
        }
        for number, (messages, sampling) in enumerate(asked)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA), work)
    progress = Progress("engine_window", len(rows))
    run = Run(recipe, home)
    job = Job(run, MODEL, "generate", work, folder / "spool", GpuPool(), progress)
    started = time.monotonic()
    VllmInference().answer(job)
    seconds = time.monotonic() - started
    answers = pq.read_table(folder / "spool", columns=["request_id", "completion_tokens"])
    numbers = [uuid.UUID(name).int for name in answers["request_id"].to_pylist()]
    assert sorted(numbers) == list(range(len(rows)))
    return sum(answers["completion_tokens"].to_pylist()), seconds


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    recipe = load_recipe("demo")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run, none = Run(recipe, home), Progress("bare", 0)
        job = Job(run, MODEL, "generate", home, home, GpuPool(), none)
        settings = VllmInference().engine_settings(job)
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        bare = context.Process(target=bare_engine, args=(theirs, settings))
        bare.start()
        theirs.close()
        assert pipe.recv() == "ready"

        def in_calls_of(size: int) -> Callable[[list[Chat]], tuple[int, float]]:
            def measure(asked: list[Chat]) -> tuple[int, float]:
                pipe.send((size, asked))
                answer: tuple[int, float] = pipe.recv()
                return answer

            return measure

        ways: dict[str, Callable[[list[Chat]], tuple[int, float]]] = {
            "one call": in_calls_of(arguments.chats),
            "whole path": lambda asked: whole_path(recipe, home, asked),
            f"calls of {BATCH}": in_calls_of(BATCH),
        }
        for measure in ways.values():
            measure(chats(BATCH, -1))  # loads ours, warms both
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds):
            asked = chats(arguments.chats, number)
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            for name in order:
                tokens, seconds = ways[name](asked)
                speeds[name].append(tokens / seconds)
                print(f"round {number}: {name}: {tokens:,} tokens, {seconds:.1f} s", flush=True)
        close_engines()
        pipe.close()
        os.killpg(bare.pid or 0, signal.SIGKILL)
        bare.join()
    median = {name: statistics.median(values) for name, values in speeds.items()}
    rounds = [f"round {number}" for number in range(arguments.rounds)]
    table = [[name, *values, median[name]] for name, values in speeds.items()]
    show(f"{arguments.chats} chats, tokens/s", ["", *rounds, "median"], table)
    pairs = zip(speeds["whole path"], speeds[f"calls of {BATCH}"], strict=True)
    conclude(
        Claim(
            "whole path / one call (medians)",
            median["whole path"] / median["one call"],
            at_least=SHARE_OF_ONE_CALL,
        ),
        Claim(
            f"whole path / calls of {BATCH}, the worst round",
            min(ours / theirs for ours, theirs in pairs),
            at_least=1.0,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
