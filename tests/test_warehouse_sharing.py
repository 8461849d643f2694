"""The warehouse between processes: taking turns, waiting, dying in the middle."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from alignment_assets.resources.locking import LockTimeout
from alignment_assets.resources.warehouse import Warehouse
from tests.processes import other, wait_for_word
from tests.tables import new_warehouse

TABLE = "selection_exclusions"
ROWS = 4000


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return new_warehouse(tmp_path / "home")


def generation(policy: str, number: int) -> pa.Table:
    """Return a partition's rows, all of them marked with a number."""
    return pa.table(
        {
            "policy": [policy] * ROWS,
            "prompt_id": [f"prompt {row}" for row in range(ROWS)],
            "track": ["standard"] * ROWS,
            "reason": ["too_few_references"] * ROWS,
            "n_references": [1] * ROWS,
            "n_candidates": [number] * ROWS,
            "n_eligible": [2] * ROWS,
        }
    )


def replace_partition(warehouse: Warehouse, policy: str, number: int) -> None:
    with warehouse.stage(TABLE, {"policy": policy}) as staging:
        staging.insert_arrow(generation(policy, number))
        staging.publish({})


def generations(warehouse: Warehouse) -> dict[str, list[tuple[int, int]]]:
    """Return the marks of each partition, and how many rows have each."""
    query = f"SELECT policy, n_candidates, count(*) FROM {TABLE} GROUP BY ALL ORDER BY ALL"
    found: dict[str, list[tuple[int, int]]] = {}
    with warehouse.read() as connection:
        for policy, number, rows in connection.execute(query).fetchall():
            found.setdefault(policy, []).append((number, rows))
    return found


def write_three_times(pipe: Connection, home: Path, policy: str) -> None:
    pipe.send("ready")
    wait_for_word(pipe)
    for number in range(3):
        replace_partition(new_warehouse(home), policy, number)


def test_four_writers_of_a_new_database_all_succeed(warehouse: Warehouse) -> None:
    policies = ["a", "b", "c", "d"]
    with ExitStack() as started:
        writers = [
            started.enter_context(other(write_three_times, warehouse.home, policy))
            for policy in policies
        ]
        for writer in writers:
            writer.hear()
        for writer in writers:
            writer.tell()
        assert [writer.end() for writer in writers] == [0, 0, 0, 0]
    assert generations(warehouse) == {policy: [(2, ROWS)] for policy in policies}


def replace_for_ever(pipe: Connection, home: Path, start: int) -> None:
    for number in range(start, start + 10_000):
        replace_partition(new_warehouse(home), "one", number)
        pipe.send(number)


def test_a_writer_killed_at_any_moment_leaves_old_or_new_rows(warehouse: Warehouse) -> None:
    replace_partition(warehouse, "one", 0)
    replace_partition(warehouse, "two", 0)
    dice = random.Random(time.time_ns())
    for start in (1000, 2000, 3000, 4000, 5000):
        with other(replace_for_ever, warehouse.home, start) as writer:
            published = writer.hear()
            time.sleep(dice.uniform(0, 0.25))
        while writer.pipe.poll():
            try:
                published = writer.pipe.recv()
            except EOFError:
                break
        found = generations(warehouse)
        assert found["two"] == [(0, ROWS)]
        ((number, rows),) = found["one"]
        assert rows == ROWS
        assert number in (published, published + 1)
    replace_partition(warehouse, "one", 1)  # and nothing bars the next
    assert generations(warehouse)["one"] == [(1, ROWS)]


def stage_and_wait(pipe: Connection, home: Path) -> None:
    with new_warehouse(home).stage(TABLE) as staging:
        staging.insert_arrow(generation("one", 1))
        pipe.send(os.getpid())
        wait_for_word(pipe)


def staging_files_of(warehouse: Warehouse, process: int) -> list[Path]:
    return list((warehouse.home / "staging").glob(f"{process}-*"))


def test_staging_files_of_the_dead_are_removed_and_those_of_the_living_kept(
    warehouse: Warehouse,
) -> None:
    with other(stage_and_wait, warehouse.home) as writer:
        process = writer.hear()
        # Building apart stops no reader.
        assert generations(warehouse) == {}
        with warehouse.stage("personas"):
            assert staging_files_of(warehouse, process)
    assert staging_files_of(warehouse, process)  # killed, it could not tidy up
    with warehouse.stage("personas"):
        assert staging_files_of(warehouse, process) == []
    assert list((warehouse.home / "staging").iterdir()) == []


