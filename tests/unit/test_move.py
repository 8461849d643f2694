"""``alignment-assets move``: a finished demo taken to other places and back, row for row."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from dagster import AssetKey, DagsterInstance, MarkdownMetadataValue
from pyarrow.fs import FileSelector
from typer.testing import CliRunner, Result

from alignment_assets.commands.app import app
from alignment_assets.commands.home import dagster_instance
from alignment_assets.commands.status import table_status
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.load import find_recipe, load_recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.moving import (
    Contents,
    contents_of_all,
    differences,
    row_hashes,
)
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.schema import RECORDS
from alignment_assets.warehouse.sql_files import Column, Table
from tests.conftest import Graph
from tests.support.fakes import FakeInference
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.s3 import S3Server, s3_server

pytestmark = [pytest.mark.slow, pytest.mark.needs("lake")]

PATIENCE = 120.0
LAKE: dict[str, Any] = {"ducklake": {"catalog": "sqlite:"}}


@dataclass
class Study:
    """A folder with recipes and a home that all of them share."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def recipe(self, file: str, **changes: Any) -> str:
        """Write the demo's recipe with other fields at its top; return its path."""
        path = self.folder / "recipes" / file
        path.write_text(yaml.safe_dump({**demo(), **changes}), encoding="utf-8")
        return str(path)

    def run(self, file: str) -> Run:
        return Run(load_recipe(str(self.folder / "recipes" / file)), self.home)

    def graph(self, file: str, instance: DagsterInstance) -> Graph:
        run = self.run(file)
        return Graph(run.recipe, run.home, instance, FakeInference(log=str(self.folder / "asked")))

    def contents(self, file: str) -> Contents:
        return contents_of_all(database_of(self.run(file).database_settings))

    def statuses(self, file: str) -> dict[tuple[str, str | None], str]:
        """Return what ``status`` says, but of the table that has what the recipe says itself."""
        run = self.run(file)
        with dagster_instance(run) as instance:
            graph = self.graph(file, instance)
            rows = table_status(graph.warehouse, run, graph.defs, instance).to_pylist()
        found = {(row["table"], row["partition"]): row["status"] for row in rows}
        assert found.pop(("recipes", None)) in ("fresh", "stale: settings of the recipe changed")
        return found

    def check_all_is_fresh(self, file: str) -> None:
        assert set(self.statuses(file).values()) == {"fresh", "empty"}, self.statuses(file)

    def check_nothing_is_made_anew(self, file: str) -> None:
        with dagster_instance(self.run(file)) as instance:
            graph = self.graph(file, instance)
            before, asked = self.contents(file), len(graph.asked())
            graph.materialize()
            assert len(graph.asked()) == asked
        changed = differences(before, self.contents(file))
        assert [line for line in changed if line.split(":")[0] not in {*RECORDS, "recipes"}] == []


def demo() -> dict[str, Any]:
    """Return the demo's recipe as it is written."""
    content: dict[str, Any] = yaml.safe_load(find_recipe("demo").read_text(encoding="utf-8"))
    return content


def move(source: str, target: str) -> Result:
    return CliRunner().invoke(app, ["move", "--recipe", source, "--to", target])


