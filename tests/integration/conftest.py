"""Fixtures with real engines: the demo's model, and requests to ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.answer_log import settle_logs
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.backends.vllm.backend import VllmInference, close_engines
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import REQUEST_SCHEMA, Request
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from tests.support.ids import named, uid


@pytest.fixture(scope="module", autouse=True)
def _engine_ends_with_the_module() -> Iterator[None]:
    yield
    close_engines()


@pytest.fixture(scope="module")
def reference(smollm2: Path) -> tuple[Any, Any]:
    """The demo's model in 32 bits and its tokenizer, as transformers runs them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(smollm2)


def write_requests(path: Path, requests: Sequence[Request]) -> None:
    """Write a work file; the names that tests give requests become ids."""
    rows = [
        {
            **vars(request),
            "request_id": uid(request.request_id),
            "sampling": json.dumps(request.sampling),
        }
        for request in requests
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA), path)


def read_spool(folder: Path) -> dict[str, dict[str, Any]]:
    """Return a spool's answers by the names of their requests, those of killed writers too.

    Fails on a doubled one.
    """
    settle_logs(folder, print)
    rows = [
        row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]
    answers = {named(row["request_id"]): row for row in rows}
    assert len(answers) == len(rows)
    return answers


def ask(
    recipe: Recipe,
    model: str,
    requests: Sequence[Request],
    home: Path,
    inference: Inference | None = None,
) -> dict[str, dict[str, Any]]:
    """Have vLLM on this host, or whoever is given, answer requests for one of a recipe's models."""
    home.mkdir(parents=True, exist_ok=True)
    work, spool = home / "requests.parquet", home / "spool"
    write_requests(work, requests)
    progress = Progress("test", len(requests))
    run, kind = Run(recipe, home), requests[0].kind
    (inference or VllmInference()).answer(Job(run, model, kind, work, spool, GpuPool(), progress))
    assert progress.done == len(requests)
    return read_spool(spool)
