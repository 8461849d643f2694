"""How long does it take to know what is left to ask?

A million requests of one partition, and a spool of 900,000 answers of 1 KB in files of a thousand.
Counting what is unanswered must take less than 10 s and 1 GiB, in a process of its own. Writing the
work file of the 100,000 that are left is shown beside it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.spool import spool_folder
from alignment_assets.inference.types import ANSWER_SCHEMA
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import completing
from alignment_assets.requests.runner import RequestRunner
from alignment_assets.warehouse.resource import Warehouse
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import MANY_PROMPTS, Answered

MODEL = "smollm2-135m-policy"
SAMPLES = 10
ANSWERED = 0.9
ROWS_PER_FILE = 1000
SECONDS, MEBIBYTES = 10.0, 1024.0
WORDS = ("river", "value", "because", "people", "rarely", "freedom", "bread", "school", "honest")

REQUESTS = """
INSERT INTO completion_requests BY NAME
SELECT
    as_id(completion_hash(prompt_hash, $model, 'reference', sample_index)) AS completion_id,
    request_hash(
        completion_hash(prompt_hash, $model, 'reference', sample_index), 'generate',
        model_fingerprint, content_hash([messages_hash, NULL, NULL]), sampling, NULL) AS request_id,
    prompt_id,
    track,
    $model AS model,
    'reference' AS variant,
    sample_index::INTEGER AS sample_index,
    model_fingerprint,
    sampling
FROM alignment_prompts
CROSS JOIN (
    SELECT 'fingerprint of ' || $model AS model_fingerprint, '{"max_tokens": 48}' AS sampling)
CROSS JOIN range($samples) AS samples (sample_index)
"""


def fill(home: Path, requests: int) -> None:
    """Make the tables and the spool."""
    warehouse = Warehouse(database=str(home / "alignment.duckdb"))
    warehouse.prepare()
    with warehouse.get_connection() as connection:
        connection.execute(MANY_PROMPTS, {"prompts": requests // SAMPLES})
        connection.execute(REQUESTS, {"model": MODEL, "samples": SAMPLES})
        ids = (
            connection.execute(
                "SELECT request_id FROM completion_requests ORDER BY request_id LIMIT $answered",
                {"answered": int(requests * ANSWERED)},
            )
            .to_arrow_table()["request_id"]
            .to_pylist()
        )
    folder = spool_folder(home / "spool", "completions", MODEL)
    folder.mkdir(parents=True)
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=150)) for _ in range(ROWS_PER_FILE)]
    now = datetime.now(UTC).replace(tzinfo=None)
    for number in range(0, len(ids), ROWS_PER_FILE):
        part = ids[number : number + ROWS_PER_FILE]
        rows: list[dict[str, Any]] = [
            {
                "request_id": request_id,
                "task": "generate",
                "finish_reason": "stop",
                "text": text,
                "prompt_tokens": 120,
                "completion_tokens": 200,
                "engine": "vllm",
                "engine_version": "0",
                "engine_settings": "{}",
                "seconds": 1.0,
                "answered_at": now,
            }
            for request_id, text in zip(part, texts, strict=False)
        ]
        table = pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA)
        pq.write_table(table, folder / f"writer-{number:08d}.parquet", compression="zstd")


def count(home: Path, results: Any) -> None:
    """Count what is unanswered, then write it out; report counts, seconds and peak memory."""
    recipe = load_recipe("demo")
    warehouse = Warehouse(database=str(home / "alignment.duckdb"))
    runner = RequestRunner(
        Run(recipe, home),
        warehouse,
        Answered(),
        GpuPool(),
        "completions",
        MODEL,
        None,
        print,
    )
    (asked,) = completing(recipe, str, MODEL)
    started = time.monotonic()
    total, pending = runner.count(asked)
    seconds = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.monotonic()
    runner.write_unanswered(asked, home / "work.parquet")
    written = time.monotonic() - started
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.send((total, pending, seconds, memory, written, whole))


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        context = multiprocessing.get_context("spawn")
        filling = context.Process(target=fill, args=(home, arguments.requests))
        filling.start()
        filling.join()
        assert filling.exitcode == 0
        ours, theirs = context.Pipe()
        counting = context.Process(target=count, args=(home, theirs))
        counting.start()
        theirs.close()
        total, pending, seconds, memory, written, whole = ours.recv()
        counting.join()
    assert (total, pending) == (arguments.requests, round(arguments.requests * (1 - ANSWERED)))
    show(
        f"{total:,} requests, {total - pending:,} of them answered",
        ["", "seconds", "peak MiB"],
        [["count what is left", seconds, memory], ["count and write it out", written, whole]],
    )
    conclude(
        Claim("seconds to know what is left", seconds, at_most=SECONDS),
        Claim("peak MiB until then", memory, at_most=MEBIBYTES),
    )


if __name__ == "__main__":
    sys.exit(main())
