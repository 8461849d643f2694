"""Random sequences of changes, remakes and kills: a build refuses, or all that it used fits.

``MODEL_SEED`` repeats a run and ``MODEL_STEPS`` (a JSON list) takes one sequence alone. In a soak
(``MODEL_SEQUENCES`` of them) what is killed is a process of its own, by SIGKILL.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from alignment_assets.recipe.model import Recipe
from tests.model.checker import Finding
from tests.model.steps import (
    ALTERNATIVES,
    UNCHANGED,
    as_lines,
    numbers,
    places_of,
    recipe_fields,
    sequence,
)
from tests.model.study import RECIPE
from tests.model.world import Step, World

SHRINKING_SECONDS = 60.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A finished home, to be copied."""
    return World.create(tmp_path_factory.mktemp("model") / "finished")


def take(steps: list[Step], finished: World, folder: Path) -> tuple[list[Finding], World]:
    """Take steps on a copy of the finished home until something does not fit."""
    shutil.rmtree(folder, ignore_errors=True)
    world = finished.copied(folder)
    for step in steps:
        if found := world.apply(step):
            return found, world
    return [], world


def shortened(
    steps: list[Step], fails: Callable[[list[Step]], bool], seconds: float = SHRINKING_SECONDS
) -> list[Step]:
    """Leave out steps that a failure does not need, for as long as that may take."""
    ends = time.monotonic() + seconds
    size = max(1, len(steps) // 2)
    while size:
        start = 0
        while start < len(steps) and time.monotonic() < ends:
            fewer = steps[:start] + steps[start + size :]
            if fails(fewer):
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


def run_sequences(
    number: int, seed: int, finished: World, folder: Path, longest: int, shortest: int = 2
) -> None:
    """Take so many sequences; fail with the shortest steps that do so too."""
    failed: list[tuple[int, list[Step]]] = []

    # Sequences only: those that fail are shortened here, where it can be bounded.
    @seeded(seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(numbers)
    def drawn(which: int) -> None:
        steps = sequence(which, longest, shortest, finished.by_process)
        if not failed and take(steps, finished, folder)[0]:
            failed.append((which, steps))

    drawn()
    for which, steps in failed:
        tell(steps, finished, folder, f"MODEL_SEED={seed}, sequence {which}")


def tell(steps: list[Step], finished: World, folder: Path, seed: str) -> None:
    """Fail with what does not fit after steps, and with as few of them as show it."""
    first, _ = take(steps, finished, folder)
    wanted = {(one.published.split("[")[0], one.what) for one in first}

    def fails(fewer: list[Step]) -> bool:
        found, _ = take(fewer, finished, folder)
        return bool(wanted & {(one.published.split("[")[0], one.what) for one in found})

    short = shortened(steps, fails)
    found, world = take(short, finished, folder)
    pytest.fail(
        "\n".join(
            [
                f"{seed}: after these steps (MODEL_STEPS='[…]' repeats them)",
                as_lines(short),
                "which did",
                *(f"    {line}" for line in world.told),
                "what was published does not fit what it was made from:",
                *(f"    {one}" for one in found),
            ]
        ),
        pytrace=False,
    )


def test_every_field_of_a_recipe_is_changed_or_said_not_to_be() -> None:
    known = {path.replace(".0.", ".*.").replace(".2.", ".*.") for path in ALTERNATIVES}
    fields = set(recipe_fields(Recipe))
    assert fields == known | UNCHANGED.keys()


def test_the_study_has_the_section_of_every_field_that_is_changed() -> None:
    for place in (place for pattern in ALTERNATIVES for place in places_of(pattern)):
        part: Any = RECIPE
        for parent in place.split(".")[:-1]:
            part = part[int(parent) if isinstance(part, list) else parent]
        assert isinstance(part, dict), place


@pytest.mark.slow
def test_a_build_refuses_or_all_that_it_used_fits(finished: World, tmp_path: Path) -> None:
    steps = os.environ.get("MODEL_STEPS")
    if steps:
        one = json.loads(steps)
        if take(one, finished, tmp_path / "home")[0]:
            tell(one, finished, tmp_path / "home", "MODEL_STEPS")
        return
    seed = int(os.environ.get("MODEL_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"MODEL_SEED={seed}")
    run_sequences(12, seed, finished, tmp_path / "home", longest=12)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_same_of_long_sequences_with_real_kills(finished: World, tmp_path: Path) -> None:
    seed = int(os.environ.get("MODEL_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"MODEL_SEED={seed}")
    number = int(os.environ.get("MODEL_SEQUENCES") or 100)
    killed = replace(finished, by_process=True)
    run_sequences(number, seed, killed, tmp_path / "home", longest=40, shortest=10)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.needs("lake")
@pytest.mark.parametrize("by_process", [False, True])
def test_the_same_on_a_lake(tmp_path: Path, by_process: bool) -> None:
    steps = os.environ.get("MODEL_STEPS")
    made = replace(World.create(tmp_path / "finished", lake=True), by_process=by_process)
    if steps:
        one = json.loads(steps)
        if take(one, made, tmp_path / "home")[0]:
            tell(one, made, tmp_path / "home", "MODEL_STEPS")
        return
    seed = int(os.environ.get("MODEL_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"MODEL_SEED={seed}")
    number = int(os.environ.get("MODEL_SEQUENCES") or 100)
    run_sequences(number, seed, made, tmp_path / "home", longest=40, shortest=10)
