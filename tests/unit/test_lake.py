"""What a DuckLake can do that a file cannot: read the past, and write beside others."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from alignment_assets.commands.doctor import _look
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.lake_care import list_snapshots, maintain
from alignment_assets.warehouse.lineage import Input, TablePart
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import QueryError, fetch_rows
from alignment_assets.warehouse.resource import LakeWarehouse, WarehouseError
from tests.conftest import changed_recipe
from tests.support.ids import uid
from tests.support.tables import new_lake

pytestmark = pytest.mark.needs("lake")

NOW = timedelta(0)
ON_PATH = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def lake(tmp_path: Path) -> LakeWarehouse:
    return new_lake(tmp_path / "home")


def person(number: int) -> dict[str, Any]:
    return {
        "row_number": number,
        "persona_id": uid(f"id {number}"),
        "persona_hash": "hash",
        "persona": f"person {number}",
        "malformed_reason": None,
        "malformed_detail": None,
    }


def put(lake: LakeWarehouse, *numbers: int, straight: bool = False) -> None:
    """Replace the personas, as an asset does."""
    with lake.stage("personas", straight=straight) as staging:
        staging.insert_arrow(pa.Table.from_pylist([person(number) for number in numbers]))
        staging.publish({}, inputs=[Input(TablePart("wordings"), None, 1, "1-a")])


def seen(lake: LakeWarehouse, **how: Any) -> list[int]:
    rows = fetch_rows(lake, "SELECT row_number FROM personas ORDER BY ALL", {}, **how)
    return [number for (number,) in rows.values]


def newest(lake: LakeWarehouse) -> str:
    return str(list_snapshots(lake).values[0][0])


def committed(lake: LakeWarehouse, snapshot: str, *, days_ago: int) -> None:
    """Date a state back in the catalog: what is told by the clock needs no waiting."""
    moment = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat(" ")
    with closing(sqlite3.connect(lake.database.removeprefix("sqlite:"))) as catalog, catalog:
        catalog.execute(
            "UPDATE ducklake_snapshot SET snapshot_time = ? "
            "WHERE snapshot_id <= ? AND snapshot_time > ?",
            (moment, int(snapshot), moment),
        )


def files(lake: LakeWarehouse) -> set[Path]:
    return set(Path(lake.data).rglob("*.parquet"))


def test_every_commit_is_a_state_that_can_be_asked(lake: LakeWarehouse) -> None:
    put(lake, 1)
    first, between = newest(lake), datetime.now(UTC)
    put(lake, 1, 2)
    assert seen(lake) == [1, 2]
    assert seen(lake, as_of=first) == [1]
    assert seen(lake, as_of=between.isoformat()) == [1]
    assert seen(lake, as_of=between.replace(tzinfo=None).isoformat()) == [1]  # UTC, as all is
    said = list_snapshots(lake).records[0]
    assert said["what"] == "personas" and said["author"].startswith("process ")


@pytest.mark.parametrize("as_of", ["99999", "1999-01-01", "yesterday", "²"])
def test_a_state_that_there_is_not_is_told_with_those_that_there_are(
    lake: LakeWarehouse, as_of: str
) -> None:
    put(lake, 1)
    with pytest.raises(QueryError, match=rf"no snapshot|{as_of}"):
        seen(lake, as_of=as_of)


def test_an_open_reader_keeps_its_moment_and_keeps_nobody_out(lake: LakeWarehouse) -> None:
    put(lake, 1)
    with lake.read() as reader:
        assert reader.execute("SELECT count(*) FROM personas").fetchall() == [(1,)]
        put(lake, 1, 2, 3)
        put(lake, 1, 2, straight=True)
        assert reader.execute("SELECT count(*) FROM personas").fetchall() == [(1,)]
    assert seen(lake) == [1, 2]


def test_writers_build_beside_each_other_and_one_commits_after_the_other(
    lake: LakeWarehouse,
) -> None:
    put(lake, 1)
    with lake.stage("personas", straight=True) as staging:
        staging.insert_arrow(pa.Table.from_pylist([person(7)]))
        put(lake, 1, 2)  # by somebody else meanwhile
        staging.publish({})
    assert seen(lake) == [7]


def test_a_snapshot_is_a_note_that_maintenance_keeps(lake: LakeWarehouse) -> None:
    put(lake, 1)
    note = lake.snapshot()
    put(lake, 2)
    put(lake, 3)
    assert [row["kept_as"] for row in list_snapshots(lake).records].count(note.stem) == 1
    maintain(lake, NOW, apply=True)
    assert seen(lake, snapshot=True) == [1]
    assert seen(lake) == [3]
    assert len(list_snapshots(lake).values) == 2
    assert maintain(lake, NOW, apply=True)[0].count == 0


def test_a_state_stays_that_was_the_newest_in_the_time_that_is_kept(lake: LakeWarehouse) -> None:
    put(lake, 0)
    committed(lake, newest(lake), days_ago=4)
    put(lake, 1)
    committed(lake, newest(lake), days_ago=3)
    put(lake, 2)
    maintain(lake, timedelta(days=2), apply=True)
    assert seen(lake, as_of=(datetime.now(UTC) - timedelta(days=2)).isoformat()) == [1]
    with pytest.raises(QueryError, match="no snapshot"):
        seen(lake, as_of=(datetime.now(UTC) - timedelta(days=3.5)).isoformat())


def test_the_command_that_a_message_tells_drops_tables(tmp_path: Path) -> None:
    lake = new_lake(tmp_path / "it's a home")
    put(lake, 1)
    subprocess.run(lake.rebuild(["personas"]), shell=True, check=True, env=ON_PATH)
    assert seen(lake) == []


def test_files_that_nothing_needs_go_and_no_others(lake: LakeWarehouse) -> None:
    put(lake, 1)
    before = {file for file in files(lake) if "personas" in file.parts}
    put(lake, 2)
    orphan = Path(lake.data) / "main" / "personas" / "of-a-killed-writer.parquet"
    orphan.write_bytes(b"PAR1")
    counted = maintain(lake, NOW, apply=False)
    assert [step.count > 0 for step in counted] == [True, False, True]
    assert before | {orphan} <= files(lake)
    maintain(lake, NOW, apply=True)
    left = files(lake)
    assert not (before | {orphan}) & left
    assert seen(lake) == [2]
    maintain(lake, NOW, apply=True)
    assert seen(lake) == [2]


def test_young_files_of_writers_stay(lake: LakeWarehouse) -> None:
    put(lake, 1)
    orphan = Path(lake.data) / "main" / "personas" / "of-a-writer-at-work.parquet"
    orphan.write_bytes(b"PAR1")
    maintain(lake, timedelta(days=7), apply=True)
    assert orphan.exists()


def test_records_are_not_a_file_each_time(lake: LakeWarehouse) -> None:
    for number in range(5):
        put(lake, number)
    assert not [file for file in files(lake) if "lineage" in file.parts]
    # Those of personas that were replaced are there too: they are the past.
    assert len([file for file in files(lake) if "personas" in file.parts]) == 5


@pytest.mark.parametrize(
    "text",
    [
        "FROM postgres_execute('__ducklake_metadata_warehouse', 'COMMIT; DROP TABLE x')",
        """FROM "SQLITE_query" ('__ducklake_metadata_warehouse', 'SELECT 1')""",
        "FROM system.main.sqlite_query/* */('__ducklake_metadata_warehouse', 'SELECT 1')",
        "FROM query('FROM postgres' || '_execute(1, 2)')",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM postgres_execute(1, 2)'))",
        "FROM ducklake_cleanup_old_files('warehouse', cleanup_all => true)",
    ],
)
def test_a_question_reaches_no_server(lake: LakeWarehouse, text: str) -> None:
    put(lake, 1)
    with pytest.raises(QueryError, match="asks no table"):
        fetch_rows(lake, text, {})


def test_a_catalog_that_cannot_be_read_is_not_told_as_missing(lake: LakeWarehouse) -> None:
    put(lake, 1)
    with closing(sqlite3.connect(lake.database.removeprefix("sqlite:"))) as holder:
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(WarehouseError, match=r"cannot be read: .* is locked"):
            seen(lake)
    assert seen(lake) == [1]


def test_words_that_are_only_named_so_are_no_calls(lake: LakeWarehouse) -> None:
    put(lake, 1)
    text = "SELECT 'postgres_query(' AS query FROM personas WHERE persona <> 'query('"
    assert fetch_rows(lake, text, {}).values == [("postgres_query(",)]


def test_data_of_another_lake_is_not_taken_over(lake: LakeWarehouse, tmp_path: Path) -> None:
    put(lake, 1)
    other = new_lake(tmp_path / "other").model_copy(update={"data": lake.data})
    with pytest.raises(WarehouseError, match="may be another lake's"):
        other.prepare()
    assert seen(lake) == [1]


@pytest.mark.parametrize(
    "text",
    [
        "FROM read_parquet('{file}')",
        "FROM parquet_metadata('{file}')",
        "FROM '{file}'",
        "SELECT (SELECT max(row_number) FROM E'{file}')",
        "DESCRIBE '{file}'",
    ],
)
def test_a_question_reads_tables_and_no_file(lake: LakeWarehouse, text: str) -> None:
    put(lake, 1)
    (file,) = (file for file in files(lake) if "personas" in file.parts)
    with pytest.raises(QueryError, match="a question is put to tables"):
        fetch_rows(lake, text.format(file=file), {})


LAKES: dict[str, Callable[[Path], dict[str, str]]] = {
    "sqlite:": lambda home: {"database": f"sqlite:{home}/catalog.sqlite", "data": f"{home}/lake"},
    "postgres:dbname=alignment": lambda home: {
        "database": "postgres:dbname=alignment",
        "data": f"{home}/lake",
        "catalog_schema": "lake_demo",
    },
}


@pytest.mark.parametrize("catalog", LAKES)
def test_where_a_recipe_has_its_lake(tmp_path: Path, catalog: str) -> None:
    recipe = changed_recipe({"warehouse.ducklake": {"catalog": catalog}})
    found = Run(recipe, tmp_path).database_settings
    assert LAKES[catalog](tmp_path).items() <= found.items()


def test_doctor_goes_on_where_the_server_of_the_catalog_is_down(tmp_path: Path) -> None:
    catalog = "postgres:host=127.0.0.1 port=1 dbname=a"
    run = Run(changed_recipe({"warehouse.ducklake": {"catalog": catalog}}), tmp_path)
    found = list(_look(run, database_of(run.database_settings)))
    assert [(one.subject, one.verdict) for one in found] == [
        ("database", "problem"),
        ("disk", "ok"),
    ]
    assert "cannot be asked" in found[0].text


def test_a_small_run_has_a_lake_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    lake = {"catalog": "postgres:dbname=a", "data": "s3://bucket/lake"}
    recipe = changed_recipe({"warehouse.ducklake": lake})
    monkeypatch.setenv("ALIGNMENT_LIMIT", "6")
    small = Run.of(recipe).database_settings
    assert small["data"] == "s3://bucket/lake/demo-limit-6"
    schemas = {small["catalog_schema"]}
    for name in ("demo", "demo_limit_6", "demo.limit.6", "pg-demo", "d" * 100, "d" * 101):
        alike = Run(changed_recipe({"warehouse.ducklake": lake, "name": name}), Path("home"))
        schemas.add(alike.database_settings["catalog_schema"])
    # None is another's, none too long for PostgreSQL, none of those it keeps for itself.
    assert len(schemas) == 7
    assert all(re.fullmatch(r"lake_\w{1,58}", schema) for schema in schemas)


@pytest.mark.parametrize(
    "catalog",
    [
        "postgres:dbname=a password=sesame",
        "postgres:postgresql://me:sesame@host/a",
        "postgres:",
        "mysql:a",
    ],
)
def test_a_catalog_without_password_or_not_at_all(catalog: str) -> None:
    with pytest.raises(RecipeError) as error:
        changed_recipe({"warehouse.ducklake": {"catalog": catalog}})
    assert "sesame" not in str(error.value)


def test_what_a_commit_was_of_is_in_the_history(lake: LakeWarehouse) -> None:
    put(lake, 1)
    with lake.read() as connection:
        (about,) = connection.execute(
            "SELECT commit_extra_info FROM ducklake_snapshots('warehouse') "
            "WHERE commit_message = 'personas'"
        ).fetchone() or ("",)
    assert {"recipe", "process", "host"} <= json.loads(about).keys()


def test_without_its_extensions_the_install_line_is_told(
    lake: LakeWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment_assets.warehouse import extensions

    def no_server(*_: Any, **__: Any) -> Any:
        raise duckdb.IOException("IO Error: no network")

    class Offline:
        execute = no_server

    monkeypatch.setattr(extensions, "_verified", lambda name: None)
    with pytest.raises(WarehouseError, match="make lake"):
        extensions.load_extensions(Offline(), ("ducklake",))  # type: ignore[arg-type]
