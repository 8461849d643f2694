"""What vLLM on this host needs for some models, and whether it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psutil

from alignment_assets.gpus.pool import GpuError, GpuPool
from alignment_assets.host.machine import GIBI
from alignment_assets.inference.backend import Finding
from alignment_assets.inference.weights_found import (
    SHARE_FOR_WEIGHTS,
    examine_build,
    examine_disk,
    examine_weights,
    weight_bytes,
)
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

# On a CPU, memory beside the weights.
ROOM_BESIDE_WEIGHTS = 1.2

# By name, with the GPUs that an engine takes.
Models = Mapping[str, tuple[Model, int]]


def examine_host(run: Run, models: Models, gpus: GpuPool) -> Iterator[Finding]:
    """Yield what there is to say of vLLM, GPUs, memory, the disk and each model's weights."""
    yield examine_build()
    yield from _gpus(gpus, models)
    yield _memory(models, gpus)
    yield from examine_disk(run, [model for model, _ in models.values()])
    for name in models:
        yield examine_weights(name, run)


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
    for name, (model, wanted) in models.items():
        weights, key = weight_bytes(model), f"models.{name}.backend.{model.backend_name}.gpus"
        if wanted > count:
            text = f"wants {wanted} of {count} GPUs; set {key}"
            yield Finding(f"GPUs for {name}", "problem", text)
        elif weights > SHARE_FOR_WEIGHTS * wanted * min(memory):
            text = (
                f"{weights / GIBI:.0f} GiB of weights in 16 bits do not fit {wanted} GPUs; "
                f"set {key}"
            )
            yield Finding(f"GPUs for {name}", "problem", text)


def _memory(models: Models, gpus: GpuPool) -> Finding:
    memory = psutil.virtual_memory()
    needed = max(weight_bytes(model) for model, _ in models.values()) * ROOM_BESIDE_WEIGHTS
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
