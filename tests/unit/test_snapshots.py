"""Snapshots: copies for readers who want to stay, consistent whatever happens to the original."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.warehouse import snapshots
from alignment_assets.warehouse.query import isolate
from alignment_assets.warehouse.resource import Warehouse, WarehouseError
from tests.support.ids import uid
from tests.support.processes import other, wait_for_word
from tests.support.tables import fill, new_warehouse


def people(count: int) -> list[dict[str, object]]:
    return [
        {
            "row_number": number,
            "persona_id": uid(f"id {number}"),
            "persona_hash": "h",
            "persona": "p",
        }
        for number in range(count)
    ]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = new_warehouse(tmp_path / "home")
    fill(made, "personas", people(3))
    return made


def count(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as plain:
        return int(plain.execute("SELECT count(*) FROM personas").fetchall()[0][0])


def test_a_snapshot_keeps_the_rows_of_its_moment(warehouse: Warehouse, tmp_path: Path) -> None:
    mine = warehouse.snapshot(tmp_path / "mine.duckdb")
    kept = warehouse.snapshot()
    fill(warehouse, "personas", people(5))
    assert (count(mine), count(kept), count(warehouse.path)) == (3, 3, 5)
    assert warehouse.snapshot(mine) == mine and count(mine) == 5  # a new one takes its place
    assert [path.name for path in tmp_path.iterdir() if "mine" in path.name] == ["mine.duckdb"]
    with warehouse.read_snapshot() as connection:
        assert connection.execute("SELECT count(*) FROM personas").fetchall() == [(3,)]


def write_and_stay(pipe: Connection, home: Path) -> None:
    with new_warehouse(home).get_connection():
        pipe.send("writing")
        wait_for_word(pipe)


def stay(pipe: Connection, home: Path) -> None:
    with new_warehouse(home).read_snapshot() as connection:
        connection.execute("FROM personas").fetchall()
        pipe.send("reading")
        wait_for_word(pipe)


def test_a_reader_of_a_snapshot_and_a_writer_do_not_wait_for_each_other(
    warehouse: Warehouse,
) -> None:
    warehouse.snapshot()
    hasty = warehouse.model_copy(update={"lock_timeout": 1})
    with other(stay, warehouse.home) as reader:
        reader.hear()
        fill(hasty, "personas", people(4))
    with (
        other(write_and_stay, warehouse.home) as writer,
        warehouse.model_copy(update={"lock_timeout": 0}).read_snapshot() as connection,
    ):
        writer.hear()
        assert connection.execute("SELECT count(*) FROM personas").fetchall() == [(3,)]


def leave_a_log(pipe: Connection, database: str) -> None:
    connection = duckdb.connect(database)
    connection.execute("SET checkpoint_threshold = '1GB'")
    connection.execute(
        "INSERT INTO personas "
        "SELECT 10 + range, md5(range::VARCHAR)::UUID, 'hash', 'p', NULL, NULL FROM range(7)"
    )
    pipe.send("written")
    wait_for_word(pipe)


def test_what_only_the_log_of_a_killed_writer_has_is_in_the_snapshot(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    with other(leave_a_log, warehouse.database) as writer:
        writer.hear()
    log = Path(f"{warehouse.path}.wal")
    assert log.stat().st_size > 0
    copy = warehouse.snapshot(tmp_path / "copy.duckdb")
    assert count(copy) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.duckdb", "home"]
    assert log.stat().st_size > 0  # the original is as it was


def test_tables_come_as_parquet(warehouse: Warehouse, tmp_path: Path) -> None:
    folder = warehouse.export(["personas", "rewards"], tmp_path / "it's mine")
    assert sorted(path.name for path in folder.iterdir()) == ["personas.parquet", "rewards.parquet"]
    assert pq.read_table(folder / "personas.parquet").num_rows == 3


def test_ids_in_parquet_are_text_that_datasets_reads(warehouse: Warehouse, tmp_path: Path) -> None:
    ranking = {"policy": "p", "prompt_id": uid("prompt"), "completion_id": uid("one")}
    met = {"opponent_id": uid("two"), "logprob": -1.0, "opponent_logprob": -2.0, "orders": 2}
    fill(warehouse, "judge_rankings", [{**ranking, "comparisons": [met]}])
    folder = warehouse.export(["judge_rankings", "personas"], tmp_path / "tables")
    kinds = pq.read_schema(folder / "judge_rankings.parquet")
    assert kinds.field("completion_id").type == pa.string()
    script = (
        "import json, sys, datasets\n"
        "rows = datasets.load_dataset('parquet', data_files=sys.argv[1], split='train', "
        "cache_dir=sys.argv[2])\n"
        "print(json.dumps(rows.to_list()))"
    )
    done = subprocess.run(
        [*(sys.executable, "-c", script), folder / "judge_rankings.parquet", tmp_path / "cache"],
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(done.stdout.splitlines()[-1])
    assert {key: row[key] for key in ranking} == ranking
    assert row["comparisons"] == [met]
    with pytest.raises(WarehouseError, match="is there already"):
        warehouse.export(["personas"], folder)
    with pytest.raises(WarehouseError, match=r"no tables \['people'\]; there are .*personas"):
        warehouse.export(["people"], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_database_is_not_overwritten_by_its_copy(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="is the database itself"):
        warehouse.snapshot(warehouse.home / "." / warehouse.path.name)
    assert count(warehouse.path) == 3


def test_a_snapshot_replaces_a_snapshot_and_nothing_else(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    target = tmp_path / "mine.duckdb"
    warehouse.snapshot(target)
    assert warehouse.snapshot(target) == target

    letter = tmp_path / "letter.txt"
    letter.write_text("dear all")
    foreign = tmp_path / "foreign.duckdb"
    with duckdb.connect(str(foreign)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    used = tmp_path / "used.duckdb"
    shutil.copy(target, used)
    (tmp_path / "used.duckdb.queue").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path in (letter, foreign, used, tmp_path / "pipe"):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(WarehouseError, match=f"{path.name} is there already and is no snap"):
            warehouse.snapshot(path)
        assert (path.read_bytes() if path.is_file() else b"") == before


def test_an_isolated_reader_of_a_snapshot_sees_no_other_file(warehouse: Warehouse) -> None:
    warehouse.snapshot()
    with warehouse.read_snapshot() as connection:
        isolate(connection, {})
        for query in (f"ATTACH '{warehouse.path}'", "SET enable_external_access = true"):
            with pytest.raises(duckdb.Error):
                connection.execute(query)


def test_without_a_snapshot_the_command_is_named(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="alignment-assets snapshot"):
        warehouse.read_snapshot().__enter__()


def test_the_last_snapshot_is_the_one_made_last_whatever_the_clock_said(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = snapshots.snapshots_folder(warehouse.home) / "2031-01-01T00-00-00Z"
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "new_name", lambda home: ahead)
        early = warehouse.snapshot()
    assert snapshots.last_snapshot(warehouse.home) == early
    last = warehouse.snapshot()
    assert last.name < early.name
    assert snapshots.last_snapshot(warehouse.home) == last
    last.unlink()  # a user tidies up
    assert snapshots.last_snapshot(warehouse.home) == early
