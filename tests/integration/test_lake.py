"""The whole demo on DuckLake: catalogs in SQLite and PostgreSQL, files in a folder and on S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance

from alignment_assets.warehouse.resource import LakeWarehouse, WarehouseError
from tests.conftest import Graph, changed_recipe, demo_graph
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.ray_engine import FakeRayInference
from tests.support.s3 import S3Server, s3_server

pytestmark = [pytest.mark.integration, pytest.mark.needs("lake")]

PERSON = """
INSERT INTO warehouse.main.personas BY NAME
SELECT 1 AS row_number, uuid() AS persona_id, 'hash' AS persona_hash, 'a person' AS persona
"""
TRAINING_SETS = {
    "dpo_pairs": "pair_id",
    "qrpo_samples": "pair_id, sample_id",
    "selection_exclusions": "prompt_id",
    "completions": "completion_id",
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


def on_lake(folder: Path, instance: DagsterInstance, catalog: str, data: str | None) -> Graph:
    graph = demo_graph(folder, instance)
    lake: dict[str, Any] = {"catalog": catalog, **({"data": data} if data else {})}
    return graph.with_recipe(changed_recipe({"warehouse.ducklake": lake}))


def rows(graph: Graph) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    for table in TRAINING_SETS:
        columns = [
            column
            for (column, *_) in graph.query(f"DESCRIBE {table}")
            if column not in ("answered_at", "seconds")
        ]
        found[table] = sorted(map(str, graph.query(f"SELECT {', '.join(columns)} FROM {table}")))
    return found


@pytest.fixture(scope="module")
def in_a_file(made_once: Any) -> dict[str, Any]:
    with DagsterInstance.ephemeral() as instance:
        return rows(demo_graph(made_once(None), instance))


def check_same(graph: Graph, in_a_file: dict[str, Any]) -> None:
    graph.materialize()
    found = rows(graph)
    assert in_a_file["dpo_pairs"] and in_a_file["qrpo_samples"]
    for table in TRAINING_SETS:
        assert found[table] == in_a_file[table], table


@pytest.mark.soak
def test_sqlite_and_a_folder(
    tmp_path: Path, instance: DagsterInstance, in_a_file: dict[str, Any]
) -> None:
    graph = on_lake(tmp_path, instance, "sqlite:", None)
    check_same(graph, in_a_file)
    assert (graph.home / "catalog.sqlite").is_file() and not graph.run.database.exists()


@pytest.mark.needs("postgres")
@pytest.mark.needs("s3")
def test_postgres_and_s3(
    tmp_path: Path,
    instance: DagsterInstance,
    in_a_file: dict[str, Any],
    postgres: PostgresServer,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    catalog, bucket = postgres.create("demo_s3"), s3.create_bucket("demo-s3")
    check_same(on_lake(tmp_path, instance, f"postgres:{catalog}", f"{bucket}/lake"), in_a_file)


@pytest.mark.needs("postgres")
def test_of_two_that_commit_at_once_the_second_is_refused(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    lake = LakeWarehouse(
        database=f"postgres:{postgres.create('two_at_once')}",
        data=str(tmp_path / "lake"),
        folder=str(tmp_path),
        lock_timeout=30,
    )
    lake.prepare()
    with closing(lake.connect(":memory:")) as connection:
        connection.execute("ATTACH ':memory:' AS staging")
        with (
            pytest.raises(WarehouseError, match="another process committed meanwhile"),
            lake.attach_in_turn(connection, exclusive=True, purpose="losing the turn"),
            lake.committing(connection, "personas"),
        ):
            connection.execute(PERSON)
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            )
            with lake.get_connection() as other, lake.committing(other, "personas"):
                other.execute(PERSON)
    with lake.read() as connection:
        assert connection.execute("SELECT count(*) FROM personas").fetchall() == [(1,)]


@pytest.mark.soak
@pytest.mark.needs("postgres")
def test_postgres_and_a_folder(
    tmp_path: Path,
    instance: DagsterInstance,
    in_a_file: dict[str, Any],
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    catalog = postgres.create("demo_folder")
    check_same(on_lake(tmp_path, instance, f"postgres:{catalog}", str(tmp_path / "l")), in_a_file)


@pytest.mark.soak  # each step that asks starts a Ray of its own
@pytest.mark.timeout(1800)
@pytest.mark.needs("postgres")
@pytest.mark.needs("ray")
def test_postgres_and_engines_on_ray(
    tmp_path: Path,
    instance: DagsterInstance,
    in_a_file: dict[str, Any],
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    graph = on_lake(tmp_path, instance, f"postgres:{postgres.create('demo_ray')}", None)
    models = graph.recipe.model_dump(mode="json")["models"]
    for model in models.values():
        model["backend"] = {"ray": {"max_num_seqs": 16}}
    recipe = changed_recipe(
        {"models": models, "warehouse": graph.recipe.model_dump(mode="json")["warehouse"]}
    )
    check_same(replace(graph, recipe=recipe, inference=FakeRayInference()), in_a_file)
