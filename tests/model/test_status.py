"""What `status` calls fresh is what would come out again, whichever fields of the recipe change.

``MODEL_STATUS`` says how many random changes are tried; ``MODEL_SEED`` repeats a run.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance, Definitions
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from alignment_assets.commands.materialize import execute, plan_launches
from alignment_assets.commands.status import table_status
from alignment_assets.definitions import build_defs
from alignment_assets.warehouse.resource import Warehouse
from tests.model.checker import TABLES, label_of
from tests.model.engine import RememberingInference
from tests.model.steps import as_lines, numbers, setting
from tests.model.world import Step, World

NUMBER = int(os.environ.get("MODEL_STATUS", "10"))


def definitions(world: World) -> tuple[Definitions, Warehouse]:
    warehouse = Warehouse(
        database=str(world.run.database), connection_config={"threads": 1}, lock_timeout=60
    )
    inference = RememberingInference(log=str(world.log.path))
    return build_defs(world.run, {"warehouse": warehouse, "inference": inference}), warehouse


@contextmanager
def records(world: World) -> Iterator[DagsterInstance]:
    folder = world.folder / "dagster"
    folder.mkdir(exist_ok=True)
    with DagsterInstance.local_temp(str(folder)) as instance:
        yield instance


def fresh_but_different(world: World) -> list[str]:
    """Return what `status` calls fresh and would have other rows if it were made now."""
    defs, warehouse = definitions(world)
    with records(world) as instance:
        status = table_status(warehouse, world.run, defs, instance).to_pylist()
    checker = world.checker()
    return [
        f"{label_of((row['table'], row['partition']))}: {problems[0][0]}"
        for row in status
        if row["table"] in TABLES and row["status"] == "fresh"
        if (problems := checker.differences((row["table"], row["partition"])))
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A finished home of which Dagster has records."""
    world = World.create(tmp_path_factory.mktemp("model") / "recorded")
    defs, _ = definitions(world)
    with records(world) as instance:
        for _ in execute(defs, plan_launches(defs), instance):
            pass
    assert fresh_but_different(world) == []
    return world


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_what_is_called_fresh_would_come_out_again(recorded: World, tmp_path: Path) -> None:
    seed = int(os.environ.get("MODEL_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"MODEL_SEED={seed}")
    failed: list[str] = []

    @seeded(seed)
    @settings(
        max_examples=NUMBER,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(numbers)
    def change(which: int) -> None:
        steps: list[Step] = [setting(random.Random(which))]
        shutil.rmtree(tmp_path / "home", ignore_errors=True)
        world = recorded.copied(tmp_path / "home")
        for step in steps:
            world.apply(step)
        if found := fresh_but_different(world):
            failed.append(f"{as_lines(steps)}\n        {'; '.join(found)}")

    change()
    if failed:
        lines = "\n".join(sorted(set(failed)))
        pytest.fail(f"MODEL_SEED={seed}: fresh, but other rows would come:\n{lines}", pytrace=False)
