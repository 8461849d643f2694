"""What Ray needs for some models, and whether a cluster has it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Finding
from alignment_assets.inference.backends.ray.placing import Node, Place
from alignment_assets.inference.backends.ray.process import DriverProcess
from alignment_assets.inference.backends.ray.settings import RaySettings
from alignment_assets.inference.host_found import examine_host
from alignment_assets.inference.weights_found import examine_weights
from alignment_assets.inference.worker_process import WorkerError
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

# A cluster answers at once, or not at all.
LOOK_SECONDS = 60.0
NOT_INSTALLED = "not installed; run `make ray`, or pip install 'alignment-assets[ray]'"


def is_installed() -> bool:
    """Return whether Ray can be imported."""
    return importlib.util.find_spec("ray") is not None


def examine_clusters(
    run: Run, models: Mapping[str, tuple[Model, RaySettings]], gpus: GpuPool
) -> Iterator[Finding]:
    """Yield what there is to say of Ray, this host and each cluster, and each model's weights."""
    if not is_installed():
        yield Finding("Ray", "problem", NOT_INSTALLED)
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
        hosts = ", ".join(sorted({node.host for node in nodes}))
        text = f"{len(nodes)} nodes ({hosts}), {sum(node.gpus for node in nodes):.0f} GPUs"
        yield Finding(f"Ray cluster {address}", "ok", text)
        for name, (_, settings) in models.items():
            if settings.address == address:
                yield _fit(name, Place.of(settings), nodes)
    for name in models:
        yield examine_weights(name, run)


def look(run: Run, address: str) -> list[Node]:
    """Return a cluster's nodes that are alive.

    Raises:
        WorkerError: it cannot be joined.
    """
    driver = DriverProcess("look", run.logs, {"RAY_USAGE_STATS_ENABLED": "0"})
    place = asdict(Place(address, None, 1, 1, None))
    try:
        *_, event = driver.ask({"do": "look", "place": place}, until="nodes", silence=LOOK_SECONDS)
    finally:
        driver.close()
    return [Node(**node) for node in event["nodes"]]


def _fit(name: str, place: Place, nodes: Sequence[Node]) -> Finding:
    subject, key = f"engines for {name}", f"models.{name}.backend.ray"
    if place.accelerator_type is not None and not place.fitting(nodes):
        there = ", ".join(sorted({kind for node in nodes for kind in node.kinds})) or "none"
        text = f"no node has {place.accelerator_type} (there: {there}); set {key}.accelerator_type"
        return Finding(subject, "problem", f"{text}, or add nodes")
    if not any(node.gpus for node in nodes):
        return Finding(subject, "warning", "no node has GPUs: engines run on CPUs")
    room, (least, _) = place.room(nodes), place.replicas or (1, 1)
    text = f"room for {room} of {place.gpus_of_engine} GPUs"
    if room < least:
        text += f", {least} are wanted: they wait; add nodes, or set {key}.gpus or .replicas"
        return Finding(subject, "problem", text)
    return Finding(subject, "ok", text)


def _short(error: WorkerError) -> str:
    return str(error).splitlines()[0]