def refusal(source: str, target: str) -> str:
    refused = move(source, target)
    assert isinstance(refused.exception, Expected), refused.output
    return str(refused.exception)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose tables are all made, in a file."""
    study = Study(tmp_path_factory.mktemp("finished"))
    shutil.copytree(find_recipe("demo").parent, study.folder / "recipes")
    study.recipe("file.yaml")
    with dagster_instance(study.run("file.yaml")) as instance:
        study.graph("file.yaml", instance).materialize()
    return study.folder


@pytest.fixture
def study(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    shutil.copytree(finished, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return Study(tmp_path)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


def test_up_and_back_row_for_row_with_nothing_left_to_do(study: Study) -> None:
    file, lake = study.recipe("file.yaml"), study.recipe("lake.yaml", warehouse=LAKE)
    before = study.contents("file.yaml")
    assert sum(rows for rows, _ in before.values()) > 1000

    up = move(file, lake)
    assert up.exit_code == 0, up.output
    assert "completions" in up.output and "status --recipe" in up.output
    assert differences(before, study.contents("lake.yaml")) == []
    assert differences(before, study.contents("file.yaml")) == []
    parts = [part for part in before if part.table == "completions"]
    files = list((study.home / "lake/main/completions").glob("*.parquet"))
    assert len(parts) > 1 and len(files) == len(parts)
    study.check_all_is_fresh("lake.yaml")
    study.check_nothing_is_made_anew("lake.yaml")

    there = study.contents("lake.yaml")
    old = study.run("file.yaml").database
    old.rename(old.with_suffix(".old"))
    back = move(lake, file)
    assert back.exit_code == 0, back.output
    assert differences(there, study.contents("file.yaml")) == []
    study.check_all_is_fresh("file.yaml")
    study.check_nothing_is_made_anew("file.yaml")


@pytest.mark.needs("postgres")
@pytest.mark.needs("s3")
def test_to_postgres_and_object_storage_and_back_with_all_answers(
    study: Study, postgres: PostgresServer, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    catalog, bucket = postgres.create("moved"), s3.create_bucket("moved")
    where = {"catalog": f"postgres:{catalog}", "data": f"{bucket}/lake"}
    file = study.recipe("file.yaml")
    lake = study.recipe("lake.yaml", warehouse={"ducklake": where}, spool=f"{bucket}/spool")
    before, spool = study.contents("file.yaml"), study.run("file.yaml").spool
    names = sorted(
        path.relative_to(spool)
        for path in spool.rglob("*.parquet")
        if not path.name.startswith("0-empty")
    )
    assert names

    up = move(file, lake)
    assert up.exit_code == 0, up.output
    assert postgres.password not in up.output
    assert differences(before, study.contents("lake.yaml")) == []
    shutil.rmtree(spool)
    study.check_all_is_fresh("lake.yaml")
    study.check_nothing_is_made_anew("lake.yaml")

    there = study.contents("lake.yaml")
    study.run("file.yaml").database.unlink()
    shutil.rmtree(study.run("lake.yaml").spool)  # the copies of this machine
    back = move(lake, file)
    assert back.exit_code == 0, back.output
    assert differences(there, study.contents("file.yaml")) == []
    assert {path for path in names if not (spool / path).is_file()} == set()
    study.check_all_is_fresh("file.yaml")


@pytest.mark.needs("s3")
def test_a_spool_alone_is_moved_and_what_was_withdrawn_there_goes_here_too(
    study: Study, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3.create_bucket("answers")
    file, stored = study.recipe("file.yaml"), study.recipe("stored.yaml", spool=f"{bucket}/spool")
    answers = study.run("file.yaml").spool / "rewards" / "smollm2-135m-cool"
    kept = study.run("file.yaml").spool / "rewards" / "smollm2-135m"

    up = move(file, stored)
    assert up.exit_code == 0, up.output
    assert "tables: they stay in" in up.output and f"copied to {bucket}/spool" in up.output
    names = {path.name for path in files_of_answers(kept)}
    assert {info.base_name for info in objects(s3, f"{bucket}/spool/rewards/{kept.name}")} == names

    condition = ["--where", "asset = 'rewards' AND partition = 'smollm2-135m-cool'"]
    tidy = CliRunner().invoke(app, ["tidy", "--recipe", stored, "--answers", *condition, "--apply"])
    assert tidy.exit_code == 0, tidy.output
    assert files_of_answers(answers)
    back = move(stored, file)
    assert back.exit_code == 0, back.output
    assert not files_of_answers(answers)
    assert {path.name for path in files_of_answers(kept)} == names


def files_of_answers(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.parquet") if not path.name.startswith("0-empty")]


def objects(s3: S3Server, address: str) -> list[Any]:
    found: list[Any] = s3.files.get_file_info(FileSelector(address.removeprefix("s3://")))
    return found


def test_what_cannot_be_moved_is_refused_with_the_one_thing_to_do(study: Study) -> None:
    file, lake = study.recipe("file.yaml"), study.recipe("lake.yaml", warehouse=LAKE)
    other = study.recipe("other.yaml", warehouse=LAKE, name="other")
    assert "change its warehouse and spool alone" in refusal(file, other)
    assert "give it another warehouse" in refusal(file, study.recipe("same.yaml"))
    assert not (study.home / "catalog.sqlite").exists()
    assert "no database" in refusal(lake, file)


def test_a_changed_row_is_found_where_the_tables_are_there_already(study: Study) -> None:
    file, lake = study.recipe("file.yaml"), study.recipe("lake.yaml", warehouse=LAKE)
    assert move(file, lake).exit_code == 0
    again = move(file, lake)
    assert again.exit_code == 0 and "already, the same" in again.output, again.output

    change = (
        "UPDATE completions SET text = text || chr(0) WHERE model = 'smollm2-135m-cool' AND "
        "completion_id = (SELECT min(completion_id) FROM completions "
        "WHERE model = 'smollm2-135m-cool' AND text IS NOT NULL)"
    )
    warehouse = database_of(study.run("lake.yaml").database_settings)
    with warehouse.get_connection() as connection:
        connection.execute(change)
    said = refusal(file, lake)
    assert "completions[smollm2-135m-cool]: other content in" in said
    assert said.count("other content") == 1 and "nothing is changed" in said


@pytest.mark.parametrize("to", ["lake", "file"])
def test_killed_in_the_middle_and_run_again(study: Study, to: str) -> None:
    file, lake = study.recipe("file.yaml"), study.recipe("lake.yaml", warehouse=LAKE)
    source, target = (file, lake) if to == "lake" else (lake, file)
    if to == "file":
        assert move(file, lake).exit_code == 0
        study.run("file.yaml").database.unlink()
    before = study.contents(Path(source).name)

    def is_half() -> bool:
        if to == "file":
            new = study.home / "alignment.duckdb.new"
            return new.exists() and new.stat().st_size > 100_000
        return len(list((study.home / "lake").rglob("*.parquet"))) > 10

    command = [sys.executable, "-m", "alignment_assets.commands.app", "move"]
    moving = subprocess.Popen(
        [*command, "--recipe", source, "--to", target], stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    while not is_half():
        assert moving.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(moving.pid, signal.SIGKILL)
    assert moving.wait() == -signal.SIGKILL
    if to == "file":
        assert not study.run("file.yaml").database.exists()
    else:
        there = study.contents("lake.yaml")
        assert {part.table for part in there} <= {"database_info"}

    again = move(source, target)
    assert again.exit_code == 0, again.output
    assert differences(before, study.contents(Path(target).name)) == []
    if to == "lake":  # what the first one had put there is gone
        parts = [part for part in before if part.table not in RECORDS]
        files = [file.parent.name for file in (study.home / "lake").rglob("*.parquet")]
        assert sorted({*files} - RECORDS) == sorted({part.table for part in parts})
        assert len([table for table in files if table not in RECORDS]) == len(parts)
    else:
        assert not list(study.home.glob("*.new*"))


def test_rows_of_who_left_the_recipe_are_moved_too(study: Study) -> None:
    content = demo()
    kept = {"models": content["completions"]["models"][:1]}
    completions = {**content["completions"], **kept}
    left = content["completions"]["models"][1]
    file = study.recipe("file.yaml", completions=completions)
    lake = study.recipe("lake.yaml", completions=completions, warehouse=LAKE)
    before = study.contents("file.yaml")
    assert TablePart("completions", left) in before
    with duckdb.connect(str(study.run("file.yaml").database)) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'mine' AS note")
    moved = move(file, lake)
    assert moved.exit_code == 0, moved.output
    assert "sql/schema has no such table: notes" in moved.output
    assert differences(before, study.contents("lake.yaml")) == []


def test_a_run_with_a_limit_is_moved_in_its_own_home(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lake = study.recipe("file.yaml"), study.recipe("lake.yaml", warehouse=LAKE)
    monkeypatch.setenv("ALIGNMENT_LIMIT", "3")
    small = Run.of(load_recipe(file))
    shutil.copytree(study.home, small.home, symlinks=True, ignore=lambda *_: ["limit-3"])
    moved = move(file, lake)
    assert moved.exit_code == 0, moved.output
    assert (small.home / "catalog.sqlite").is_file()
    assert not (study.home / "catalog.sqlite").exists()


@pytest.mark.parametrize(
    ("kind", "value", "other"),
    [
        ("VARCHAR", "'a' || chr(0)", "'a'"),
        ("VARCHAR", "''", "NULL"),
        ("DOUBLE", "0.0::DOUBLE", "'-0.0'::DOUBLE"),
        ("DOUBLE", "0.1::DOUBLE", "nextafter(0.1::DOUBLE, 1)"),
        ("DOUBLE", "'nan'::DOUBLE", "NULL"),
        ("VARCHAR[]", "[]", "NULL"),
        ("VARCHAR[]", "[NULL]", "[]"),
        ("VARCHAR[]", "['NULL']", "[NULL]"),
        ("VARCHAR[]", "['a, b']", "['a', 'b']"),
        ("STRUCT(a VARCHAR, b VARCHAR)", "{'a': NULL, 'b': NULL}", "NULL"),
        ("STRUCT(a VARCHAR)[]", "[{'a': ''}]", "[{'a': NULL}]"),
        ("STRUCT(a VARCHAR)[]", "[{'a': 'x' || chr(0)}]", "[{'a': 'x'}]"),
    ],
)
def test_no_two_values_pass_for_the_same(kind: str, value: str, other: str) -> None:
    table = Table("one", "", (Column("value", kind, True, ""),), "")
    found = []
    for each in (value, other):
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE one (value {kind})")
            connection.execute(f"INSERT INTO one SELECT {each}")
            found.append(row_hashes(connection, "memory", [table]))
    assert found[0] != found[1]


def dagster_on_postgres(folder: Path, server: PostgresServer, name: str) -> Path:
    """Return a DAGSTER_HOME whose records are in a PostgreSQL database of their own."""
    server.create(name)
    folder.mkdir()
    database = {
        # What SQLAlchemy 2.1 takes by itself, psycopg 3, fails in dagster-postgres.
        "scheme": "postgresql+psycopg2",
        "hostname": "127.0.0.1",
        "port": server.port,
        "username": "postgres",
        "password": {"env": "PGPASSWORD"},
        "db_name": name,
    }
    settings = {"storage": {"postgres": {"postgres_db": database}}, "telemetry": {"enabled": False}}
    (folder / "dagster.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def pages_of(instance: DagsterInstance, table: str) -> int:
    """Return how many pages the last materialization of a table shows."""
    (found,) = instance.fetch_materializations(AssetKey(table), limit=1).records
    made = found.asset_materialization
    assert made
    return sum(isinstance(value, MarkdownMetadataValue) for value in made.metadata.values())


@pytest.mark.needs("postgres")
@pytest.mark.needs("dagster_postgres")
def test_records_of_dagster_go_to_postgres_and_back(
    study: Study, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    selection = {"selection": {**demo()["selection"], "strategy": "max_margin"}}
    file, lake = study.recipe("file.yaml"), study.recipe("lake.yaml", warehouse=LAKE)
    with dagster_instance(study.run("file.yaml")) as instance:
        assert pages_of(instance, "dpo_pairs")

    shared = dagster_on_postgres(study.folder / "shared", postgres, "dagster_moved")
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    monkeypatch.setenv("DAGSTER_HOME", str(shared))
    up = move(file, lake)
    assert up.exit_code == 0, up.output
    assert "tell the same of" in up.output
    study.check_all_is_fresh("lake.yaml")
    # Whoever withdraws a text deletes the run that shows it; these events have no run.
    study.recipe("lake.yaml", warehouse=LAKE, **selection)
    with dagster_instance(study.run("lake.yaml")) as instance:
        assert pages_of(instance, "dpo_pairs") == 0
        study.graph("lake.yaml", instance).materialize("key:selected_pairs+")
        assert pages_of(instance, "dpo_pairs")

    there = study.statuses("lake.yaml")
    assert there["dpo_pairs", "smollm2-135m-policy"] == "fresh"

    study.recipe("file.yaml", **selection)
    study.run("file.yaml").database.unlink()
    back = move(lake, file)
    assert back.exit_code == 0, back.output
    monkeypatch.delenv("DAGSTER_HOME")
    assert study.statuses("file.yaml") == there
