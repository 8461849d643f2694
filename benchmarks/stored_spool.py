"""A thousand objects of 200 answers on an S3 server: what do they cost each machine?

One machine puts them, another fetches them, both look again when nothing has changed, and one puts
them together. The server is moto's, on this machine: it takes processor time that real storage
would not, and has none of its latency. Beside it the same files in a plain folder.

Run it with ``python -m benchmarks.stored_spool``; ``make lake`` installs the server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.spool import merge_small_files, spool_folder, whole_files
from alignment_assets.inference.types import ANSWER_SCHEMA
from alignment_assets.recipe.spool_place import folder_of_copies
from benchmarks.report import show
from tests.support.s3 import s3_server

FILES, ANSWERS = 1000, 200
# About 1 KB, of words that zstd finds nothing in.
WORDS = 27


def fill(folder: Path, files: int, answers: int) -> int:
    """Write the files; return their bytes."""
    folder.mkdir(parents=True)
    for number in range(files):
        rows = [
            {
                "request_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number} {row}")),
                "task": "generate",
                "finish_reason": "stop",
                "text": " ".join(uuid.uuid4().hex for _ in range(WORDS)),
                "engine": "openai",
                "engine_version": "1",
                "engine_settings": "{}",
                "answered_at": datetime(2026, 1, 1),
            }
            for row in range(answers)
        ]
        name = f"{number // 100:032x}-{number % 100:08d}.parquet"
        pq.write_table(
            pa.Table.from_pylist(rows, schema=ANSWER_SCHEMA), folder / name, compression="zstd"
        )
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    """Run it and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    files = parser.parse_args().files
    lines: list[list[object]] = []

    def timed(what: str, do: Callable[[], object]) -> None:
        started, spent = time.monotonic(), time.process_time()
        do()
        lines.append([what, time.monotonic() - started, time.process_time() - spent])

    with tempfile.TemporaryDirectory() as home, s3_server(Path(home) / "log") as server:
        os.environ.update(server.environment)
        address = f"{server.create_bucket('lab')}/study"
        one, two = (
            spool_folder(folder_of_copies(Path(home) / name, address), "completions", "model")
            for name in ("one", "two")
        )
        plain = Path(home) / "plain"
        size = fill(plain, files, ANSWERS)
        shutil.copytree(plain, one)
        timed("list them in a plain folder", lambda: whole_files(plain))
        timed("put them", lambda: whole_files(one))
        timed("fetch them", lambda: whole_files(two))
        timed("look again: nothing has changed", lambda: whole_files(two))
        timed("put them together", lambda: merge_small_files(one, nullcontext))
        left = len(whole_files(one))
        timed("fetch what they are now", lambda: whole_files(two))
        timed("look again: nothing has changed", lambda: whole_files(two))
        assert len(whole_files(two)) == left < files
    show(
        f"{files:,} files, {files * ANSWERS:,} answers, {size / 2**20:.0f} MiB; {left} at the end",
        ["", "seconds", "processor s of the machine's own process"],
        lines,
    )


if __name__ == "__main__":
    main()
