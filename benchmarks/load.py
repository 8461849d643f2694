"""How fast do completions get from the spool into the table, and how long is the file held for it?

The answers of one policy, 1 KB each in files of a thousand, are put in place of the old rows and
audited, ten times over: alone in the file, which is then written anew each time, and beside three
other partitions of the size, in place. Between them the same columns are made by one bare
``INSERT … SELECT`` into a file of their own.

Falls short: a bare insert that takes less than 0.75 of the processor time (counting what is left
included), a file that is held more than 1.15 times as long as it takes, both beside others; and a
file that grows to more than 1.5 times its size after the first replacement in either.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import completing
from alignment_assets.requests.runner import RequestRunner
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse
from alignment_assets.warehouse.rewrite import STORAGE
from benchmarks.by_hand import take_as_made
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import (
    MANY_PROMPTS,
    POLICY,
    Answered,
    apertus,
    fill_spool,
    materialize,
)

BARE_SHARE, HELD_FOR, GROWTH = 0.75, 1.15, 1.5
REPLACEMENTS = 10
CHARACTERS = 1_000
OTHERS = 3

NEIGHBOURS = """
INSERT INTO completions BY NAME
SELECT
    * EXCLUDE (number)
    REPLACE (uuid() AS completion_id, 'neighbour ' || number AS model)
FROM completions
CROSS JOIN range($others) AS numbers (number)
"""


class Timed(Warehouse):
    """A warehouse that notes how long it had the file alone."""

    @contextmanager
    def attach_in_turn(
        self, connection: duckdb.DuckDBPyConnection, *, exclusive: bool, purpose: str
    ) -> Iterator[None]:
        """Attach it, and note how long it was held."""
        with super().attach_in_turn(connection, exclusive=exclusive, purpose=purpose):
            started = time.monotonic()
            yield
        if exclusive:
            HELD.append(time.monotonic() - started)


HELD: list[float] = []


def fill(home: Path, rows: int) -> None:
    """Make the requests and the spool that answers them."""
    recipe = apertus()
    warehouse = Warehouse(database=str(home / "alignment.duckdb"))
    materialize(recipe, warehouse, "key:wordings")
    with warehouse.get_connection() as connection:
        connection.execute(
            MANY_PROMPTS, {"prompts": rows // recipe.completions.reference_completions}
        )
    take_as_made(warehouse, Run(recipe, home))
    materialize(recipe, warehouse, "key:completion_requests", POLICY)
    (asked,) = completing(recipe, str, POLICY)
    fill_spool(warehouse, "completions", POLICY, asked, characters=CHARACTERS)


def add_neighbours(home: Path) -> None:
    """Put other partitions beside the policy's."""
    warehouse = Warehouse(database=str(home / "alignment.duckdb"))
    with warehouse.get_connection() as connection:
        connection.execute(NEIGHBOURS, {"others": OTHERS})


def load(home: Path, results: Any) -> None:
    """Replace the partition again and again; report seconds by step, bytes and peak memory."""
    recipe = apertus()
    warehouse = Timed(database=str(home / "alignment.duckdb"))
    runner = RequestRunner(
        Run(recipe, home),
        warehouse,
        Answered(),
        GpuPool(),
        "completions",
        POLICY,
        None,
        print,
    )
    (asked,) = completing(recipe, str, POLICY)
    query = sql_files.read_sql("assets", "completions")
    parameters = {**recipe.settings(), "model": POLICY}
    for _ in range(REPLACEMENTS):
        bare_seconds, bare_processor = insert_bare(warehouse, runner.folder, query, parameters)
        started, processor = time.monotonic(), time.process_time()
        total, pending = runner.count(asked)
        assert pending == 0
        counted = time.monotonic()
        with warehouse.stage("completions", {"model": POLICY}, straight=True) as staging:
            runner.stage(staging, [asked], query, parameters)
            written = time.monotonic()
            published = staging.publish(parameters)
        ended = time.monotonic()
        assert published.rows == total
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        results.send(
            {
                "rows": total,
                "bare, s": bare_seconds,
                "bare, CPU s": bare_processor,
                "count": counted - started,
                "write": written - counted,
                "audit, publish": ended - written,
                "held": HELD[-1],
                "CPU s": time.process_time() - processor,
                "seconds": ended - counted,
                "MiB on disk": warehouse.path.stat().st_size / 2**20,
                "peak MiB": peak,
            }
        )
    results.close()


