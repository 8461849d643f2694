"""Twenty thousand small files of answers, as slow endpoints left them: what does a run pay?

Each file has three answers. A run that asks nothing finds out what is left to ask and makes the
view of answers; first it puts small files together. Promised, in processor seconds: that takes no
longer than to read them once as they are, and from then on reading takes a twentieth.

Run it with ``python -m benchmarks.small_files``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.spool import (
    merge_small_files,
    read_final,
    view_answers,
    whole_files,
)
from alignment_assets.inference.types import ANSWER_SCHEMA
from benchmarks.report import Claim, conclude, show

FILES, ANSWERS = 20_000, 3
TEXT = "An answer of some length that an endpoint gave after a while. " * 16
READ_SHARE = 0.05


def fill(folder: Path, files: int) -> None:
    """Write the files, a hundred to a writer."""
    folder.mkdir(parents=True)
    for number in range(files):
        rows = [
            {
                "request_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {row}")),
                "task": "generate",
                "finish_reason": "stop",
                "text": f"{TEXT} {number} {row}",
                "engine": "openai",
                "engine_version": "1",
                "engine_settings": "{}",
                "answered_at": datetime(2026, 1, 1),
            }
            for row in range(ANSWERS)
        ]
        name = f"{number // 100:032x}-{number % 100:08d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA), folder / name)


def read(folder: Path) -> tuple[int, float, float]:
    """Read as a run does; return the answers, seconds and processor seconds."""
    started, spent = time.monotonic(), time.process_time()
    with duckdb.connect(config={"threads": 2}) as connection:
        read_final(connection, folder, ["{}"])
        view_answers(connection, folder, ["{}"])
        (answers,) = connection.execute("SELECT count(text) FROM answers").fetchone() or (0,)
    return answers, time.monotonic() - started, time.process_time() - spent


def main() -> None:
    """Run it, show the table, and fail where the promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    files = parser.parse_args().files
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "spool"
        fill(folder, files)
        before = read(folder)
        started, spent = time.monotonic(), time.process_time()
        merge_small_files(folder, nullcontext, print)
        merging = time.monotonic() - started, time.process_time() - spent
        left = len(whole_files(folder))
        after = read(folder)
    assert before[0] == after[0] == files * ANSWERS
    show(
        f"{files:,} files of {ANSWERS} answers",
        ["", "seconds", "processor s"],
        [
            ["read as they are", *before[1:]],
            ["put together, once", *merging],
            [f"read as {left} files", *after[1:]],
        ],
    )
    conclude(
        Claim("to put together, × to read before", merging[1] / before[2], at_most=1),
        Claim("to read after, × before", after[2] / before[2], at_most=READ_SHARE),
    )


if __name__ == "__main__":
    main()