def write_plainly(pipe: Connection, path: str) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("CREATE OR REPLACE TABLE notes AS SELECT 1 AS note")
    pipe.send("written")


def test_an_exception_frees_the_file_for_other_programs_at_once(warehouse: Warehouse) -> None:
    warehouse.prepare()
    with pytest.raises(ZeroDivisionError), warehouse.get_connection() as connection:
        connection.execute("CREATE TABLE half_done AS SELECT 1 AS one")
        raise ZeroDivisionError
    with other(write_plainly, warehouse.database) as program:
        assert program.hear() == "written"


def hold(pipe: Connection, path: str, read_only: bool) -> None:
    """Have the file open as a notebook or the duckdb shell does."""
    with duckdb.connect(path, read_only=read_only) as connection:
        connection.execute("SELECT count(*) FROM personas").fetchall()
        pipe.send(os.getpid())
        wait_for_word(pipe)


def replace_once(pipe: Connection, home: Path) -> None:
    pipe.send("starting")
    replace_partition(new_warehouse(home), "one", 1)
    pipe.send("replaced")


def test_a_reader_outside_the_product_delays_a_write_and_does_not_fail_it(
    warehouse: Warehouse,
) -> None:
    replace_partition(warehouse, "one", 0)
    with (
        other(hold, warehouse.database, True) as notebook,
        other(replace_once, warehouse.home) as run,
    ):
        notebook.hear()
        assert run.hear() == "starting"
        assert not run.pipe.poll(1.0)  # waits as long as the notebook has it open
        notebook.tell()
        assert run.hear() == "replaced"
    assert generations(warehouse) == {"one": [(1, ROWS)]}


def write_and_wait(pipe: Connection, home: Path) -> None:
    with new_warehouse(home).get_connection():
        pipe.send(os.getpid())
        wait_for_word(pipe)


def test_waiting_in_vain_says_for_whom(warehouse: Warehouse) -> None:
    warehouse.prepare()
    hasty = Warehouse(database=warehouse.database, lock_timeout=0.3)
    with other(write_and_wait, warehouse.home) as writer:
        process = writer.hear()
        with pytest.raises(LockTimeout) as error, hasty.read():
            pass
        for part in (str(warehouse.path), f"process {process}", "writing", "run again"):
            assert part in str(error.value)
        writer.tell()
        assert writer.end() == 0
    with hasty.read():  # free again
        pass
    with other(hold, warehouse.database, False) as notebook:
        process = notebook.hear()
        with pytest.raises(duckdb.IOException, match=f"PID {process}"), hasty.read():
            pass


SMALL: dict[str, Any] = {"memory_limit": "40MB", "threads": 1}
SPILLING = """
SELECT count(*), sum(digest) FROM (
    SELECT hash(text) AS digest, text < lag(text) OVER (ORDER BY text) AS wrong
    FROM (SELECT repeat(md5((range * 7)::VARCHAR), 6) AS text FROM range(120000)))
WHERE wrong IS NOT true
"""


def sort_more_than_fits(pipe: Connection, home: Path) -> None:
    pipe.send("ready")
    wait_for_word(pipe)
    with new_warehouse(home, **SMALL).stage("personas") as staging:
        for _ in range(3):
            pipe.send(staging.connection.execute(SPILLING).fetchall())


def test_queries_that_outgrow_memory_do_not_disturb_each_other(tmp_path: Path) -> None:
    new_warehouse(tmp_path).prepare()
    with duckdb.connect() as connection:
        right = connection.execute(SPILLING).fetchall()
    with ExitStack() as started:
        sorters = [started.enter_context(other(sort_more_than_fits, tmp_path)) for _ in range(3)]
        for sorter in sorters:
            sorter.hear()
        for sorter in sorters:
            sorter.tell()
        for sorter in sorters:
            assert [sorter.hear() for _ in range(3)] == [right] * 3
        assert [sorter.end() for sorter in sorters] == [0, 0, 0]
    assert list((tmp_path / "staging").iterdir()) == []
