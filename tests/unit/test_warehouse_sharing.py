"""The warehouse between processes: taking turns, waiting, dying in the middle."""

from __future__ import annotations

import os
import random
import resource
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from alignment_assets.host.locking import LockTimeout, read_holder
from alignment_assets.warehouse import rewrite as replacing
from alignment_assets.warehouse.access import SharedFile
from alignment_assets.warehouse.resource import Warehouse, WarehouseError
from tests.support.ids import uid
from tests.support.processes import other, wait_for_word
from tests.support.tables import new_warehouse

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
            "prompt_id": [uid(f"prompt {row}") for row in range(ROWS)],
            "track": ["standard"] * ROWS,
            "reason": ["too_few_references"] * ROWS,
            "n_references": [1] * ROWS,
            "n_candidates": [number] * ROWS,
            "n_eligible": [2] * ROWS,
        }
    )


def replace_partition(
    warehouse: Warehouse, policy: str, number: int, *, straight: bool = False
) -> None:
    with warehouse.stage(TABLE, {"policy": policy}, straight=straight) as staging:
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


def replace_for_ever(
    pipe: Connection, home: Path, start: int, rewrite: bool, straight: bool
) -> None:
    if rewrite:
        replacing.REWRITE_FROM_BYTES, replacing.REWRITE_SHARE = -1, -1
    for number in range(start, start + 10_000):
        replace_partition(new_warehouse(home), "one", number, straight=straight)
        pipe.send(number)


@pytest.mark.slow
@pytest.mark.parametrize("rewrite", [False, True], ids=["in place", "file written anew"])
@pytest.mark.parametrize("straight", [False, True], ids=["staged", "straight"])
def test_a_writer_killed_at_any_moment_leaves_old_or_new_rows(
    warehouse: Warehouse, rewrite: bool, straight: bool
) -> None:
    replace_partition(warehouse, "one", 0)
    replace_partition(warehouse, "two", 0)
    for start in (1000, 2000, 3000, 4000, 5000):
        with other(replace_for_ever, warehouse.home, start, rewrite, straight) as writer:
            published = writer.hear()
            time.sleep(random.uniform(0, 0.25))
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
    assert list(warehouse.home.glob("*.new*")) == []


def stage_and_wait(pipe: Connection, home: Path) -> None:
    with new_warehouse(home, memory_limit="20MB", threads=1).stage("personas") as staging:
        staging.insert(
            "SELECT range AS row_number, md5(range::VARCHAR)::UUID AS persona_id, "
            "'hash' AS persona_hash, "
            "repeat(md5(range::VARCHAR), 20) AS persona, NULL::VARCHAR AS malformed_reason, "
            "NULL::VARCHAR AS malformed_detail "
            "FROM range(60_000)",
            {},
        )
        pipe.send(os.getpid())
        wait_for_word(pipe)


def spilled_by(warehouse: Warehouse, process: int) -> list[Path]:
    return list((warehouse.home / "staging").glob(f"{process}-*"))


def test_spilled_rows_of_the_dead_are_removed_and_those_of_the_living_kept(
    warehouse: Warehouse,
) -> None:
    with other(stage_and_wait, warehouse.home) as writer:
        process = writer.hear()
        # Building apart stops no reader.
        assert generations(warehouse) == {}
        with warehouse.stage(TABLE):
            assert spilled_by(warehouse, process)
    assert spilled_by(warehouse, process)  # killed, it could not tidy up
    with warehouse.stage(TABLE):
        assert spilled_by(warehouse, process) == []
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
        with pytest.raises(LockTimeout, match=f"process {process} .*outside"), hasty.read():
            pass


def test_readers_of_ours_do_not_wait_for_a_writer_who_waits_for_somebody_outside(
    warehouse: Warehouse,
) -> None:
    replace_partition(warehouse, "one", 0)
    hasty = new_warehouse(warehouse.home).model_copy(update={"lock_timeout": 5})
    with (
        other(hold, warehouse.database, True) as notebook,
        other(replace_once, warehouse.home) as run,
    ):
        notebook.hear()
        run.hear()
        wait_for_ticket(warehouse, outside=True)
        for _ in range(5):
            assert generations(hasty) == {"one": [(0, ROWS)]}
        assert not run.pipe.poll()
        notebook.tell()
        assert run.hear() == "replaced"


def wait_for_ticket(warehouse: Warehouse, *, outside: bool = False) -> None:
    """Wait until somebody stands in line for the file, and for whom."""
    folder = warehouse.path.with_name(warehouse.path.name + ".queue")
    until = time.monotonic() + 30
    while time.monotonic() < until:
        tickets = [read_holder(ticket) for ticket in folder.glob("*.ticket")]
        if any(bool(ticket.get("outside")) >= outside for ticket in tickets):
            return
        time.sleep(0.01)
    raise AssertionError("nobody stands in line")


def read_for_ever(pipe: Connection, home: Path) -> None:
    warehouse = new_warehouse(home)
    while True:
        with warehouse.read():
            if not pipe.poll(0.05):
                continue
        return


def test_a_stream_of_readers_does_not_keep_a_writer_out(warehouse: Warehouse) -> None:
    warehouse.prepare()
    hasty = warehouse.model_copy(update={"lock_timeout": 15})
    with ExitStack() as started:
        for _ in range(4):
            started.enter_context(other(read_for_ever, warehouse.home))
        for number in range(3):
            replace_partition(hasty, "one", number)


