"""What does it take to move a study's tables into a DuckLake, and back?

A DuckDB file with so many completions of 1 KB, by seven models, and their requests and rewards, is
moved into a DuckLake (its catalog in SQLite, its files in a folder) and back into a file, each by a
process of its own that reads all rows again, as the command does. DuckDB may have `LIMIT_MB` of
memory, which is less than the rows. Beside that the same for a quarter of the rows.

Falls short: a process that takes more than `BEYOND` MiB beside that, or rows that come back other
than they went.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa

from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.moving import contents_of_all, differences, move_tables
from alignment_assets.warehouse.opening import database_of
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import draw_texts

MODELS = 7
CHARACTERS = 1_000
PART = 10_000
# The default is a fifth of the machine's memory, which DuckDB takes where it can.
LIMIT_MB, BEYOND = 400, 400
LIMITS = {"memory_limit": f"{LIMIT_MB}MB", "threads": 2}

_COMPLETIONS = """
INSERT INTO completions BY NAME
SELECT
    uuid() AS completion_id, uuid() AS request_id, uuid() AS prompt_id,
    'model ' || $model AS model, 'default' AS variant, 0 AS sample_index,
    text, sha256(text) AS text_hash, hash(text) AS normal_hash, 'stop' AS finish_reason,
    200 AS prompt_tokens, 250 AS completion_tokens, 'synthetic' AS engine, '1' AS engine_version,
    '{}' AS engine_settings, 'fingerprint' AS model_fingerprint, random()::FLOAT AS seconds,
    TIMESTAMP '2026-01-01' AS answered_at
FROM texts
"""
_REQUESTS = """
INSERT INTO completion_requests BY NAME
SELECT
    completion_id, request_id, prompt_id, 'standard' AS track, model, variant, sample_index,
    model_fingerprint, '{"temperature": 1.0}' AS sampling
FROM completions
"""
_REWARDS = """
INSERT INTO rewards BY NAME
SELECT
    completion_id, uuid() AS request_id, prompt_id, 'standard' AS track, model, variant,
    sample_index, random() * 8 - 4 AS reward, 'scorer' AS scorer, 'classify' AS task
FROM completions
"""


def in_file(home: Path) -> Database:
    """Return the database of a home that is a file."""
    file = str(home / "alignment.duckdb")
    return database_of({"database": file, "connection_config": LIMITS})


def in_lake(home: Path) -> Database:
    """Return that which is a DuckLake."""
    catalog, data = f"sqlite:{home / 'catalog.sqlite'}", str(home / "lake")
    return database_of(
        {"database": catalog, "data": data, "folder": str(home), "connection_config": LIMITS}
    )


def fill(database: Database, rows: int) -> None:
    """Make so many completions, with a request and a reward each."""
    database.prepare()
    with database.get_connection() as connection:
        for model in range(MODELS):
            ours = rows // MODELS
            for first in range(0, ours, PART):
                drawn = draw_texts(min(PART, ours - first), CHARACTERS, f"{model} {first}")
                connection.register("texts", pa.table({"text": drawn}))
                connection.execute(_COMPLETIONS, {"model": model})
        connection.execute(_REQUESTS)
        connection.execute(_REWARDS)


def move(source: Database, target: Database) -> dict[str, float]:
    """Move all tables; return what that took."""
    begin, used = time.monotonic(), time.process_time()
    moved = move_tables(source, target, lambda _: None)
    return {
        "rows": sum(one.rows for one in moved),
        "MB": sum(one.bytes for one in moved) / 1e6,
        "seconds": time.monotonic() - begin,
        "of which copying": sum(one.seconds for one in moved),
        "processor s": time.process_time() - used,
        "MiB": peak_mebibytes(),
    }


def peak_mebibytes() -> float:
    """Return the most memory that this process has had; what its parent had is not in it."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    return int(line) / 1024


def measured(source: Database, target: Database) -> dict[str, float]:
    """Move in a process of its own, whose memory is its alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        return processes.submit(move, source, target).result()


def main() -> None:
    """Measure, and say whether it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="completions")
    rows = parser.parse_args().rows
    found, other_rows = {}, []
    for share in (4, 1):
        with tempfile.TemporaryDirectory() as folder:
            home, other = Path(folder) / "home", Path(folder) / "other"
            home.mkdir()
            other.mkdir()
            source, lake, back = in_file(home), in_lake(home), in_file(other)
            fill(source, rows // share)
            found[share, "up"] = measured(source, lake)
            found[share, "back"] = measured(lake, back)
            other_rows += differences(contents_of_all(source), contents_of_all(back))
    show(
        f"{rows:,} completions and a quarter of them, up and back",
        ["", *found[1, "up"], "rows/s"],
        [
            (
                way if share == 1 else f"{way}, a quarter",
                *one.values(),
                one["rows"] / one["seconds"],
            )
            for (share, way), one in found.items()
        ],
    )
    most = max(one["MiB"] for one in found.values())
    conclude(
        Claim(
            "MiB of a process, beside DuckDB's limit", most - LIMIT_MB * 1e6 / 2**20, at_most=BEYOND
        ),
        Claim("parts that came back other than they went", len(other_rows), at_most=0),
    )


if __name__ == "__main__":
    main()
