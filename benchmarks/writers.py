"""Six processes that each replace rows five times, half a second each: who waits, and how long.

Measured beside it: the stock ``dagster_duckdb.DuckDBResource`` doing the same.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import duckdb
from dagster_duckdb import DuckDBResource

from alignment_assets.warehouse.resource import Warehouse
from benchmarks.report import Claim, conclude, show

WRITERS, REPLACEMENTS, SECONDS = 6, 5, 0.5
PATIENCE = 600.0
SERIAL = WRITERS * REPLACEMENTS * SECONDS
RESOURCES = {"Warehouse": Warehouse, "dagster_duckdb.DuckDBResource": DuckDBResource}
POLICIES = [f"policy {number}" for number in range(WRITERS)]


def replace(connection: duckdb.DuckDBPyConnection, policy: str, number: int) -> None:
    """Replace a partition's rows and hold the file until half a second is over."""
    end = time.monotonic() + SECONDS
    connection.begin()
    connection.execute(
        "DELETE FROM selection_exclusions WHERE policy = $policy", {"policy": policy}
    )
    connection.execute(
        "INSERT INTO selection_exclusions SELECT $policy, uuid(), 'standard', "
        "'too_few_references', 1, $number, 2 FROM range(1000)",
        {"policy": policy, "number": number},
    )
    connection.commit()
    time.sleep(max(0.0, end - time.monotonic()))


def write(name: str, database: str, policy: str, together: Barrier, results: Any) -> None:
    """Replace a partition five times, and report each wait; None where it failed."""
    resource = RESOURCES[name](database=database)
    waits: list[float | None] = []
    together.wait()
    for number in range(REPLACEMENTS):
        asked = time.monotonic()
        try:
            with resource.get_connection() as connection:
                waits.append(time.monotonic() - asked)
                replace(connection, policy, number)
        except duckdb.IOException:  # what the stock resource does when its attempts are over
            waits.append(None)
    results.put(waits)


def race(name: str, database: str) -> tuple[float, list[float], int]:
    """Return the seconds in all, each wait, and how many replacements failed."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(WRITERS + 1), context.Queue()
    writers = [
        context.Process(target=write, args=(name, database, policy, together, results))
        for policy in POLICIES
    ]
    for writer in writers:
        writer.start()
    together.wait()
    started = time.monotonic()
    found = [wait for _ in writers for wait in results.get(timeout=PATIENCE)]
    seconds = time.monotonic() - started
    for writer in writers:
        writer.join()
    waits = [wait for wait in found if wait is not None]
    return seconds, waits, len(found) - len(waits)


def main() -> None:
    """Run both and print what came out."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rows, ours = [], None
    for name in RESOURCES:
        with tempfile.TemporaryDirectory() as folder:
            warehouse = Warehouse(database=str(Path(folder) / "alignment.duckdb"))
            warehouse.prepare()
            seconds, waits, failures = race(name, warehouse.database)
            mean, longest = statistics.mean(waits), max(waits)
            rows.append([name, seconds, seconds / SERIAL, mean, longest, longest / mean, failures])
            if ours is None:
                ours = seconds, mean, longest, failures
                with warehouse.read() as connection:
                    kept = connection.execute(
                        "SELECT count(*) FROM selection_exclusions WHERE n_candidates = $last",
                        {"last": REPLACEMENTS - 1},
                    ).fetchone()
                assert kept == (WRITERS * 1000,), kept
    show(
        f"{WRITERS} writers × {REPLACEMENTS} replacements of {SECONDS} s; {SERIAL:.0f} s at least",
        ["", "seconds", "× least", "mean wait s", "longest wait s", "longest/mean", "failed"],
        rows,
    )
    assert ours is not None
    seconds, mean, longest, failures = ours
    conclude(
        Claim("seconds in all, × the serial minimum", seconds / SERIAL, at_most=1.25),
        Claim("longest wait, × the mean", longest / mean, at_most=2.0),
        Claim("failed replacements", failures, at_most=0),
    )


if __name__ == "__main__":
    main()
