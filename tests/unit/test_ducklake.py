"""A DuckLake with a catalog in SQLite: all of sql/, and the warehouse's own statements."""

from __future__ import annotations

import duckdb
import pytest

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import isolate
from alignment_assets.warehouse.resource import LakeWarehouse, WarehouseError
from tests.golden.database import GOLDEN
from tests.golden.results import OF_ONE_DATABASE, broken_rules, build, expected, results
from tests.support.tables import new_lake, read_rows

pytestmark = [pytest.mark.slow, pytest.mark.needs("lake")]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> LakeWarehouse:
    """The golden database on DuckLake: every schema file, every asset, each partition replaced."""
    lake = new_lake(tmp_path_factory.mktemp("lake"))
    build(lake)
    return lake


def test_rows_are_in_parquet_files_that_questions_without_file_access_read(
    lake: LakeWarehouse,
) -> None:
    assert list((lake.home / "lake/main/completions").glob("*.parquet"))
    with lake.read() as connection:
        isolate(connection, {})
        (database,) = connection.execute("SELECT current_database()").fetchone() or ()
        kind = "SELECT type FROM duckdb_databases() WHERE database_name = ?"
        assert connection.execute(kind, [database]).fetchall() == [("ducklake",)]
        (texts,) = connection.execute("SELECT list(text) FROM completions").fetchone() or ()
        assert set(texts) == {said.get("text") for said in GOLDEN["completions"].values()}
        with pytest.raises(duckdb.Error, match="disabled by configuration"):
            connection.execute(f"FROM read_text('{lake.home}.lock')")


def test_a_table_keeps_its_types_and_comments(lake: LakeWarehouse) -> None:
    found = read_rows(
        lake,
        "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
        "WHERE database_name = 'warehouse' ORDER BY table_name, column_index",
    )
    assert [tuple(row.values()) for row in found] == [
        (table.name, column.name, column.type, column.nullable, column.description)
        for table in sql_files.tables().values()
        for column in table.columns
    ]
    tables = read_rows(lake, "SELECT table_name, comment FROM duckdb_tables() ORDER BY ALL")
    assert [tuple(row.values()) for row in tables] == [
        (table.name, table.description) for table in sql_files.tables().values()
    ]


@pytest.mark.parametrize("kind", OF_ONE_DATABASE)
def test_files_give_what_they_give_in_duckdb(lake: LakeWarehouse, kind: str) -> None:
    assert results(lake, kind) == expected(kind)


def test_every_rule_runs_and_holds(lake: LakeWarehouse) -> None:
    assert broken_rules(lake) == []


def test_a_partition_is_replaced_alone_and_a_broken_one_not_at_all(lake: LakeWarehouse) -> None:
    again = (
        "INSERT INTO staging.completion_requests BY NAME "
        "SELECT * FROM warehouse.main.completion_requests WHERE model = 'alpha'"
    )
    everything = read_rows(lake, "FROM completion_requests ORDER BY completion_id")
    for _ in range(2):
        with lake.stage("completion_requests", {"model": "alpha"}) as staging:
            staging.connection.execute(again)
            staging.publish({})
    assert read_rows(lake, "FROM completion_requests ORDER BY completion_id") == everything
    with (
        pytest.raises(WarehouseError, match="unique_"),
        lake.stage("completion_requests", {"model": "alpha"}) as staging,
    ):
        for _ in range(2):
            staging.connection.execute(again)
        staging.publish({})
    assert read_rows(lake, "FROM completion_requests ORDER BY completion_id") == everything
