"""Writers of a DuckLake killed at random moments: what readers see, who gets in next, what is left.

Both catalogs, in SQLite and in PostgreSQL, by turns; files in a folder. Each writer replaces the
texts of a partition over and over, and dies somewhere in that: while it writes the file, while it
puts it in place, in its turn or in the commit. After each kill a reader must find the old rows or
the new ones, whole, with the making that belongs to them, and the next writer must not wait for the
dead one. At the end another writing must succeed, and DuckLake must list as orphans exactly those
files that no snapshot has.

Run it with ``python -m benchmarks.killed_lake_writers``; ``make lake`` installs what it takes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.resource import LakeWarehouse
from alignment_assets.warehouse.row_records import content_of
from benchmarks.lake_writers import marked, rows_of
from benchmarks.report import Claim, conclude, show
from tests.support.postgres import postgres_server

TABLE, MODEL, ROWS = "completions", "model", 20_000
PART = TablePart(TABLE, MODEL)


def replace(lake: LakeWarehouse, rows: Any, number: int) -> None:
    """Replace the partition's rows."""
    with lake.stage(TABLE, {"model": MODEL}, straight=True) as staging:
        staging.insert_arrow(marked(rows, number))
        staging.publish({"model": MODEL}, inputs=())


def replace_for_ever(settings: dict[str, Any], first: int, published: Synchronized[int]) -> None:
    """Replace the rows by ever newer ones, and tell which are in place."""
    lake = LakeWarehouse(**settings)
    rows = rows_of(MODEL, 0, ROWS)
    for number in range(first, first + 1_000_000):
        replace(lake, rows, number)
        published.value = number


def kill_one(settings: dict[str, Any], first: int, after: float) -> int:
    """Kill a writer ``after`` seconds in its work; return the last number it said was in place."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.lake_writers"])
    published = context.Value("l", 0)
    writer = context.Process(target=replace_for_ever, args=(settings, first, published))
    writer.start()
    while published.value == 0:
        assert writer.is_alive(), "the writer does not work"
        time.sleep(0.001)
    time.sleep(after)
    writer.kill()
    writer.join()
    return int(published.value)


def holds(lake: LakeWarehouse) -> tuple[list[tuple[int, int]], bool]:
    """Return the marks and how many rows have each, and whether their making is on record."""
    with lake.read() as connection:
        marks = connection.execute(
            f"SELECT sample_index, count(*) FROM {TABLE} GROUP BY ALL"
        ).fetchall()
        texts = connection.execute(f"SELECT count(DISTINCT text_hash) FROM {TABLE}").fetchone()
        table = sql_files.tables()[TABLE]
        found = content_of(connection, table, TABLE, {}, texts=False)
        made = Lineage(connection, {}).made
    on_record = {part: (making.rows, making.content) for part, making in made.items()}
    return marks, texts == (ROWS,) and on_record == {PART: found}


def orphans(lake: LakeWarehouse) -> tuple[set[str], set[str]]:
    """Return the files that DuckLake lists as orphans, and those that its catalog does not know."""
    with lake.get_connection() as connection:
        listed = connection.execute(
            "FROM ducklake_delete_orphaned_files('warehouse', dry_run => true, cleanup_all => true)"
        ).fetchall()
        known = connection.execute(
            "SELECT path FROM __ducklake_metadata_warehouse.ducklake_data_file "
            "UNION ALL SELECT path FROM __ducklake_metadata_warehouse.ducklake_delete_file"
        ).fetchall()
    there = {path.name for path in Path(lake.data).rglob("*") if path.is_file()}
    return {Path(path).name for (path,) in listed}, there - {Path(path).name for (path,) in known}


def kill_many(settings: dict[str, Any], kills: int) -> tuple[list[object], list[float], int]:
    """Kill writers of one lake; return a line of figures, the waits, and the faults found."""
    dice = random.Random(time.time_ns())
    lake = LakeWarehouse(**settings, lock_timeout=60)
    rows = rows_of(MODEL, 0, ROWS)
    replace(lake, rows, 1)
    started = time.monotonic()
    replace(lake, rows, 2)
    undisturbed = time.monotonic() - started
    old = new = faults = 0
    waits = []
    for kill in range(1, kills + 1):
        last = kill_one(settings, kill * 1000, dice.uniform(0, 2 * undisturbed))
        asked = time.monotonic()
        with lake.get_connection():
            waits.append(time.monotonic() - asked)
        marks, recorded = holds(lake)
        old += marks == [(last, ROWS)]
        new += marks == [(last + 1, ROWS)]
        faults += not recorded or marks not in ([(last, ROWS)], [(last + 1, ROWS)])
    replace(lake, rows, 7)
    faults += holds(lake) != ([(7, ROWS)], True)
    listed, unknown = orphans(lake)
    faults += len(listed ^ unknown)
    unfinished = list(lake.spill_folder.glob("*.parquet"))  # the next writer removes them
    faults += len(unfinished)
    line = [undisturbed, old, new, faults, len(listed), statistics.median(waits), max(waits)]
    return line, waits, faults


def main() -> None:
    """Kill as often as asked, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="for each of the two catalogs")
    kills = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as folder, postgres_server(durable=True) as server:
        os.environ["PGPASSWORD"] = server.password
        lines, waits, faults = [], [], 0
        catalogs = {
            "sqlite": str(Path(folder) / "sqlite/catalog.sqlite"),
            "postgres": server.create("killed"),
        }
        for kind, catalog in catalogs.items():
            home = Path(folder) / kind
            settings = {
                "database": f"{kind}:{catalog}",
                "data": str(home / "lake"),
                "folder": str(home),
            }
            line, more, found = kill_many(settings, kills)
            lines.append([kind, *line])
            waits += more
            faults += found
    columns = ["a replacement, s", "old rows", "new rows", "faults", "orphans"]
    show(
        f"{kills} writers killed at work with each catalog",
        ["", *columns, "next writer in, median s", "longest s"],
        lines,
    )
    conclude(
        Claim("parts, makings not on record, orphans not listed, and others", faults, at_most=0),
        Claim("killed", len(waits), at_least=2 * kills),
        Claim("seconds until the next writer is in, longest", max(waits), at_most=2.0),
    )


if __name__ == "__main__":
    main()
