"""Comparing two training sets of the published size: seconds, processor seconds and peak memory.

450,000 pairs a side with prompts of 300 and completions of 1,000 characters; of those in A one in
twenty has another chosen completion in B, one in thirty other rewards, and one in forty is gone. As
many more are new. A snapshot is compared with the database, and an export with another. Each case
runs in a process of its own, with the memory of `benchmarks.full_scale`. There is no promise here.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alignment_assets.commands.compare import ANSWERS
from alignment_assets.warehouse import rewrite, sql_files
from alignment_assets.warehouse.comparison import compare, find_side
from alignment_assets.warehouse.database_file import DatabaseFile
from benchmarks.full_scale import MEMORY_LIMIT, THREADS
from benchmarks.report import conclude, show
from benchmarks.synthetic import POLICY, draw_texts

PAIRS, PART = 450_000, 10_000
_FILL = """
INSERT INTO dpo_pairs BY NAME
SELECT
    as_id(content_hash([$policy, number::VARCHAR, '0'])) AS pair_id,
    $policy AS policy,
    as_id(content_hash([number::VARCHAR])) AS prompt_id,
    'standard' AS track,
    0 AS pair_index,
    [{'role': 'user', 'content': prompt}] AS prompt,
    [{'role': 'assistant', 'content': chosen}] AS chosen,
    [{'role': 'assistant', 'content': rejected}] AS rejected,
    as_id(content_hash(['chosen', number::VARCHAR])) AS chosen_completion_id,
    as_id(content_hash(['rejected', number::VARCHAR])) AS rejected_completion_id,
    'model ' || number % 5 AS chosen_model,
    'model ' || number % 4 AS rejected_model,
    'default' AS chosen_variant,
    'default' AS rejected_variant,
    number % 97 / 8 + 1 AS chosen_reward,
    number % 97 / 8 AS rejected_reward,
    1.0 AS chosen_quantile,
    0.1 AS rejected_quantile,
    'best' AS chosen_band,
    'worst' AS rejected_band,
    (number % 400)::INTEGER AS chosen_tokens,
    (number % 300)::INTEGER AS rejected_tokens,
    [1.0, 2.0] AS reference_rewards
FROM numbered
"""
# B from A, and A from both: the rows that only B has.
_LATER = (
    "UPDATE dpo_pairs SET chosen_completion_id = as_id(sha256(pair_id::VARCHAR)), "
    "chosen_model = 'model 9' WHERE hash(pair_id) % 20 = 0",
    "UPDATE dpo_pairs SET chosen_reward = chosen_reward + 1 WHERE hash(pair_id) % 30 = 1",
    "INSERT INTO selection_exclusions SELECT policy, prompt_id, track, 'too_few_eligible', 9, 9, 1 "
    "FROM dpo_pairs WHERE hash(pair_id) % 40 = 3",
    "DELETE FROM dpo_pairs WHERE hash(pair_id) % 40 = 3",
)
_EARLIER = (
    "INSERT INTO selection_exclusions SELECT policy, prompt_id, track, 'too_few_eligible', 9, 9, 1 "
    "FROM dpo_pairs WHERE hash(pair_id) % 40 = 5",
    "DELETE FROM dpo_pairs WHERE hash(pair_id) % 40 = 5",
)
_IDS = ("pair_id", "prompt_id", "chosen_completion_id", "rejected_completion_id")


def warehouse(home: Path) -> DatabaseFile:
    """Return the database of a home, with the benchmark's memory."""
    config = {"memory_limit": MEMORY_LIMIT, "threads": THREADS}
    return DatabaseFile(database=str(home / "alignment.duckdb"), connection_config=config)


def fill(home: Path, pairs: int) -> None:
    """Make both databases of a home, ``A`` as a snapshot of it, and an export of each."""
    database = warehouse(home)
    database.prepare()
    with database.get_connection() as connection:
        rewrite.compress_messages(connection, sql_files.tables()["dpo_pairs"].columns)
        for first in range(0, pairs, PART):
            numbers = np.arange(first, min(first + PART, pairs))
            lengths = {"prompt": 300, "chosen": 1000, "rejected": 1000}
            texts = {
                side: draw_texts(len(numbers), length, f"{side} {first}")
                for side, length in lengths.items()
            }
            connection.register("numbered", pa.table({"number": numbers, **texts}))
            connection.execute(_FILL, {"policy": POLICY})
    database.snapshot(home / "snapshots" / "A.duckdb")
    for name, changes in (("A", _EARLIER), ("B", _LATER)):
        one = database if name == "B" else DatabaseFile(database=str(home / "snapshots/A.duckdb"))
        with one.get_connection() as connection:
            for change in changes:
                connection.execute(change)
            _export(connection, home / "exports" / name)


def _export(connection: Any, folder: Path) -> None:
    (folder / "dpo").mkdir(parents=True)
    manifest = {"policy": {"name": POLICY}, "recipe": {"name": "synthetic", "fingerprint": ""}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ids = ", ".join(f"{name}::VARCHAR AS {name}" for name in _IDS)
    file = sql_files.text_literal(folder / "dpo" / "train-00000-of-00001.parquet")
    connection.execute(
        f"COPY (SELECT * REPLACE ({ids}) FROM dpo_pairs) TO {file} "
        "(FORMAT parquet, COMPRESSION zstd)"
    )


def measure(pipe: Any, home: Path, names: tuple[str, str], answers: tuple[str, ...]) -> None:
    """Compare; send pairs by kind, seconds, processor seconds and peak memory in MiB."""
    database = warehouse(home)
    started, worked = time.monotonic(), time.process_time()
    a, b = (find_side(database, name) for name in names)
    found = compare(database, a, b, ("kinds", *answers))
    seconds, processor = time.monotonic() - started, time.process_time() - worked
    kinds = " ".join(f"{row['kind']} {row['pairs']:,}" for row in found["kinds"].records)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak
    pipe.send((kinds, seconds, processor, int(peak[1]) / 1024))


def main() -> None:
    """Run it and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    pairs = parser.parse_args().pairs
    measured = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home, pairs)
        exports = (str(home / "exports/A"), str(home / "exports/B"))
        for title, names, answers in (
            ("a snapshot with the database", ("A", "now"), ANSWERS),
            ("each pair of them", ("A", "now"), ("pairs",)),
            ("two exports", exports, ANSWERS),
        ):
            ours, theirs = context.Pipe()
            process = context.Process(target=measure, args=(theirs, home, names, answers))
            process.start()
            theirs.close()
            measured.append([title, *ours.recv()])
            process.join()
    show(
        f"{pairs:,} pairs a side",
        ["compared", "pairs", "seconds", "processor seconds", "peak MiB"],
        measured,
    )
    conclude()


if __name__ == "__main__":
    main()
