"""Ray's driver: a process that joins a cluster, or starts one of its own, and gives it requests.

It is a process apart from its step: Ray ends whoever has lost its cluster, and has its own way with
signals, logs and threads. How it is told what to do, and ends with its step, is
`alignment_assets.inference.worker_channel`'s part; what answers is `engine_worker`'s.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.exceptions
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from alignment_assets.host.expected import Expected
from alignment_assets.inference.backends.ray.engine_worker import EngineWorker, Start, start_vllm
from alignment_assets.inference.backends.ray.tally import Tally
from alignment_assets.inference.backends.ray.work_file import WorkFile
from alignment_assets.inference.progress import PROGRESS_SECONDS
from alignment_assets.inference.vllm_settings import ENVIRONMENT, WINDOW_PER_SEQUENCE
from alignment_assets.inference.work_queue import CLAIM
from alignment_assets.inference.worker_channel import Report, serve

# What Ray may hold of requests on their way, where a step starts a Ray of its own.
OBJECT_STORE_BYTES = 512 << 20
# Engines that Ray is to start again have so long for it; those that it has no room for, so long
# after all others are done.
RESTART_SECONDS, LOST_SECONDS = 3600.0, 30.0
# Workers put their last answers where others see them; one that died says nothing.
CLOSING_SECONDS = 120.0


class ClusterError(Expected):
    """A cluster that cannot be joined, or was lost."""


@dataclass(frozen=True)
class Place:
    """Where engines run, and how many; see `settings.RaySettings`.

    Attributes:
        own_gpus: those leased for a Ray of the step's own.
    """

    address: str | None
    replicas: tuple[int, int | None]
    gpus: int
    pipeline_parallel_size: int
    accelerator_type: str | None
    own_gpus: int = 0

    @property
    def gpus_of_engine(self) -> int:
        """How many GPUs one engine takes."""
        return self.gpus * self.pipeline_parallel_size


@contextmanager
def joined(place: Place) -> Iterator[None]:
    """Be connected to the cluster, and to nothing afterwards.

    Raises:
        ClusterError: it cannot be joined.
    """
    common = {
        "namespace": "alignment_assets",
        # Nothing of this host's folders is shipped: nodes have the same release installed.
        "runtime_env": {"env_vars": ENVIRONMENT},
        "log_to_driver": True,
    }
    folder = None
    try:
        if place.address is None:
            # Sockets have short paths.
            folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
            most = place.replicas[1] or place.replicas[0]
            ray.init(
                address="local",
                num_cpus=max(most, place.own_gpus) + 1,
                num_gpus=place.own_gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=folder,
                **common,
            )
        else:
            try:
                ray.init(address=place.address, **common)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise ClusterError(
                    f"the Ray cluster {place.address} cannot be joined ({error}); this host has to "
                    f"be one of its nodes: ray start --address {place.address}"
                ) from error
        yield
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


class Driver:
    """Takes commands one by one.

    Args:
        report: told how far it is.
        start: makes an engine, in an actor.
    """

    def __init__(self, report: Report, start: Start = start_vllm) -> None:
        self._report, self._start = report, start

    def handle(self, command: dict[str, Any]) -> None:
        """Carry out one command."""
        place = Place(**{**command["place"], "replicas": tuple(command["place"]["replicas"])})
        with joined(place):
            if command["do"] == "look":
                event = {"event": "nodes", "nodes": nodes()}
            else:
                event = {"event": "done", **self._answer(command, place)}
        self._report(**event)

    def _answer(self, command: dict[str, Any], place: Place) -> dict[str, Any]:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        tally = ray.remote(Tally).options(num_cpus=0, scheduling_strategy=here).remote()
        ended = threading.Event()
        failed: list[BaseException] = []
        self._report(event="joined", nodes=len(nodes()), gpus=_gpus())

        def drain() -> None:
            try:
                for _ in _answered(command, self._start, place, tally, here).iter_batches(
                    batch_size=None, batch_format="pyarrow", prefetch_batches=0
                ):
                    pass
            except BaseException as error:
                failed.append(error)
            finally:
                ended.set()

        threading.Thread(target=drain, name="drain", daemon=True).start()
        while not ended.wait(PROGRESS_SECONDS):
            state = ray.get(tally.state.remote())
            self._report(event="progress", **state)
            room = _room(place)
            patience = LOST_SECONDS if state["engines"] > room else RESTART_SECONDS
            if state["version"] and state["idle"] > patience:
                raise ClusterError(
                    f"of {state['engines']} engines some were lost, and the cluster has room for "
                    f"{room}; what those had in hand is asked again"
                )
        state = self._closed(tally)
        if failed:
            raise _cause(failed[0], state["last_words"])
        return state

    def _closed(self, tally: Any) -> dict[str, Any]:
        """Wait until engines have put all answers where others see them."""
        deadline = time.monotonic() + CLOSING_SECONDS
        while True:
            state: dict[str, Any] = ray.get(tally.state.remote())
            if not state["engines"] or time.monotonic() > deadline:
                return state
            time.sleep(0.05)


def nodes() -> list[dict[str, Any]]:
    """Return the nodes that are alive: ``host``, ``cpus``, ``gpus``, ``types`` of accelerators."""
    return [
        {
            "host": node["NodeManagerHostname"],
            "cpus": node["Resources"].get("CPU", 0),
            "gpus": node["Resources"].get("GPU", 0),
            "types": [
                name.removeprefix("accelerator_type:")
                for name in node["Resources"]
                if name.startswith("accelerator_type:")
            ],
        }
        for node in ray.nodes()
        if node["Alive"]
    ]


def _gpus() -> float:
    return float(ray.cluster_resources().get("GPU", 0))


def _answered(command: dict[str, Any], start: Start, place: Place, tally: Any, here: Any) -> Any:
    """Return the dataset of how many requests were answered, which is done when it is read."""
    alone, settings = command["alone"], dict(command["settings"])
    # As much as the engine takes at once, and what it gets while a stretch of it ends.
    at_once = 1 if alone else math.ceil(WINDOW_PER_SEQUENCE * settings["max_num_seqs"] / CLAIM) + 1
    least, most = (1, 1) if alone else (place.replicas[0], _most(place))
    file = WorkFile(Path(command["requests"]))
    work = ray.data.read_datasource(
        file,
        # A block is what an engine is given at once.
        override_num_blocks=math.ceil(file.rows / (1 if alone else CLAIM)),
        # Where the file is; it takes hardly any time.
        ray_remote_args={"num_cpus": 0, "scheduling_strategy": here},
    )
    remote = _resources(place, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work.map_batches(
            EngineWorker,
            fn_constructor_args=(start, settings, command["spool"], tally),
            fn_constructor_kwargs={"alone": alone},
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=least,
                max_size=most,
                max_tasks_in_flight_per_actor=1 if alone else 2 * at_once,
                max_concurrent_calls_per_actor=at_once,
                enable_true_multi_threading=True,
            ),
            **remote,
        )


def _room(place: Place) -> int:
    """Return how many engines the cluster has room for, as it is now."""
    there = nodes()
    if not any(node["gpus"] for node in there):
        return sum(int(node["cpus"]) for node in there)
    if place.pipeline_parallel_size > 1:
        return int(sum(node["gpus"] for node in there) // place.gpus_of_engine)
    return sum(int(node["gpus"] // place.gpus) for node in there)


def _most(place: Place) -> int:
    """Return how many engines are started at most."""
    if place.replicas[1]:
        return place.replicas[1]
    # On CPUs an engine takes all cores of its host.
    return max(place.replicas[0], _room(place) if _gpus() else len(nodes()))


def _resources(place: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what Ray reserves for an engine, and have the engine know of it."""
    if not _gpus():
        settings["tensor_parallel_size"] = 1
        return {"num_cpus": 1}
    arguments = dict(settings["engine_arguments"])
    settings["engine_arguments"] = arguments
    if place.pipeline_parallel_size == 1:
        if place.gpus > 1:
            arguments["distributed_executor_backend"] = "mp"
        kind = {"accelerator_type": place.accelerator_type} if place.accelerator_type else {}
        return {"num_cpus": 1, "num_gpus": place.gpus, **kind}
    arguments["pipeline_parallel_size"] = place.pipeline_parallel_size
    arguments["distributed_executor_backend"] = "ray"
    bundle = {"GPU": 1.0, "CPU": 1.0}
    if place.accelerator_type:
        bundle[f"accelerator_type:{place.accelerator_type}"] = 0.001
    bundles = [bundle] * place.gpus_of_engine

    def placed() -> dict[str, Any]:
        group = placement_group(bundles, strategy="PACK")
        return {
            "scheduling_strategy": PlacementGroupSchedulingStrategy(
                group, placement_group_capture_child_tasks=True
            )
        }

    return {"num_cpus": 0, "num_gpus": 0, "ray_remote_args_fn": placed}


def _cause(error: BaseException, last_words: str) -> Exception:
    """Return what an error of Ray's says at its root."""
    root: BaseException = error
    while True:
        inner = getattr(root, "cause", None) or root.__cause__
        if not isinstance(inner, BaseException) or isinstance(root, Expected):
            break
        root = inner
    said = str(root).strip() or type(root).__name__
    if "No module named 'alignment_assets'" in str(error):
        said = "a node of the cluster has no alignment_assets: install the same release on all"
    if last_words and not isinstance(root, Expected):
        said = f"{said}; the last engine to die was {last_words}"
    return ClusterError(said)


def main() -> None:
    """Serve until standard input ends."""
    serve(lambda report: Driver(report).handle)


if __name__ == "__main__":
    main()
