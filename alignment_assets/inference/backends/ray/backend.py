"""vLLM on a Ray cluster as inference, or on a Ray that a step starts on this host for itself.

Here belongs that what was lost on the way is asked again; what Ray is given is `driver`'s part.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from alignment_assets.gpus.pool import GPU_MEMORY_SHARE
from alignment_assets.inference.backend import BackendError, Examination, Finding, Inference, Job
from alignment_assets.inference.backends.ray.examine import (
    NOT_INSTALLED,
    examine_clusters,
    is_installed,
    look,
)
from alignment_assets.inference.backends.ray.placing import Place
from alignment_assets.inference.backends.ray.process import DriverProcess
from alignment_assets.inference.backends.ray.settings import RaySettings
from alignment_assets.inference.backends.ray.stretches import is_short
from alignment_assets.inference.progress import COUNTS
from alignment_assets.inference.retries import backoff
from alignment_assets.inference.vllm_settings import engine_settings, vllm_limits
from alignment_assets.inference.work_queue import write_unanswered
from alignment_assets.inference.worker_process import WorkerError
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

logger = logging.getLogger(__name__)

# A cluster that is lost is tried again for so long, as endpoints are; then the run ends.
LOST_SECONDS = 300.0
PAUSE_SECONDS = (5.0, 60.0)
# The driver reports every second, once it has joined.
SILENT_SECONDS = 900.0


class RayInference(Inference):
    """vLLM in the actors of a Ray cluster.

    Attributes:
        driver: the process that gives Ray requests.
    """

    Settings: ClassVar[type[RaySettings]] = RaySettings
    driver: ClassVar[type[DriverProcess]] = DriverProcess

    def limits(self, model: Model) -> str:
        """Return the model's context length: only that decides about a request's fate."""
        return vllm_limits(model)

    def answer(self, job: Job) -> None:
        """Have a cluster answer; see `Inference.answer`.

        Raises:
            BackendError: its engines cannot be started, or die of whatever they are asked.
            WorkerError: it cannot be joined, or is lost again and again.
        """
        if not is_installed():
            raise BackendError(f"models.{job.name}.backend.ray: Ray is {NOT_INSTALLED}")
        with _place(job) as (place, environment):
            _Asking(job, self.driver, self.limits(job.model), place, environment).run()

    def engines(self, models: Collection[str], run: Run) -> dict[str, int]:
        """Return how many engines the clusters of models have room for; see `Inference.engines`."""
        asked = {name: Place.of(settings_of(run.recipe.models[name])) for name in models}
        found: dict[str, int] = {}
        if not is_installed():
            return found
        for address in {place.address for place in asked.values() if place.address is not None}:
            try:
                nodes = look(run, address)
            except WorkerError as error:
                logger.warning("%s", str(error).splitlines()[0])
                continue
            for name, place in asked.items():
                if place.address == address:
                    found[name] = max(1, min(place.engines(nodes)[1], place.room(nodes)))
        return found

    def examine(self, examined: Examination) -> Iterator[Finding]:
        """Yield what there is to say of the cluster and of the models' weights."""
        models = {name: (model, settings_of(model)) for name, model in examined.models.items()}
        yield from examine_clusters(examined.run, models, examined.gpus)


def settings_of(model: Model) -> RaySettings:
    """Return what the recipe says to Ray of a model."""
    return RaySettings.model_validate(model.backend_settings)


def environment_of_own() -> dict[str, str]:
    """Return the environment of a Ray that a step starts for itself."""
    return {
        # Its servers listen on this host alone, and want a word that only its processes know.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # It keeps no record of each task, which nobody reads.
        "RAY_task_events_report_interval_ms": "0",
    }


@contextmanager
def _place(job: Job) -> Iterator[tuple[Place, dict[str, str]]]:
    """Yield where engines run, and the driver's environment; GPUs of this host are leased."""
    options = settings_of(job.model)
    place = Place.of(options)
    environment = {"RAY_USAGE_STATS_ENABLED": "0"}
    if options.address is not None:
        yield place, environment
        return
    environment |= environment_of_own()
    with job.gpus.lease(
        place.gpus_of_engine,
        job.name,
        replicas=place.replicas,
        memory_share=options.engine_arguments.get("gpu_memory_utilization", GPU_MEMORY_SHARE),
        log=job.log,
    ) as leases:
        devices = [gpu.uuid for lease in leases for gpu in lease.devices]
        if devices:
            environment |= leases[0].environment | {"CUDA_VISIBLE_DEVICES": ",".join(devices)}
            place = replace(place, replicas=(len(leases),) * 2, own_gpus=len(devices))
        yield place, environment


