"""Exports at the published size: each format against DuckDB's own COPY of the same columns.

450,000 pairs with three texts of 1 kB, twice as many samples and log-probabilities, and the token
counts of 21 candidates a prompt. It promises of each format at most 2.5 times the processor time or
the time of a COPY of its SELECT into one file in whatever order; of the process at most 3 GiB; that
two exports have the same bytes, with one thread or several; and that a kill in the middle leaves
the old one. Ours and DuckDB's take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa

from alignment_assets.exports.export import write_export
from alignment_assets.exports.formats import formats
from alignment_assets.exports.placing import placed
from alignment_assets.exports.shards import GROUP_ROWS, Source, write_formats
from alignment_assets.host.machine import MEBI
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse
from alignment_assets.warehouse.rewrite import compress_messages
from benchmarks.full_scale import MEMORY_LIMIT, THREADS
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import POLICY, apertus, draw_texts

PAIRS, CHARACTERS, CANDIDATES, PART, ROUNDS = 450_000, 1_000, 21, 5_000, 3
_IDS = """
SELECT
    as_id(sha256('prompt' || number)) AS prompt_id,
    as_id(sha256('chosen' || number)) AS chosen_completion_id,
    as_id(sha256('rejected' || number)) AS rejected_completion_id,
    *
FROM texts
"""
_PAIRS = f"""
INSERT INTO dpo_pairs BY NAME
SELECT
    as_id(sha256('pair' || number)) AS pair_id, $policy AS policy, prompt_id, 'standard' AS track,
    0 AS pair_index, [{{'role': 'user', 'content': prompt}}] AS prompt,
    [{{'role': 'assistant', 'content': chosen}}] AS chosen,
    [{{'role': 'assistant', 'content': rejected}}] AS rejected,
    chosen_completion_id, rejected_completion_id,
    'model ' || number % 5 AS chosen_model, 'model ' || number % 3 AS rejected_model,
    'default' AS chosen_variant, 'principle' AS rejected_variant,
    5 + number % 64 / 8 AS chosen_reward, number % 32 / 8 AS rejected_reward,
    0.9 AS chosen_quantile, 0.1 AS rejected_quantile,
    'best' AS chosen_band, 'worst' AS rejected_band, 200 AS chosen_tokens, 190 AS rejected_tokens,
    [range / 2.0 FOR range IN range(10)] AS reference_rewards
FROM ({_IDS})
ORDER BY hash(number)
"""
_SAMPLES = f"""
INSERT INTO qrpo_samples BY NAME
SELECT
    as_id(sha256('sample' || number || side)) AS sample_id, $policy AS policy, prompt_id,
    'standard' AS track, [{{'role': 'user', 'content': prompt}}] AS prompt,
    [{{'role': 'assistant', 'content': if(side = 'chosen', chosen, rejected)}}] AS completion,
    if(side = 'chosen', chosen_completion_id, rejected_completion_id) AS completion_id,
    'model ' || number % 5 AS model, 'default' AS variant, side AS selected_as,
    number % 64 / 8 AS reward, 0.5 AS quantile,
    [range / 2.0 FOR range IN range(10)] AS reference_rewards, 200 AS completion_tokens
FROM ({_IDS}), (SELECT unnest(['chosen', 'rejected']) AS side)
ORDER BY hash(number, side)
"""
_LOGPROBS = """
INSERT INTO reference_logprobs BY NAME
SELECT
    $policy AS policy, prompt_id, completion_id, completion_id AS request_id,
    -reward AS logprob, 100 AS prompt_tokens, 200 AS completion_tokens,
    'fingerprint' AS model_fingerprint
FROM qrpo_samples
"""
_TOKENS = f"""
INSERT INTO policy_tokens BY NAME
SELECT
    $policy AS policy, prompt_id,
    CASE candidate WHEN 0 THEN chosen_completion_id WHEN 1 THEN rejected_completion_id
        ELSE as_id(sha256(prompt_id::VARCHAR || candidate)) END AS completion_id,
    completion_id AS content_id, 100 AS prompt_tokens, 200 AS completion_tokens,
    'fingerprint' AS tokenizer_fingerprint