def test_writers_come_in_the_order_they_asked(warehouse: Warehouse) -> None:
    warehouse.prepare()
    with other(write_and_wait, warehouse.home) as first, ExitStack() as started:
        first.hear()
        waiting = []
        for number in range(3):
            writer = started.enter_context(other(note_and_leave, warehouse.home, number))
            writer.hear()
            waiting.append(writer)
            tickets = 0
            while tickets < number + 2:  # with that of the first
                tickets = len(list(warehouse.home.glob("*.queue/*.ticket")))
        waiting[1].kill()  # and its turn goes to the next
        first.tell()
        assert [waiting[0].end(), waiting[2].end()] == [0, 0]
    with warehouse.read() as connection:
        assert connection.execute("SELECT note FROM notes").fetchall() == [(0,), (2,)]


def note_and_leave(pipe: Connection, home: Path, number: int) -> None:
    pipe.send("asking")
    with new_warehouse(home).get_connection() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (note INTEGER)")
        connection.execute("INSERT INTO notes VALUES ($number)", {"number": number})


def read_and_wait(pipe: Connection, home: Path) -> None:
    with new_warehouse(home).read():
        pipe.send(os.getpid())
        wait_for_word(pipe)


def test_readers_are_named_to_a_writer_who_waits_in_vain(warehouse: Warehouse) -> None:
    warehouse.prepare()
    hasty = warehouse.model_copy(update={"lock_timeout": 0.3})
    with (
        other(read_and_wait, warehouse.home) as reader,
        other(read_and_wait, warehouse.home) as killed,
    ):
        process, dead = reader.hear(), killed.hear()
        killed.kill()
        with pytest.raises(LockTimeout, match=f"process {process} .reading") as error:
            replace_partition(hasty, "one", 0)
        assert f"process {dead}" not in str(error.value)
        assert "replacing selection_exclusions[one]" in str(error.value)


def test_a_source_is_read_while_others_write(warehouse: Warehouse) -> None:
    hasty = warehouse.model_copy(update={"lock_timeout": 1})
    with warehouse.stage("personas", reads=False) as staging:
        replace_partition(hasty, "one", 0)  # before all rows are there
        row = {**dict.fromkeys(("persona_hash", "persona"), "a"), "row_number": 0}
        row |= {"persona_id": uid("a"), "malformed_reason": None, "malformed_detail": None}
        staging.insert_arrow(pa.Table.from_pylist([row]))
        assert staging.publish({}).rows == 1


def replace_on_a_full_disk(pipe: Connection, home: Path, room: int, straight: bool) -> None:
    """Replace while no file may grow beyond the database's size and some bytes more."""
    warehouse = new_warehouse(home)
    try:
        with warehouse.stage(TABLE, {"policy": "one"}, straight=straight) as staging:
            limit = warehouse.path.stat().st_size + room
            if straight:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            staging.insert_arrow(generation("one", 1))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            staging.publish({})
    except WarehouseError as error:
        pipe.send(str(error))
    else:
        pipe.send("replaced")


@pytest.mark.parametrize("straight", [False, True], ids=["staged", "straight"])
@pytest.mark.parametrize("room", [0, 50_000, 200_000, 400_000])
def test_a_disk_that_fills_up_leaves_old_or_new_rows_and_a_file_that_opens(
    warehouse: Warehouse, room: int, straight: bool
) -> None:
    warehouse.prepare()
    with warehouse.get_connection() as connection:  # a small file: writing more makes it grow
        connection.execute(
            f"INSERT INTO {TABLE} "
            "SELECT 'one', md5(range::VARCHAR)::UUID, 'standard', 'none', 1, 0, 2 FROM range(10)"
        )
    with other(replace_on_a_full_disk, warehouse.home, room, straight) as writer:
        outcome = writer.hear()
    found = generations(warehouse)
    if outcome == "replaced":
        assert found == {"one": [(1, ROWS)]}
    else:
        assert "the old rows stay" in outcome and "File too large" in outcome
        assert found == {"one": [(0, 10)]}
    replace_partition(warehouse, "one", 2)  # once there is room
    assert generations(warehouse) == {"one": [(2, ROWS)]}


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


def test_a_table_that_changed_while_a_writer_waited_is_noticed(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_partition(warehouse, "one", 0)
    opened = SharedFile.opened

    def after_somebody_else(self: SharedFile, *given: Any, exclusive: bool, purpose: str) -> Any:
        if exclusive:
            monkeypatch.undo()
            with duckdb.connect(str(warehouse.path)) as connection:
                connection.execute(f"ALTER TABLE {TABLE} ADD COLUMN junk INTEGER")
        return opened(self, *given, exclusive=exclusive, purpose=purpose)

    monkeypatch.setattr(SharedFile, "opened", after_somebody_else)
    with pytest.raises(WarehouseError, match="column junk is there"):
        replace_partition(warehouse, "one", 1, straight=True)
    with pytest.raises(WarehouseError, match="column junk is there"):
        generations(warehouse)


@pytest.mark.parametrize("straight", [False, True], ids=["staged", "straight"])
def test_rows_that_were_not_published_are_out_of_the_way_of_others(
    warehouse: Warehouse, straight: bool
) -> None:
    replace_partition(warehouse, "one", 0)
    with warehouse.stage(TABLE, {"policy": "one"}, straight=straight) as staging:
        staging.insert_arrow(generation("two", 1))
        with pytest.raises(WarehouseError, match="rows are of another policy"):
            staging.publish({})
        staging.close()
        replace_partition(warehouse, "one", 2)  # the file is free
    assert generations(warehouse) == {"one": [(2, ROWS)]}


def test_an_error_after_rows_are_published_says_nothing_of_them(warehouse: Warehouse) -> None:
    with (
        pytest.raises(duckdb.IOException, match="nowhere"),
        warehouse.stage(TABLE, {"policy": "one"}, straight=True) as staging,
    ):
        staging.insert_arrow(generation("one", 1))
        staging.publish({})
        staging.connection.execute("FROM read_csv('/nowhere.csv')")
    assert generations(warehouse) == {"one": [(1, ROWS)]}
