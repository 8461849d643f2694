"""The backend ``ray`` on a real Ray, with the fake engine in its actors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Job
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import Request
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe
from tests.integration.conftest import read_spool, write_requests
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.ray_engine import FakeRayInference

pytestmark = [pytest.mark.integration, pytest.mark.needs("ray")]

MODEL = "smollm2-135m"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    with ray_cluster(monkeypatch) as cluster:
        yield cluster


def recipe_of(home: Path, **backend: Any) -> Recipe:
    """Return a recipe whose model Ray runs, with weights that the fake engine does not read."""
    weights = home / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "config.json").write_text("{}")
    models = changed_recipe().model_dump(mode="json")["models"]
    models[MODEL] |= {"weights": str(weights), "backend": {"ray": backend}}
    return changed_recipe({"models": models})


def asked(texts: list[str]) -> list[Request]:
    return [
        Request(f"r{number}", "generate", "generate", [{"role": "user", "content": text}], {})
        for number, text in enumerate(texts)
    ]


def answer(
    home: Path,
    requests: list[Request],
    report: Callable[[Progress], None] = lambda progress: None,
    log: Callable[[str], None] = print,
    **backend: Any,
) -> Progress:
    recipe = recipe_of(home, **backend)
    write_requests(home / "requests.parquet", requests)
    progress = Progress("test", len(requests))
    job = Job(
        *(Run(recipe, home), MODEL, "generate", home / "requests.parquet", home / "spool"),
        *(GpuPool(), progress, report, log),
    )
    FakeRayInference().answer(job)
    return progress


def test_a_killed_node_loses_nothing_and_doubles_nothing(
    cluster: RayCluster, tmp_path: Path
) -> None:
    count, log = 20_000, tmp_path / "asked.jsonl"

    def kill(progress: Progress) -> None:
        if progress.done > 6000 and cluster.nodes[1].poll() is None:
            cluster.kill(1)
            cluster.add_node()

    progress = answer(
        *(tmp_path, asked([f"Number {number}." for number in range(count)]), kill),
        address=cluster.address,
        replicas=2,
        max_num_seqs=64,
        engine_arguments={"seconds": 0.1, "log": str(log)},
    )
    answers = read_spool(tmp_path / "spool")  # which fails on a doubled one
    assert len(answers) == progress.done == count
    times = Counter(json.loads(line)["id"] for line in log.read_text().splitlines())
    assert len(times) == count
    # What the engine had, and what it had answered that was not yet on disk, within 0.25 s.
    print("again", sum(times.values()) - count, progress)
    assert sum(times.values()) - count <= 2 * 64 + 0.25 / 0.1 * 64
    assert progress.restarts == 1