FROM dpo_pairs, (SELECT unnest(range({CANDIDATES})) AS candidate)
"""


def warehouse_of(home: Path, threads: int = THREADS) -> Warehouse:
    """Return the database of a folder, with the memory that benchmarks give it."""
    config = {"memory_limit": MEMORY_LIMIT, "threads": threads}
    return Warehouse(database=str(home / "alignment.duckdb"), connection_config=config)


def fill(home: Path, pairs: int) -> None:
    """Fill the tables that formats read."""
    warehouse = warehouse_of(home)
    warehouse.prepare()
    with warehouse.get_connection() as connection:
        compress_messages(connection, sql_files.tables()["dpo_pairs"].columns)
        for first in range(0, pairs, PART):
            numbers = np.arange(first, min(first + PART, pairs))
            texts = {
                name: draw_texts(len(numbers), CHARACTERS, f"{name} {first}")
                for name in ("prompt", "chosen", "rejected")
            }
            connection.register("texts", pa.table({"number": numbers, **texts}))
            for query in (_PAIRS, _SAMPLES):
                connection.execute(query, {"policy": POLICY})
        for query in (_LOGPROBS, _TOKENS):
            connection.execute(query, {"policy": POLICY})


def ours(home: Path, name: str, folder: Path) -> None:
    """Write a format as exports do."""
    with warehouse_of(home).read() as connection:
        source = Source(connection, "alignment", POLICY, apertus().settings())
        write_formats(source, formats([name]), folder)


def duckdbs(home: Path, name: str, folder: Path) -> None:
    """Have DuckDB write the same rows and columns into one file, in whatever order."""
    (one,) = formats([name])
    how = "json" if one.lines else f"parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS}"
    columns = ", ".join(one.lines) or "*"
    with warehouse_of(home).read() as connection:
        connection.execute(
            f"COPY (SELECT {columns} FROM ({one.text}\n)) TO '{folder / 'all'}' (FORMAT {how})",
            {"policy": POLICY} if "$policy" in one.text else {},
        )


def whole(home: Path, target: Path, threads: int) -> None:
    """Write all formats, manifest and card, and put the folder in place."""
    recipe = apertus()
    with warehouse_of(home, threads).read() as connection, placed(target) as folder:
        source = Source(connection, "alignment", POLICY, recipe.settings())
        write_export(source, recipe, formats(), folder)


Measured = tuple[float, float, float]


def _measure(pipe: Connection, write: Callable[..., None], arguments: tuple[object, ...]) -> None:
    started, worked = time.monotonic(), time.process_time()
    write(*arguments)
    taken = (time.monotonic() - started, time.process_time() - worked)
    pipe.send((*taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEBI))


def measured(write: Callable[..., None], *arguments: object) -> Measured:
    """Return seconds, processor seconds and peak memory in MiB of a call in its own process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measure, args=(there, write, arguments))
    process.start()
    there.close()
    found: Measured = here.recv()
    process.join()
    return found


def _compare(home: Path, name: str, rounds: int) -> tuple[list[Measured], list[Measured]]:
    mine: list[Measured] = []
    theirs: list[Measured] = []
    for number in range(rounds):
        turns = [(ours, mine), (duckdbs, theirs)]
        for write, found in turns if number % 2 else turns[::-1]:
            with tempfile.TemporaryDirectory(dir=home) as folder:
                found.append(measured(write, home, name, Path(folder)))
    return mine, theirs


def _killed_in_the_middle(home: Path, target: Path) -> float:
    """Kill a writer once it has begun; return 1 if the old export is as it was."""
    before = _hashes(target)
    process = multiprocessing.get_context("spawn").Process(
        target=whole, args=(home, target, THREADS)
    )
    process.start()
    while not any(target.parent.glob("*.part/dpo_ref/*")):
        time.sleep(0.05)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    left = any(target.parent.glob("*.part"))
    return float(left and _hashes(target) == before)


def _hashes(target: Path) -> dict[str, str]:
    content = json.loads((target / "manifest.json").read_bytes())
    return {
        file["path"]: file["sha256"] for one in content["formats"].values() for file in one["files"]
    }


def main() -> None:
    """Run it, and say whether the promises hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    rows: list[list[object]] = []
    ratios, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        measured(fill, home, given.pairs)  # a process's peak is at least its parent's
        for one in formats():
            mine, theirs = _compare(home, one.name, given.rounds)
            least = [
                [min(found[place] for found in side) for place in (0, 1)] for side in (mine, theirs)
            ]
            wall, processor = (least[0][place] / least[1][place] for place in (0, 1))
            peak = max(found[2] for found in mine)
            rows.append([one.name, *least[0], *least[1], wall, processor, peak])
            ratios.append(min(wall, processor))
            peaks.append(peak)
        target = home / "exports" / POLICY
        first = measured(whole, home, target, 1)
        hashes, manifest = _hashes(target), (target / "manifest.json").read_bytes()
        kept = _killed_in_the_middle(home, target)
        shutil.rmtree(target)
        second = measured(whole, home, target, THREADS)
        same = _hashes(target) == hashes and (target / "manifest.json").read_bytes() == manifest
        peaks += [first[2], second[2]]
        left = list(target.parent.iterdir())
    show(
        f"{given.pairs:,} pairs, the best of {given.rounds}",
        [
            *("format", "ours s", "ours processor s", "COPY s", "COPY processor s"),
            *("ratio", "ratio of processor", "peak MiB"),
        ],
        rows,
    )
    show(
        "all formats",
        ["threads", "s", "processor s", "peak MiB"],
        [[1, *first], [THREADS, *second]],
    )
    conclude(
        Claim("the slowest format, × DuckDB's COPY", max(ratios), at_most=2.5),
        Claim("peak memory, MiB", max(peaks), at_most=3 * 1024),
        Claim("two exports have the same bytes", float(same), at_least=1),
        Claim("a kill in the middle leaves the old export", kept, at_least=1),
        Claim("folders left after the next export", float(len(left) - 1), at_most=0),
    )


if __name__ == "__main__":
    main()