class _Asking:
    """The answering of one work file."""

    def __init__(
        self,
        job: Job,
        driver: type[DriverProcess],
        limits: str,
        place: Place,
        environment: Mapping[str, str],
    ) -> None:
        options = settings_of(job.model)
        settings = engine_settings(job.run, job.name, job.kind, options, gpus=options.gpus)
        settings["limits"] = limits
        self._driver, self._place = driver, place
        self._job, self._limits, self._environment = job, limits, environment
        self._command = {
            "do": "answer",
            "settings": settings,
            "place": asdict(place),
            "spool": str(job.spool.absolute()),
        }
        self._given_up: set[str] = set()
        self._counted = dict.fromkeys(COUNTS, 0)
        self._restarts = self._gpus = 0
        self._has_joined, self._last_words = False, ""
        job.progress.weights = f"{settings['location']}@{settings['content']}"

    def run(self) -> None:
        """Ask all, then what is left of it, until nothing is left."""
        progress, requests = self._job.progress, self._job.requests
        left, alone = progress.total, False
        lost_since: float | None = None
        losses = 0
        self._job.report(progress)
        while True:
            try:
                # What long stretches left is asked in short ones first.
                alone, lost = self._ask(requests, alone=alone) and is_short(left), None
            except WorkerError as error:
                if not self._has_joined:
                    raise
                alone, lost = False, error
                # Its engines live on for a moment, and what they have on disk counts once they end.
                time.sleep(backoff(losses + 1, *PAUSE_SECONDS))
            rest = self._job.requests.with_name(f"rest-{time.monotonic_ns()}.parquet")
            count = write_unanswered(
                requests, self._job.spool, self._limits, rest, without=self._given_up
            )
            self._count(count)
            if not count:
                return
            if lost is None and not alone and count == left:
                raise WorkerError(
                    f"{count:,} requests came back from the cluster without an answer; see "
                    f"{', '.join(progress.logs)}"
                    f"{self._last_words and f'; the last engine to fail was {self._last_words}'}"
                )
            if lost is not None:
                now = time.monotonic()
                lost_since = now if lost_since is None or count < left else lost_since
                if now - lost_since > LOST_SECONDS:
                    raise WorkerError(
                        f"lost for {LOST_SECONDS:.0f} s; what was answered is kept, so start the "
                        f"cluster and run it again; {lost}"
                    )
                self._job.log(f"{self._job.name}: {count:,} requests are asked again: {lost}")
                losses = losses + 1 if count == left else 0
            left, requests = count, rest

    def _ask(self, requests: Path, *, alone: bool) -> bool:
        """Ask the requests of a work file; return whether some have to be asked one by one."""
        driver = self._driver(self._job.name, self._job.run.logs, self._environment)
        self._job.progress.logs.append(str(driver.log))
        command = {**self._command, "requests": str(requests.absolute()), "alone": alone}
        try:
            for event in driver.ask(command, until="done", silence=SILENT_SECONDS):
                self._tell(event)
        finally:
            driver.close()
        self._last_words = event["last_words"]
        return bool(event["left_out"])

    def _tell(self, event: Mapping[str, Any]) -> None:
        progress = self._job.progress
        if event["event"] == "joined":
            self._has_joined = True
            self._gpus = self._place.gpus_of_engine if event["gpus"] else 0
            self._job.log(
                f"{self._job.name}: joined a Ray cluster of {event['nodes']} nodes with "
                f"{event['gpus']:.0f} GPUs"
            )
            return
        if event["event"] == "broken":
            raise BackendError(
                f"{self._job.name}: {event['error']}; see {', '.join(progress.logs)}"
            )
        if event["version"] and progress.state == "loading":
            progress.answering()
        for name in COUNTS:
            setattr(progress, name, self._counted[name] + event[name])
        progress.engine, progress.engine_version = "vllm", event["version"]
        progress.engines = event["engines"] or progress.engines
        progress.restarts = self._restarts + event["restarts"]
        progress.gpus = max(progress.gpus, event["engines"] * self._gpus)
        self._given_up.update(event["given_up"])
        self._job.report(progress)

    def _count(self, left: int) -> None:
        """Take over what was counted, with what is on disk as the measure of done."""
        progress = self._job.progress
        self._counted = {name: getattr(progress, name) for name in COUNTS}
        self._counted |= {"in_flight": 0, "done": progress.total - left}
        self._restarts = progress.restarts
        progress.done, progress.in_flight = progress.total - left, 0
        self._job.report(progress)
