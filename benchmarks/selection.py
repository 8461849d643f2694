"""Selection alone at the published size: what does each strategy take, for one pair and for three?

453,235 prompts with 21 candidates, 9.5 million rows of ``quantile_rewards`` with ties in reward and
no texts. Each case runs in a process of its own, with the memory of `benchmarks.full_scale`.
Promised is that no strategy takes more than 1.3 times the processor seconds of the published one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.assets.training_sets import draw_pairs
from alignment_assets.host.machine import MEBI
from alignment_assets.warehouse import sql_files
from benchmarks.full_scale import MEMORY_LIMIT, THREADS
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import POLICY, PROMPTS, apertus

CANDIDATES, REFERENCES, PAIRS = 21, 10, (1, 3)
# Rewards in steps of 1/8 about a normal distribution: the sum of four even draws.
_FILL = f"""
INSERT INTO quantile_rewards BY NAME
WITH scored AS (
    SELECT
        prompts.range AS prompt,
        numbers.range AS number,
        as_id(sha256(prompt || '/' || number)) AS completion_id,
        list_sum([hash(prompt, number, part) % 64 for part in [1, 2, 3, 4]]) / 8 AS reward
    FROM range($prompts) AS prompts, range({CANDIDATES}) AS numbers
),
placed AS (
    SELECT
        *,
        list(reward) FILTER (number < {REFERENCES}) OVER (PARTITION BY prompt) AS s,
        len(list_filter(s, lambda one: one <= reward)) / {REFERENCES} AS quantile
    FROM scored
)
SELECT
    $policy AS policy, as_id(sha256(prompt::VARCHAR)) AS prompt_id, completion_id,
    'standard' AS track,
    CASE WHEN number < {REFERENCES} THEN $policy ELSE 'model' END AS model,
    CASE WHEN number < {REFERENCES} THEN 'reference' ELSE 'default' END AS variant,
    number AS sample_index, normal_hash('text' || completion_id) AS normal_hash, reward,
    {REFERENCES} AS n_references, quantile,
    CASE WHEN reward > list_max(s) THEN 'above_all' WHEN quantile = 1 THEN 'best'
        WHEN quantile <= 0.2 THEN 'worst' ELSE 'middle' END AS band
FROM placed
ORDER BY hash(completion_id)
"""
_FILL_PROMPTS = """
INSERT INTO alignment_prompts BY NAME
SELECT
    as_id(sha256(range::VARCHAR)) AS prompt_id, sha256(range::VARCHAR) AS prompt_hash,
    'standard' AS track, [] AS messages, '' AS messages_hash, '' AS dataset, [] AS datasets
FROM range($prompts)
"""


def _connect(path: Path, **options: Any) -> duckdb.DuckDBPyConnection:
    config = {
        "memory_limit": MEMORY_LIMIT,
        "threads": THREADS,
        "preserve_insertion_order": "false",
        "temp_directory": str(path.parent / "spill"),
    }
    connection = duckdb.connect(str(path), config=config, **options)
    connection.execute("SET enable_progress_bar = false")
    connection.execute(sql_files.macros())
    return connection


def fill(path: Path, prompts: int) -> None:
    """Fill ``quantile_rewards`` and ``alignment_prompts`` of a new database."""
    with _connect(path) as connection:
        for table in ("alignment_prompts", "quantile_rewards"):
            connection.execute(sql_files.tables()[table].ddl)
        connection.execute(_FILL_PROMPTS, {"prompts": prompts})
        connection.execute(_FILL, {"prompts": prompts, "policy": POLICY})


def select(pipe: Any, path: Path, strategy: str, pairs: int) -> None:
    """Select pairs; send their number, seconds, processor seconds and peak memory in MiB."""
    parameters = {
        **apertus().settings(),
        "policy": POLICY,
        "selection_strategy": strategy,
        "selection_pairs_per_prompt": pairs,
        "selection_model_order": ["model", POLICY],
    }
    query = sql_files.read_sql("assets", "selected_pairs")
    with _connect(path, read_only=True) as connection:
        started, worked = time.monotonic(), time.process_time()
        draw_pairs(connection, parameters)
        connection.execute(
            f"CREATE TEMP TABLE selected AS ({query}\n)",
            sql_files.named_parameters(query, parameters),
        )
        seconds, processor = time.monotonic() - started, time.process_time() - worked
        (rows,) = connection.execute("SELECT count(*) FROM selected").fetchone() or (0,)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEBI
    pipe.send((rows, seconds, processor, peak))


def main() -> None:
    """Run it and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    prompts = parser.parse_args().prompts
    measured = []
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "selection.duckdb"
        fill(path, prompts)
        for pairs in (*PAIRS, PAIRS[0]):  # the first once more: the machine may slow down meanwhile
            for strategy in sql_files.sql_names("selection"):
                ours, theirs = context.Pipe()
                process = context.Process(target=select, args=(theirs, path, strategy, pairs))
                process.start()
                theirs.close()
                measured.append([strategy, pairs, *ours.recv()])
                process.join()
    show(
        f"{prompts:,} prompts with {CANDIDATES} candidates",
        ["strategy", "pairs a prompt", "rows", "seconds", "processor seconds", "peak MiB"],
        measured,
    )
    one = {
        strategy: min(row[4] for row in measured if row[:2] == [strategy, PAIRS[0]])
        for strategy in sql_files.sql_names("selection")
    }
    published = one.pop("published")
    conclude(Claim("the slowest strategy, × published", max(one.values()) / published, at_most=1.3))


if __name__ == "__main__":
    main()
