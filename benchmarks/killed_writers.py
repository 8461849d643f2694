"""Writers killed at random moments of a replacement: what the table holds, and who gets in next."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import pyarrow as pa

from alignment_assets.warehouse.resource import Warehouse
from benchmarks.report import Claim, conclude, show

TABLE, ROWS = "selection_exclusions", 20_000


def generation(number: int) -> pa.Table:
    """Return a partition's rows, all marked with a number."""
    return pa.table(
        {
            "policy": ["policy"] * ROWS,
            "prompt_id": [f"{number:016d}{row:016d}" for row in range(ROWS)],
            "track": ["standard"] * ROWS,
            "reason": ["too_few_references"] * ROWS,
            "n_references": [1] * ROWS,
            "n_candidates": [number] * ROWS,
            "n_eligible": [2] * ROWS,
        }
    )


def replace(warehouse: Warehouse, number: int) -> None:
    """Replace the partition's rows."""
    with warehouse.stage(TABLE, {"policy": "policy"}) as staging:
        staging.insert_arrow(generation(number))
        staging.publish({})


def replace_for_ever(database: str, first: int, published: Synchronized[int]) -> None:
    """Replace the rows by ever newer ones, and tell which are in place."""
    warehouse = Warehouse(database=database)
    for number in range(first, first + 1_000_000):
        replace(warehouse, number)
        published.value = number


def kill_one(warehouse: Warehouse, first: int, after: float) -> int:
    """Kill a writer ``after`` seconds in its work; return the last number it said was in place."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alignment_assets.warehouse.resource"])
    published = context.Value("l", 0)
    writer = context.Process(target=replace_for_ever, args=(warehouse.database, first, published))
    writer.start()
    while published.value == 0:
        assert writer.is_alive(), "the writer does not work"
        time.sleep(0.001)
    time.sleep(after)
    writer.kill()
    writer.join()
    return int(published.value)


def holds(warehouse: Warehouse) -> list[tuple[int, int]]:
    """Return the marks of the rows and how many have each."""
    with warehouse.read() as connection:
        return connection.execute(
            f"SELECT n_candidates, count(*) FROM {TABLE} GROUP BY ALL"
        ).fetchall()


def main() -> None:
    """Kill as often as asked, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    kills = parser.parse_args().kills
    dice = random.Random(time.time_ns())
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(database=str(Path(folder) / "alignment.duckdb"), lock_timeout=60)
        replace(warehouse, 1)
        started = time.monotonic()
        replace(warehouse, 1)
        undisturbed = time.monotonic() - started
        old, new, part, waits = 0, 0, 0, []
        for kill in range(1, kills + 1):
            last = kill_one(warehouse, kill * 1000, dice.uniform(0, 2 * undisturbed))
            asked = time.monotonic()
            with warehouse.get_connection():
                waits.append(time.monotonic() - asked)
            found = holds(warehouse)
            old += found == [(last, ROWS)]
            new += found == [(last + 1, ROWS)]
            part += found not in ([(last, ROWS)], [(last + 1, ROWS)])
    show(
        f"{kills} writers killed at work; a replacement takes {undisturbed:.2f} s",
        ["old rows", "new rows", "a part", "next writer in, median s", "longest s"],
        [[old, new, part, statistics.median(waits), max(waits)]],
    )
    conclude(
        Claim("tables that hold neither the old rows nor the new", part, at_most=0),
        Claim("killed", old + new + part, at_least=kills),
        Claim("seconds until the next writer is in, longest", max(waits), at_most=2.0),
    )


if __name__ == "__main__":
    main()
