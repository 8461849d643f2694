"""What a recipe says to the backend ``ray``, and which engines fit a cluster; without Ray."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import BackendError, Examination, Job
from alignment_assets.inference.backends.ray import backend as ray_backend
from alignment_assets.inference.backends.ray import examine
from alignment_assets.inference.backends.ray.backend import RayInference
from alignment_assets.inference.backends.ray.placing import Node, Place
from alignment_assets.inference.backends.ray.settings import RaySettings
from alignment_assets.inference.backends.ray.stretches import (
    BLOCKS,
    BLOCKS_OF_ENGINE,
    calls_at_once,
    rows_of_stretch,
)
from alignment_assets.inference.backends.vllm.backend import VllmInference
from alignment_assets.inference.progress import Progress
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe

MODEL = "smollm2-135m"

H100 = Node("big", 64, 8, ("H100",))
A100 = Node("old", 32, 4, ("A100",))
HEAD = Node("head", 4, 0)


def place(**said: Any) -> Place:
    return Place.of(RaySettings.model_validate(said))


@pytest.mark.parametrize(
    ("said", "nodes", "room", "engines"),
    [
        ({}, [HEAD, H100, A100], 12, (12, 12)),
        ({"gpus": 8}, [HEAD, H100, A100], 1, (1, 1)),
        ({"gpus": 3}, [H100, A100], 3, (3, 3)),
        ({"accelerator_type": "A100"}, [HEAD, H100, A100], 4, (4, 4)),
        ({"accelerator_type": "B200"}, [HEAD, H100], 0, (1, 1)),
        ({"gpus": 4, "pipeline_parallel_size": 3}, [H100, A100], 1, (1, 1)),
        ({"gpus": 16}, [H100, A100], 0, (1, 1)),
        ({"replicas": 5}, [H100], 8, (5, 5)),
        ({"replicas": [2, 6]}, [H100], 8, (2, 6)),
        ({"gpus": 8}, [HEAD, HEAD], 2, (2, 2)),  # on CPUs
    ],
)
def test_what_fits(
    said: dict[str, Any], nodes: list[Node], room: int, engines: tuple[int, int]
) -> None:
    assert place(**said).room(nodes) == room
    assert place(**said).engines(nodes) == engines
    assert Place.of_json(asdict(place(**said))) == place(**said)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"address": "ray://head:10001"}, "is a client's"),
        ({"address": "head"}, "host:port"),
        ({"replicas": [3, 2]}, "the least, 3, is more than the most, 2"),
        ({"replicas": 0}, "greater than or equal to 1"),
        ({"engine_arguments": {"pipeline_parallel_size": 2}}, "pipeline_parallel_size"),
        ({"engine_arguments": {"distributed_executor_backend": "mp"}}, "distributed_executor"),
        ({"engine_arguments": {"trust_remote_code": True}}, "trust_remote_code"),
        ({"nodes": 3}, "Extra inputs"),
    ],
)
def test_what_is_refused(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RaySettings.model_validate(said)


@pytest.mark.parametrize("address", ["auto", "head:6379", "10.0.0.1:6379", "[::1]:6379"])
def test_addresses(address: str) -> None:
    assert place(address=address).address == address


def test_refusals_of_vllm_stand() -> None:
    model = changed_recipe().models[MODEL]
    assert RayInference().limits(model) == VllmInference().limits(model)


def test_without_ray_the_install_line_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(examine, "is_installed", lambda: False)
    monkeypatch.setattr(ray_backend, "is_installed", lambda: False)
    models = changed_recipe().model_dump(mode="json")["models"]
    models[MODEL]["backend"] = {"ray": {"address": "head:6379"}}
    run, inference = Run(changed_recipe({"models": models}), tmp_path), RayInference()
    examined = Examination(run, {MODEL: run.recipe.models[MODEL]}, GpuPool())
    (finding,) = inference.examine(examined)
    assert finding.verdict == "problem" and "make ray" in finding.text
    place = tmp_path / "work.parquet", tmp_path / "spool"
    with pytest.raises(BackendError, match=r"smollm2-135m\.backend\.ray: .*make ray"):
        inference.answer(Job(run, MODEL, "generate", *place, GpuPool(), Progress("", 1)))
    assert inference.engines([MODEL], run) == {}


@pytest.mark.parametrize(
    ("requests", "engines", "rows"),
    [(1, 1, 64), (262_144, 2, 64), (262_145, 2, 128), (4_500_000, 64, 2048), (300_000, 512, 64)],
)
def test_stretches_are_no_more_than_a_driver_can_remember(
    requests: int, engines: int, rows: int
) -> None:
    assert rows_of_stretch(requests, engines) == rows
    assert requests / rows <= max(BLOCKS, BLOCKS_OF_ENGINE * engines)


def test_an_engine_has_more_in_hand_than_it_holds() -> None:
    assert calls_at_once(64, 256) * 64 >= 2.5 * 512
    assert calls_at_once(4096, 256) == 2
