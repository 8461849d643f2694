"""The door to DuckLake: all of sql/ and the warehouse's own statements on a catalog in SQLite.

`LakeWarehouse` says how such a catalog is opened; everything else is the product's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import duckdb
import pytest

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import isolate
from alignment_assets.warehouse.resource import Warehouse, WarehouseError
from tests.golden.database import GOLDEN
from tests.golden.results import OF_ONE_DATABASE, broken_rules, build, expected, results
from tests.support.tables import read_rows

pytestmark = [pytest.mark.slow, pytest.mark.needs("lake")]


def load_extensions(connection: duckdb.DuckDBPyConnection) -> None:
    for name in ("sqlite_scanner", "ducklake"):
        (file,) = files(f"duckdb_extension_{name}").glob(
            f"extensions/v{duckdb.__version__}/*.duckdb_extension"
        )
        connection.execute(f"LOAD '{file}'")


class LakeWarehouse(Warehouse):
    """A warehouse whose ``database`` is a DuckLake catalog in SQLite, with its data beside it."""

    def connect(
        self, database: str, *, read_only: bool = False, spill: str | None = None
    ) -> duckdb.DuckDBPyConnection:
        connection = super().connect(":memory:", spill=spill)
        load_extensions(connection)
        if database != ":memory:":
            self._attach_lake(connection, read_only=read_only)
            connection.execute("USE warehouse")
            # Questions that are not ours may open no file; the lake's own stay allowed.
            connection.execute(f"SET allowed_directories = ['{self.home / 'lake'}/']")
        return connection

    def create(self) -> None:
        """Opening it to write makes the catalog."""

    def declaration(self, table: sql_files.Table) -> str:
        return table.ddl

    @contextmanager
    def attach(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        self._attach_lake(connection, read_only=read_only)
        try:
            yield connection
        finally:
            connection.execute("SET search_path = 'staging.main'")
            connection.execute("DETACH warehouse")

    def _attach_lake(self, connection: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        options = [f"DATA_PATH '{self.home / 'lake'}'", *(["READ_ONLY"] if read_only else [])]
        connection.execute(
            f"ATTACH 'ducklake:sqlite:{self.path}' AS warehouse ({', '.join(options)})"
        )


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The golden database on DuckLake: every schema file, every asset, each partition replaced."""
    load_extensions(duckdb.connect())  # which checks DuckDB's signature, a quarter second each time
    config = {"autoload_known_extensions": False, "allow_unsigned_extensions": True}
    home = tmp_path_factory.mktemp("lake")
    lake = LakeWarehouse(
        database=str(home / "catalog.sqlite"), lock_timeout=30, connection_config=config
    )
    build(lake)
    return lake


def test_rows_are_in_parquet_files_that_questions_without_file_access_read(lake: Warehouse) -> None:
    assert list((lake.home / "lake/main/completions").glob("*.parquet"))
    with lake.read() as connection:
        isolate(connection, {})
        (database,) = connection.execute("SELECT current_database()").fetchone() or ()
        kind = "SELECT type FROM duckdb_databases() WHERE database_name = ?"
        assert connection.execute(kind, [database]).fetchall() == [("ducklake",)]
        (texts,) = connection.execute("SELECT list(text) FROM completions").fetchone() or ()
        assert set(texts) == {said.get("text") for said in GOLDEN["completions"].values()}
        with pytest.raises(duckdb.Error, match="disabled by configuration"):
            connection.execute(f"FROM read_text('{lake.path}.lock')")


def test_a_table_keeps_its_types_and_comments(lake: Warehouse) -> None:
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
def test_files_give_what_they_give_in_duckdb(lake: Warehouse, kind: str) -> None:
    assert results(lake, kind) == expected(kind)


def test_every_rule_runs_and_holds(lake: Warehouse) -> None:
    assert broken_rules(lake) == []


def test_a_partition_is_replaced_alone_and_a_broken_one_not_at_all(lake: Warehouse) -> None:
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
