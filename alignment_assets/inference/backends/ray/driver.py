"""Ray's driver: a process that joins a cluster, or starts one of its own, and gives it requests.

It is a process apart from its step: Ray ends whoever has lost its cluster, and has its own way with
signals, logs and threads. How it is told what to do, and ends with its step, is
`alignment_assets.inference.worker_channel`'s part; what answers is `engine_worker`'s.
"""

from __future__ import annotations

import threading
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
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
from alignment_assets.inference.backends.ray.joining import ClusterError, joined
from alignment_assets.inference.backends.ray.placing import Node, Place
from alignment_assets.inference.backends.ray.stretches import calls_at_once, rows_of_stretch
from alignment_assets.inference.backends.ray.tally import Tally
from alignment_assets.inference.backends.ray.work_file import WorkFile
from alignment_assets.inference.progress import PROGRESS_SECONDS
from alignment_assets.inference.stored_spool import PATIENCE_SECONDS
from alignment_assets.inference.worker_channel import Report, serve

# Processes that read the work file; one reads tens of thousands of requests a second.
READERS = 1
# Engines that Ray is to start again, where there is room, have so long for it when all others have
# nothing to do.
IDLE_SECONDS = 1800.0
# Workers put their last answers where others see them, and wait longer for object storage than the
# spool does before it gives up.
CLOSING_SECONDS = PATIENCE_SECONDS + 60.0
# Where the run ends with an error, Ray may leave them as they are: what they put meanwhile counts.
ABORTING_SECONDS = 10.0


class EngineError(Expected):
    """Engines that cannot be started, or cannot go on: they would not when asked again."""


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
        place = Place.of_json(command["place"])
        try:
            with joined(place, self._fail):
                if command["do"] == "look":
                    event = {"event": "nodes", "nodes": [asdict(node) for node in nodes()]}
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
        state = self._closed(tally, ABORTING_SECONDS if failed else CLOSING_SECONDS)
        if failed:
            raise _cause(failed[0], state)
        return state

    def _closed(self, tally: Any, patience: float) -> dict[str, Any]:
        """Wait until engines have put all answers where others see them."""
        deadline = time.monotonic() + patience
        while True:
            state: dict[str, Any] = ray.get(tally.state.remote())
            if not state["ending"] or time.monotonic() > deadline:
                return state
            time.sleep(0.05)


def nodes() -> list[Node]:
    """Return the cluster's nodes that are alive."""
    kind = "accelerator_type:"
    return [
        Node(
            node["NodeManagerHostname"],
            node["Resources"].get("CPU", 0),
            node["Resources"].get("GPU", 0),
            tuple(name.removeprefix(kind) for name in node["Resources"] if name.startswith(kind)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _gpus() -> float:
    return sum(node.gpus for node in nodes())


def _answered(command: dict[str, Any], start: Start, place: Place, tally: Any, here: Any) -> Any:
    """Return the dataset of how many requests were answered, which is done when it is read."""
    alone, settings = command["alone"], dict(command["settings"])
    requests = Path(command["requests"])
    least, most = (1, 1) if alone else place.engines(nodes())
    rows = 1 if alone else rows_of_stretch(pq.read_metadata(requests).num_rows, most)
    at_once = 1 if alone else calls_at_once(rows, settings["max_num_seqs"])
    file = WorkFile(requests, rows)
    # The step tells how far it is; a log of days would be of nothing else.
    ray.data.DataContext.get_current().enable_progress_bars = False
    work = ray.data.read_datasource(
        file,
        override_num_blocks=file.blocks,
        # As no CPU is asked for, Ray would start a process for each row group that it has room for.
        concurrency=READERS,
        # Where the file is; it takes hardly any time.
        ray_remote_args={"num_cpus": 0, "scheduling_strategy": here},
    )
    remote = _resources(place, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work.map_batches(
            EngineWorker,
            fn_constructor_args=(start, settings, command["spool"], tally),
            fn_constructor_kwargs={"alone": alone, "on_cpus": not _gpus()},
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=least,
                max_size=most,
                max_tasks_in_flight_per_actor=at_once,
                max_concurrent_calls_per_actor=at_once,
                enable_true_multi_threading=True,
            ),
            **remote,
        )


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
    if state["broken"]:
        return EngineError(state["broken"])
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
