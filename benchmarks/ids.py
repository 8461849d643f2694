"""Ids as UUID and as the texts of 64 characters that they were: bytes in the file, and joins.

2.08 million rows with three ids each, as the completions of one model of the published run have
them. Both forms are measured in one run, in alternating order; the promise is their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import duckdb

from alignment_assets.host.machine import MEBI
from benchmarks.report import Claim, conclude, show

ROWS = 2_080_000
ROUNDS = 3
FORMS = {"text": "sha256({})", "UUID": "left(sha256({}), 32)::UUID"}
# A third of the prompts: several completions have one.
_FILL = """
CREATE TABLE completions AS
SELECT {prompt} AS prompt_id, {completion} AS completion_id, {request} AS request_id
FROM range($rows)
ORDER BY hash(range);
CREATE TABLE rewards AS FROM completions ORDER BY hash(request_id)
"""
_JOIN = """
SELECT count(*)
FROM completions
JOIN rewards USING (completion_id, request_id, prompt_id)
"""


def fill(path: Path, form: str, rows: int) -> float:
    """Make a database whose ids have a form; return the MiB of its first table."""
    parts = {"prompt": "'p' || range // 3", "completion": "'c' || range", "request": "'r' || range"}
    with duckdb.connect(str(path)) as connection:
        ids = {name: FORMS[form].format(part) for name, part in parts.items()}
        first, second = _FILL.format(**ids).split(";")
        connection.execute(first, {"rows": rows})
        connection.execute("CHECKPOINT")
        size = path.stat().st_size
        connection.execute(second)
    return size / MEBI


def join(path: Path, rows: int) -> tuple[float, float]:
    """Join both tables; return seconds and processor seconds."""
    with duckdb.connect(str(path), read_only=True, config={"threads": 2}) as connection:
        started, worked = time.monotonic(), time.process_time()
        (found,) = connection.execute(_JOIN).fetchone() or (0,)
        seconds, processor = time.monotonic() - started, time.process_time() - worked
    assert found == rows
    return seconds, processor


def main() -> None:
    """Measure, show, and fail where UUIDs save less than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        paths = {form: Path(folder) / f"{form}.duckdb" for form in FORMS}
        mebibytes = {form: fill(path, form, rows) for form, path in paths.items()}
        times: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
        for number in range(ROUNDS):
            for form in sorted(FORMS, reverse=bool(number % 2)):
                times[form].append(join(paths[form], rows))
    best = {form: min(processor for _, processor in measured) for form, measured in times.items()}
    show(
        f"{rows:,} rows with three ids",
        ["ids", "MiB", "join: seconds", "join: processor seconds"],
        [[form, mebibytes[form], min(times[form])[0], best[form]] for form in FORMS],
    )
    conclude(
        Claim("bytes, UUID to text", mebibytes["UUID"] / mebibytes["text"], at_most=0.6),
        Claim(
            "processor seconds of a join, UUID to text", best["UUID"] / best["text"], at_most=0.8
        ),
    )


if __name__ == "__main__":
    main()
