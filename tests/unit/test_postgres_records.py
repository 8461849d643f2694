"""Dagster's records in PostgreSQL: made by one, refused in a line, and cleaned as SQLite's are."""

from __future__ import annotations

import importlib.util
import logging.handlers
import os
import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import yaml
from dagster import AssetKey, DagsterInstance, DagsterRunStatus

from alignment_assets.assets.slots import PatientClaims
from alignment_assets.commands.home import dagster_instance
from alignment_assets.commands.tidy import forget, runs_of_left
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.run import Run
from tests.conftest import Graph, changed_recipe
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import Other, other, wait_for_word
from tests.unit.test_foreign_homes import call_with_records

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("postgres"),
    pytest.mark.needs("dagster_postgres"),
]

POOL = "engine"
SECRET = "ALIGNMENT_TEST_PASSWORD"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def records(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Returns a folder whose records are in a database of this test, other settings put over it."""
    database = f"{tmp_path.parent.name}_{tmp_path.name}"
    server.create(database)
    monkeypatch.setenv(SECRET, server.password)

    def folder(name: str, limit: int = 1, **changes: object) -> Path:
        place = {
            "hostname": "127.0.0.1",
            "port": server.port,
            "db_name": database,
            "username": "postgres",
            "password": {"env": SECRET},
            "scheme": "postgresql+psycopg2",
            **changes,
        }
        settings = {
            "storage": {"postgres": {"postgres_db": place}},
            "concurrency": {"pools": {"default_limit": limit, "granularity": "op"}},
            "telemetry": {"enabled": False},
        }
        made = tmp_path / name
        made.mkdir()
        (made / "dagster.yaml").write_text(yaml.safe_dump(settings))
        return made

    return folder


def open_and_claim(pipe: Connection, records: str, run_id: str) -> None:
    """Open records as the command does, then ask for a slot as a run does."""
    import dagster_postgres  # noqa: F401  (so that all come to the database at once)

    retries = logging.handlers.QueueHandler(queue.SimpleQueue())
    logging.getLogger().addHandler(retries)
    os.environ["DAGSTER_HOME"] = records
    run = Run(changed_recipe(), Path(records) / "home")
    pipe.send("ready")
    wait_for_word(pipe)
    with dagster_instance(run) as instance:
        pipe.send((claimed(instance, run_id), retries.queue.qsize()))


def claimed(instance: DagsterInstance, run_id: str) -> bool:
    from dagster import DagsterRun

    claims = PatientClaims(instance, DagsterRun(job_name="any", run_id=run_id))
    return claims.claim(POOL, "a step")


def run_id(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def test_of_many_first_uses_at_once_one_makes_the_tables_and_one_gets_the_slot(
    records: Callable[..., Path],
) -> None:
    with ExitStack() as stack:
        machines: list[Other] = [
            stack.enter_context(other(open_and_claim, str(records(f"machine-{n}")), run_id(n)))
            for n in range(4)
        ]
        assert [machine.hear() for machine in machines] == ["ready"] * 4
        for machine in machines:
            machine.tell()
        found = sorted(machine.hear() for machine in machines)
    # Dagster logs each time that making a table failed and is tried again.
    assert found == [(False, 0), (False, 0), (False, 0), (True, 0)]


def test_a_changed_default_limit_is_followed_and_one_set_in_the_ui_is_kept(
    records: Callable[..., Path],
) -> None:
    for number, limit in enumerate((1, 3, 2)):
        with DagsterInstance.from_config(str(records(f"limit-{limit}", limit))) as instance:
            assert claimed(instance, run_id(number)) == (limit != 2)  # two are taken by then
            assert instance.event_log_storage.get_concurrency_info(POOL).slot_count == limit
            (known,) = instance.event_log_storage.get_pool_limits()
            assert (known.name, known.limit, known.from_default) == (POOL, limit, True)
    with DagsterInstance.from_config(str(records("set", 1))) as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 5)
        assert claimed(instance, run_id(9))
        assert instance.event_log_storage.get_concurrency_info(POOL).slot_count == 5


@pytest.mark.parametrize(
    ("changes", "secret", "said"),
    [
        ({}, "wrong-%2Fpassword", "refuses: .*password authentication failed.*put the password of"),
        ({}, None, f"environment variable {SECRET}, which is not set"),
        ({"port": 1}, "unused-password", "at 127.0.0.1:1, which refuses: .*start the server"),
        ({"db_name": "no_such"}, "", "no_such.*does not exist.*deploy/README.md"),
        ({"username": "nobody"}, "", "password authentication failed.*password of nobody"),
        ({"scheme": "postgresql"}, "", r"say `scheme: postgresql\+psycopg2`"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_a_line_without_the_password(
    records: Callable[..., Path], graph: Graph, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str], changes: dict[str, object], secret: str | None, said: str,
) -> None:  # fmt: skip
    folder = records("mine", **changes)
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    if secret:
        monkeypatch.setenv(SECRET, secret)
    elif secret is None:
        monkeypatch.delenv(SECRET)
    with pytest.raises(Expected, match=said) as refused, dagster_instance(graph.run):
        pass
    told = str(refused.value)
    assert str(folder / "dagster.yaml") in told and "\n" not in told
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert os.environ.get(SECRET, "no password") not in told


def test_without_the_package_its_extra_is_told(
    records: Callable[..., Path], graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(records("mine")))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "dagster_postgres" else find(name, *more),
    )
    with (
        pytest.raises(Expected, match=r"dagster-postgres.*`make lake`.*assets\[postgres\]"),
        dagster_instance(graph.run),
    ):
        pass


def test_runs_of_who_left_the_recipe_are_forgotten(
    records: Callable[..., Path], graph: Graph
) -> None:
    with DagsterInstance.from_config(str(records("mine"))) as instance:
        made = replace(graph, instance=instance)
        made.materialize("key:source_prompts")
        kept = [source.model_dump(mode="json") for source in graph.recipe.prompts[:-1]]
        gone = graph.recipe.prompts[-1].name
        smaller = made.with_recipe(changed_recipe({"prompts": kept}))
        found = runs_of_left(instance, smaller.run, "")
        assert found == []  # of another database
        with made.warehouse.read() as connection:
            ((created,),) = connection.execute("SELECT created_at FROM database_info").fetchall()
        (run,) = runs_of_left(instance, smaller.run, str(created))
        forget(instance, [run])
        assert not instance.has_run(run)
        left = instance.get_materialized_partitions(AssetKey("source_prompts"))
        assert left == {source.name for source in graph.recipe.prompts} - {gone}
        assert {one.status for one in instance.get_runs()} == {DagsterRunStatus.SUCCESS}


@pytest.mark.needs("root")
def test_who_may_not_write_the_folder_of_records_reads_those_in_the_database(
    records: Callable[..., Path], graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = records("mine")
    with DagsterInstance.from_config(str(folder)) as instance:
        replace(graph, instance=instance).materialize("key:wordings")
    folder.chmod(0o555)
    with other(call_with_records, str(graph.home), str(folder), "status", "--format", "csv") as one:
        status, said, errors = one.hear()
    folder.chmod(0o755)
    assert (status, errors) == (0, "")
    assert [line.split(",")[-1] for line in said.splitlines() if line.startswith("wordings")] == [
        "fresh"
    ]
