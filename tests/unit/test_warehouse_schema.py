"""The database against ``sql/schema``: what is brought forward, what stops, whose it is."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pytest

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse, WarehouseError
from alignment_assets.warehouse.schema import cast_is_checked, loses_nothing
from tests.support.tables import new_warehouse

ROW = "(0, uuid(), 'hash', 'a person', NULL, NULL)"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    made = new_warehouse(tmp_path / "home")
    with made.get_connection() as connection:
        connection.execute(sql_files.tables()["personas"].ddl)
        connection.execute(f"INSERT INTO personas VALUES {ROW}")
    made.prepare()
    return made


def change(warehouse: Warehouse, *statements: str) -> None:
    """Make the database as it would be by an older or another schema."""
    with duckdb.connect(str(warehouse.path)) as plain:
        for statement in statements:
            plain.execute(statement)


def columns_of(warehouse: Warehouse, table: str) -> dict[str, tuple[str, bool, str]]:
    with warehouse.read() as connection:
        database = connection.execute("SELECT current_database()").fetchall()[0][0]
        return {
            column.name: (column.type, column.nullable, column.description)
            for column in sql_files.describe_tables(connection, database)[table].columns
        }


@pytest.mark.parametrize(
    ("older", "told"),
    [
        ("ALTER TABLE personas DROP COLUMN malformed_reason", "new column malformed_reason"),
        ("ALTER TABLE personas ALTER row_number TYPE INTEGER", "row_number is INTEGER there"),
        ("ALTER TABLE personas ALTER persona SET NOT NULL", "persona may be NULL now"),
        ("COMMENT ON COLUMN personas.persona IS 'it''s old'", "new comment on persona"),
        ("COMMENT ON TABLE personas IS 'old'", "personas: new comment"),
        ("DROP TABLE rewards", "rewards: a new table"),
        ("DROP TABLE database_info", "database_info: a new table"),
    ],
)
def test_what_loses_nothing_is_brought_forward_and_told(
    warehouse: Warehouse, older: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = columns_of(warehouse, "personas")
    change(warehouse, older)
    with caplog.at_level(logging.WARNING):
        assert columns_of(warehouse, "personas") == wanted
    assert told in caplog.text
    with warehouse.read() as connection:
        assert connection.execute(
            "SELECT row_number, persona_hash, persona, malformed_reason FROM personas"
        ).fetchall() == [(0, "hash", "a person", None)]
        (info,) = connection.execute("SELECT schema_version FROM database_info").fetchall()
    assert info == (sql_files.schema_version(),)
    caplog.clear()
    warehouse.prepare()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("older", "told"),
    [
        ("ALTER TABLE personas ADD COLUMN age INTEGER", "column age is there"),
        ("ALTER TABLE personas RENAME persona TO person", "column person is there"),
        ("ALTER TABLE personas DROP COLUMN persona_id", "new column persona_id UUID NOT NULL"),
        ("ALTER TABLE personas ALTER row_number TYPE HUGEINT", "HUGEINT there and BIGINT here"),
        ("ALTER TABLE personas ALTER persona_id DROP NOT NULL", "persona_id may not be NULL"),
    ],
)
def test_anything_else_stops_and_says_what_to_rebuild(
    warehouse: Warehouse, older: str, told: str
) -> None:
    change(warehouse, older, "DROP TABLE rewards")
    with pytest.raises(WarehouseError) as error:
        warehouse.prepare()
    for part in (
        told,
        str(warehouse.path),
        "DROP TABLE personas",
        "alignment-assets materialize --select '+key:personas'",
    ):
        assert part in str(error.value)
    with duckdb.connect(str(warehouse.path), read_only=True) as plain:  # all or nothing
        assert plain.execute("FROM duckdb_tables() WHERE table_name = 'rewards'").fetchall() == []
        assert plain.execute("SELECT count(*) FROM personas").fetchall() == [(1,)]


def test_the_advice_helps(warehouse: Warehouse) -> None:
    change(warehouse, "ALTER TABLE personas ADD COLUMN age INTEGER")
    with pytest.raises(WarehouseError) as error:
        warehouse.prepare()
    (line,) = [line for line in str(error.value).splitlines() if "python -c" in line]
    exec(line.split('"')[1])
    with warehouse.read() as connection:
        assert connection.execute("SELECT count(*) FROM personas").fetchall() == [(0,)]


def test_a_database_most_of_which_is_older_is_put_aside(warehouse: Warehouse) -> None:
    tables = ("personas", "completions", "rewards", "dpo_pairs", "qrpo_samples")
    change(warehouse, *(f"ALTER TABLE {table} ADD COLUMN age INTEGER" for table in tables))
    with pytest.raises(WarehouseError) as error:
        warehouse.prepare()
    told = str(error.value).splitlines()
    (command,) = [line for line in told if line.startswith("  mv ")]
    assert told[-1] == "  alignment-assets materialize" and "DROP TABLE" not in str(error.value)
    subprocess.run(command, shell=True, check=True)
    warehouse.prepare()
    assert warehouse.path.with_name("alignment.duckdb.old").exists()


def test_a_record_is_not_to_be_materialized(warehouse: Warehouse) -> None:
    change(warehouse, "ALTER TABLE inference_runs ADD COLUMN mood VARCHAR")
    with pytest.raises(WarehouseError, match="No asset makes inference_runs") as error:
        warehouse.prepare()
    assert "materialize" not in str(error.value)


def test_columns_in_another_order_are_filled_by_name(warehouse: Warehouse) -> None:
    change(warehouse, "ALTER TABLE personas DROP COLUMN persona")
    with warehouse.stage("personas") as staging:
        staging.insert(
            "SELECT 1 row_number, uuid() persona_id, 'b' persona_hash, 'p' persona, "
            "NULL malformed_reason, NULL malformed_detail",
            {},
        )
        staging.publish({})
    with warehouse.read() as connection:
        query = "SELECT * EXCLUDE (persona_id) FROM personas"
        found = connection.execute(query).to_arrow_table().to_pylist()
    assert found == [
        {
            "row_number": 1,
            "persona_hash": "b",
            "malformed_reason": None,
            "malformed_detail": None,
            "persona": "p",
        }
    ]


def test_another_recipes_database_is_refused_by_name(tmp_path: Path) -> None:
    def of(recipe: str | None) -> Warehouse:
        return Warehouse(database=str(tmp_path / "alignment.duckdb"), recipe=recipe)

    of(None).prepare()
    of("mine").prepare()  # the first that has a name makes it its own
    for opening in (of("yours").read, lambda: of("yours").stage("personas")):
        with pytest.raises(WarehouseError, match="of the recipe mine, not of yours") as error:
            opening().__enter__()
        assert "ALIGNMENT_HOME" in str(error.value)
    of("mine").prepare()
    of(None).prepare()


@pytest.mark.parametrize(
    ("old", "new", "wider", "checked"),
    [
        ("INTEGER", "BIGINT", True, True),
        ("BIGINT", "INTEGER", False, True),
        ("UINTEGER", "INTEGER", False, True),
        ("UINTEGER", "BIGINT", True, True),
        ("INTEGER", "DOUBLE", True, True),
        ("BIGINT", "DOUBLE", False, False),
        ("FLOAT", "DOUBLE", True, True),
        ("DOUBLE", "FLOAT", False, False),
        ("DECIMAL(5,2)", "DECIMAL(9,4)", True, True),
        ("DECIMAL(5,2)", "DECIMAL(5,4)", False, False),
        ("DECIMAL(5,2)", "DOUBLE", True, True),
        ("DATE", "TIMESTAMP", True, True),
        ("TIMESTAMP", "DATE", False, False),
        ("INTEGER[]", "BIGINT[]", True, True),
        ("STRUCT(a INTEGER, b VARCHAR)", "STRUCT(b VARCHAR, a BIGINT)", True, True),
        ("STRUCT(a INTEGER)", "STRUCT(a INTEGER, b VARCHAR)", False, False),
        ("INTEGER[3]", "INTEGER[4]", False, False),
        ("VARCHAR", "INTEGER", False, False),
        ("INTEGER", "VARCHAR", False, False),
        ("VARCHAR", "JSON", False, True),
        ("JSON", "VARCHAR", True, True),
        ("VARCHAR", "UUID", False, True),
        ("UUID", "VARCHAR", True, True),
        ('"NULL"', "VARCHAR", True, True),
    ],
)
def test_which_casts_change_no_value(old: str, new: str, wider: bool, checked: bool) -> None:
    assert loses_nothing(old, new) is wider
    assert cast_is_checked(old, new) is checked


def test_nested_types_are_widened_with_their_rows(tmp_path: Path) -> None:
    warehouse = new_warehouse(tmp_path)
    warehouse.prepare()
    row: dict[str, Any] = {"label": "1", "logprob": -0.5}
    change(
        warehouse,
        "ALTER TABLE rewards ALTER label_logprobs TYPE STRUCT(label VARCHAR, logprob FLOAT)[]",
        "INSERT INTO rewards BY NAME SELECT uuid() AS completion_id, "
        "uuid() AS prompt_id, 'standard' AS track, "
        "'m' AS model, 'default' AS variant, 0 AS sample_index, "
        "'s' AS scorer, 'rate' AS task, [{'label': '1', 'logprob': -0.5}] AS label_logprobs",
    )
    with warehouse.read() as connection:
        assert connection.execute("SELECT label_logprobs FROM rewards").fetchall() == [([row],)]
