"""Ray's driver: a process that joins a cluster, or starts one of its own, and gives it requests.

It is a process apart from its step: Ray ends whoever has lost its cluster, and has its own way with
signals, logs and threads. How it is told what to do, and ends with its step, is
`alignment_assets.inference.worker_channel`'s part; what answers is `engine_worker`'s.
"""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
from alignment_assets.inference.stored_spool import PATIENCE_SECONDS
from alignment_assets.inference.vllm_settings import ENVIRONMENT, WINDOW_PER_SEQUENCE
from alignment_assets.inference.work_queue import CLAIM
from alignment_assets.inference.worker_channel import Report, serve

HEARING_SECONDS = 10.0
# Ray itself goes on trying for as long as somebody listens, and be it no Ray.
JOINING_SECONDS = 45.0
# Folders of local Rays begin so. Sockets have short paths.
FOLDERS = Path("/tmp")
FOLDER_PREFIX = "ray-step_"
# What Ray may hold of requests on their way, where a step starts a Ray of its own.
OBJECT_STORE_BYTES = 512 << 20
# Engines that Ray is to start again, where there is room, have so long for it when all others have
# nothing to do.
IDLE_SECONDS = 1800.0
# Workers put their last answers where others see them, and wait longer for object storage than the
# spool does before it gives up.
CLOSING_SECONDS = PATIENCE_SECONDS + 60.0


class ClusterError(Expected):
    """A cluster that cannot be joined, or was lost: what is left may be asked again."""


class EngineError(Expected):
    """Engines that cannot be started, or cannot go on: they would not when asked again."""


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
def joined(place: Place, late: Callable[[str], None]) -> Iterator[None]:
    """Be connected to the cluster, and to nothing afterwards.

    Args:
        place: which cluster.
        late: told why if it does not answer.

    Raises:
        ClusterError: it cannot be joined.
    """
    common = {
        "namespace": "alignment_assets",
        # Nothing of this host's folders is shipped: nodes have the same release installed.
        "runtime_env": {"env_vars": ENVIRONMENT},
        "log_to_driver": True,
    }
    if place.address is None:
        with folder_of_ray() as folder:
            most = place.replicas[1] or place.replicas[0]
            try:
                ray.init(
                    address="local",
                    num_cpus=max(most, place.own_gpus) + 1,
                    num_gpus=place.own_gpus,
                    object_store_memory=OBJECT_STORE_BYTES,
                    include_dashboard=False,
                    _temp_dir=str(folder),
                    **common,
                )
                yield
            finally:
                ray.shutdown()
        return
    try:
        try:
            _check_heard(place.address)
            why = f"nothing of Ray's answers in {JOINING_SECONDS:.0f} s: is it the head's port?"
            timer = threading.Timer(JOINING_SECONDS, late, [cannot_join(place.address, why)])
            timer.daemon = True
            timer.start()
            try:
                ray.init(address=place.address, **common)
            finally:
                timer.cancel()
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise ClusterError(cannot_join(place.address, str(error))) from error
        yield
    finally:
        ray.shutdown()


def cannot_join(address: str, why: str) -> str:
    """Return what there is to say of a cluster that cannot be joined."""
    node = "ray start" + ("" if address == "auto" else f" --address {address}")
    return (
        f"the Ray cluster {address} cannot be joined ({why}); this host has to be one of its "
        f"nodes: {node}; if it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    )


@contextmanager
def folder_of_ray() -> Iterator[Path]:
    """Yield a folder for a Ray of the step's own; those that killed drivers left go too."""
    for left in FOLDERS.glob(f"{FOLDER_PREFIX}*"):
        with suppress(OSError), _holding(left):  # another user's, or in use
            # One that was made a moment ago may be about to be held.
            if time.time() - left.stat().st_ctime > JOINING_SECONDS:
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=FOLDERS))
    with _holding(folder, fcntl.LOCK_EX):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _holding(folder: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _check_heard(address: str) -> None:
    """Raise OSError at once where nobody listens: Ray would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), HEARING_SECONDS):
            pass


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
        try:
            with joined(place, self._fail):
                if command["do"] == "look":
                    event = {"event": "nodes", "nodes": nodes()}
                else:
                    event = {"event": "done", **self._answer(command, place)}
        except EngineError as error:
            event = {"event": "broken", "error": str(error)}
        except ClusterError as error:
            self._fail(str(error))
            return
        self._report(**event)

    def _fail(self, why: str) -> None:
        self._report(event="failed", error=why)

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
            if state["version"] and state["idle"] > IDLE_SECONDS:
                raise ClusterError(
                    f"requests are in hand, and no engine has had anything to do for "
                    f"{IDLE_SECONDS:.0f} s: the cluster has no room for those that it lost"
                )
        state = self._closed(tally)
        if failed:
            raise _cause(failed[0], state)
        return state

    def _closed(self, tally: Any) -> dict[str, Any]:
        """Wait until engines have put all answers where others see them."""
        deadline = time.monotonic() + CLOSING_SECONDS
        while True:
            state: dict[str, Any] = ray.get(tally.state.remote())
            if not state["ending"] or time.monotonic() > deadline:
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
    least, most = (1, 1) if alone else _replicas(place)
    # The step tells how far it is; a log of days would be of nothing else.
    ray.data.DataContext.get_current().enable_progress_bars = False
    file, rows = WorkFile(Path(command["requests"])), 1 if alone else CLAIM
    work = ray.data.read_datasource(
        file,
        # A block is what an engine is given at once.
        override_num_blocks=math.ceil(file.rows / rows),
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
            batch_size=rows,
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
    kind = place.accelerator_type
    there = [node for node in nodes() if kind is None or kind in node["types"]]
    if place.pipeline_parallel_size > 1:
        return int(sum(node["gpus"] for node in there) // place.gpus_of_engine)
    return sum(int(node["gpus"] // place.gpus) for node in there)


def _replicas(place: Place) -> tuple[int, int]:
    """Return how many engines there are at least and at most: by default all that fit."""
    least, most = place.replicas
    if most is None:
        # On CPUs an engine takes all cores of its host.
        least = most = max(least, _room(place) if _gpus() else len(nodes()))
    return least, most


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


def _cause(error: BaseException, state: dict[str, Any]) -> Expected:
    """Return what an error of Ray's says at its root, and whether it is the engines' or Ray's."""
    root = error
    while isinstance(inner := getattr(root, "cause", None), BaseException):
        root = inner
    if "No module named 'alignment_assets'" in str(error):
        return EngineError("a node has no alignment_assets: install the same release on all nodes")
    if isinstance(root, Expected):
        return EngineError(str(root))
    # Ray puts a traceback before what it was.
    *_, said = [line.strip() for line in str(root).splitlines() if line.strip()] or [repr(root)]
    if not state["version"]:
        return EngineError(f"no engine could be started: {said}")
    words = state["last_words"]
    return ClusterError(f"{said}; the last engine to die was {words}" if words else said)


def main() -> None:
    """Serve until standard input ends."""
    serve(lambda report: Driver(report).handle)


if __name__ == "__main__":
    main()
