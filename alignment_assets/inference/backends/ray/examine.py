"""What Ray needs for some models, and whether a cluster has it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Finding
from alignment_assets.inference.backends.ray.process import DriverProcess
from alignment_assets.inference.backends.ray.settings import RaySettings
from alignment_assets.inference.host_found import examine_host
from alignment_assets.inference.weights_found import examine_weights
from alignment_assets.inference.worker_process import WorkerError
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

# A cluster answers at once, or not at all.
LOOK_SECONDS = 60.0
Nodes = list[dict[str, Any]]


def examine_clusters(
    run: Run, models: Mapping[str, tuple[Model, RaySettings]], gpus: GpuPool
) -> Iterator[Finding]:
    """Yield what there is to say of Ray, this host and each cluster, and each model's weights."""
    if importlib.util.find_spec("ray") is None:
        text = "not installed; run `make ray`, or pip install 'alignment-assets[ray]'"
        yield Finding("Ray", "problem", text)
        return
    yield Finding("Ray", "ok", f"ray {importlib.metadata.version('ray')}")
    here = {
        name: (model, settings.gpus_of_engine)
        for name, (model, settings) in models.items()
        if settings.address is None
    }
    if here:
        yield from examine_host(run, here, gpus)
    models = {name: both for name, both in models.items() if name not in here}
    for address in sorted({str(settings.address) for _, settings in models.values()}):
        try:
            nodes = look(run, address)
        except WorkerError as error:
            yield Finding(f"Ray cluster {address}", "problem", _short(error))
            continue
        gpus = sum(node["gpus"] for node in nodes)
        hosts = ", ".join(sorted({node["host"] for node in nodes}))
        text = f"{len(nodes)} nodes ({hosts}), {gpus:.0f} GPUs"
        yield Finding(f"Ray cluster {address}", "ok", text)
        for name, (_, settings) in models.items():
            if settings.address == address:
                yield _fit(name, settings, nodes)
    for name in models:
        yield examine_weights(name, run)


def look(run: Run, address: str) -> Nodes:
    """Return a cluster's nodes; see `driver.nodes`.

    Raises:
        WorkerError: it cannot be joined.
    """
    driver = DriverProcess("doctor", run.logs, {"RAY_USAGE_STATS_ENABLED": "0"})
    place = {
        "address": address,
        "replicas": (1, None),
        "gpus": 1,
        "pipeline_parallel_size": 1,
        "accelerator_type": None,
    }
    try:
        *_, event = driver.ask({"do": "look", "place": place}, until="nodes", silence=LOOK_SECONDS)
    finally:
        driver.close()
    nodes: Nodes = event["nodes"]
    return nodes


def _fit(name: str, settings: RaySettings, nodes: Nodes) -> Finding:
    subject, key = f"engines for {name}", f"models.{name}.backend.ray"
    kind = settings.accelerator_type
    fitting = [node for node in nodes if kind is None or kind in node["types"]]
    if kind is not None and not fitting:
        there = ", ".join(sorted({kind for node in nodes for kind in node["types"]})) or "none"
        text = f"no node has {kind} (there: {there}); set {key}.accelerator_type, or add nodes"
        return Finding(subject, "problem", text)
    if not any(node["gpus"] for node in fitting):
        return Finding(subject, "warning", "no node has GPUs: engines run on CPUs")
    if settings.pipeline_parallel_size > 1:
        room = int(sum(node["gpus"] for node in fitting) // settings.gpus_of_engine)
    else:
        room = sum(int(node["gpus"] // settings.gpus) for node in fitting)
    replicas = settings.replicas
    least = replicas[0] if isinstance(replicas, tuple) else replicas or 1
    text = f"room for {room} of {settings.gpus_of_engine} GPUs"
    if room < least:
        text += f", {least} are wanted: they wait; add nodes, or set {key}.gpus or .replicas"
        return Finding(subject, "problem", text)
    return Finding(subject, "ok", text)


def _short(error: WorkerError) -> str:
    return str(error).splitlines()[0]