def insert_bare(
    warehouse: Warehouse, spool: Path, query: str, parameters: dict[str, Any]
) -> tuple[float, float]:
    """Insert what the answers make into a file of its own; return seconds by clock and processor.

    Nothing is counted, checked or replaced, and no two answers to one request are looked for.
    """
    bare = warehouse.home / "bare.duckdb"
    bare.unlink(missing_ok=True)
    values = sql_files.named_parameters(query, parameters)
    with closing(warehouse.connect(":memory:")) as connection:
        started, processor = time.monotonic(), time.process_time()
        connection.execute(f"ATTACH '{warehouse.path}' AS warehouse (READ_ONLY)")
        connection.execute(f"ATTACH '{bare}' AS bare (STORAGE_VERSION '{STORAGE}')")
        connection.execute("USE bare")
        connection.execute(warehouse.declaration(sql_files.tables()["completions"]))
        connection.execute(
            "CREATE TEMP TABLE requests AS SELECT *, model_fingerprint AS request_fingerprint "
            "FROM warehouse.main.completion_requests WHERE model = $model",
            {"model": POLICY},
        )
        connection.execute(
            "CREATE TEMP VIEW answers AS SELECT * REPLACE (request_id::UUID AS request_id) "
            f"FROM read_parquet('{spool}/*.parquet')"
        )
        connection.execute(f"INSERT INTO completions BY NAME {query}", values)
        connection.execute("USE memory")
        connection.execute("DETACH bare")
        return time.monotonic() - started, time.process_time() - processor


def run(body: Any, *arguments: Any) -> None:
    """Run something in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=body, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def measure(home: Path, place: str) -> list[dict[str, Any]]:
    """Load ten times, and show it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    loading = context.Process(target=load, args=(home, theirs))
    loading.start()
    theirs.close()
    found: list[dict[str, Any]] = []
    while len(found) < REPLACEMENTS:
        found.append(ours.recv())
    loading.join()
    for line in found:
        line["rows/s"] = line["rows"] / line["seconds"]
    show(
        f"{found[0]['rows']:,} completions from spool to table, {REPLACEMENTS} times, {place}",
        list(found[0]),
        [list(line.values()) for line in found],
    )
    return found


def middle(found: list[dict[str, Any]], column: str) -> float:
    """Return the median of a column."""
    return statistics.median(float(line[column]) for line in found)


def growth(found: list[dict[str, Any]]) -> float:
    """Return the file's greatest size after a replacement, in sizes after the first."""
    sizes = [float(line["MiB on disk"]) for line in found]
    return max(sizes) / sizes[0]


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        run(fill, home, arguments.rows)
        alone = measure(home, "alone")
        run(add_neighbours, home)
        beside = measure(home, f"beside {OTHERS} others")
    conclude(
        Claim(
            "processor time of a bare insert, of that of loading beside others, median",
            middle(beside, "bare, CPU s") / middle(beside, "CPU s"),
            at_least=BARE_SHARE,
        ),
        Claim(
            "the file is held beside others, × a bare insert, median",
            middle(beside, "held") / middle(beside, "bare, s"),
            at_most=HELD_FOR,
        ),
        Claim("file at its largest, × after the first: alone", growth(alone), at_most=GROWTH),
        Claim("the same beside others", growth(beside), at_most=GROWTH),
    )


if __name__ == "__main__":
    main()
