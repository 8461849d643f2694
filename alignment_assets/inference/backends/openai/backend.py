"""OpenAI-compatible servers as inference: a model's requests over HTTP, into the spool.

Here belong what of the recipe reaches the servers and what is reported of them; the calls are
`client`'s part.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

from alignment_assets.inference.backend import Examination, Finding, Inference, Job
from alignment_assets.inference.backends.openai.endpoint import Endpoint
from alignment_assets.inference.backends.openai.settings import OpenAISettings
from alignment_assets.inference.fingerprint import resolve_weights
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import KINDS, Answer, AnsweredBy, Kind
from alignment_assets.inference.work_queue import WorkQueue
from alignment_assets.recipe.environment import UnsetError, from_environment
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

# Garbage in cycles is looked for after so many new objects: a few thousand requests in flight.
YOUNG_OBJECTS = 20_000


class OpenAIInference(Inference):
    """The endpoints that a model of the recipe names.

    What another server does with a request is its own affair, so some things hold for engines on
    this host that do not hold here:

    - The API has no way to say that text is only text: a server such as vLLM reads what spells a
      special token in a conversation (``<|im_start|>``) as that token. Texts are sent as they are.
    - Ratings and comparisons are exact where the server is vLLM: it is asked for the labels' own
      tokens. Others give the 20 likeliest tokens, and a label that is not among them is missing.
    - A prompt that leaves too little room for ``max_tokens`` is not refused if its answer is short
      enough; an answer that the server cuts off earlier is, as ``context_length``.
    - A template that writes a date gets the recipe's as ``date_string``; one that asks
      ``strftime_now`` although it has that gets today's.
    """

    Settings: ClassVar[type[OpenAISettings]] = OpenAISettings
    loads_weights: ClassVar[bool] = False
    kinds: ClassVar[frozenset[Kind]] = KINDS - {"loglikelihood"}

    def limits(self, model: Model) -> str:
        """Return the served model and the context length that the recipe expects of it."""
        values = {
            "backend": "openai",
            "model": served_name(model),
            "max_model_len": model.max_model_len,
        }
        return json.dumps(values, sort_keys=True)

    def answer(self, job: Job) -> None:
        """Send the job's requests to the model's endpoints; see `Inference.answer`.

        Raises:
            EndpointError: an endpoint does not fit the recipe, or all have been gone for minutes;
                what was answered is in the spool.
        """
        weights = resolve_weights(job.name, job.run)
        job.progress.weights = f"{weights.location}@{weights.content}"
        job.report(job.progress)
        # Outside the event loop, so that whatever ends it, answers are on disk.
        with _Journal(job, self.limits(job.model)) as journal:
            _run(_drain(job, journal))

    def examine(self, examined: Examination) -> Iterator[Finding]:
        """Yield what each endpoint of the models answers now."""
        from alignment_assets.inference.backends.openai.http import EndpointError, Server, look_at

        for name, model in examined.models.items():
            subject, where = f"model {name}", place_of(name, examined.run)
            try:
                found = asyncio.run(look_at(settings_of(model), where, served_name(model)))
            except (EndpointError, UnsetError) as error:
                yield Finding(subject, "problem", str(error))
                continue
            answering = any(isinstance(server, Server) for server in found.values())
            for url, server in found.items():
                if isinstance(server, Server):
                    yield Finding(subject, "ok", f"{url} serves it, {server.version}")
                else:
                    # The others answer for it meanwhile.
                    yield Finding(subject, "warning" if answering else "problem", server)


def _run(work: Coroutine[Any, Any, None]) -> None:
    # Here, because importing definitions must not load an event loop.
    import uvloop

    # What was loaded before is no garbage: to look through it again and again, as answers pile up
    # on their way to the disk, takes a quarter of the time.
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *thresholds[1:])
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def _drain(job: Job, journal: _Journal) -> None:
    # Here, because importing definitions must not load an HTTP client.
    from alignment_assets.inference.backends.openai.client import EndpointClient
    from alignment_assets.inference.backends.openai.http import open_http
    from alignment_assets.inference.backends.openai.protocol import ServedModel

    model, recipe = job.model, job.run.recipe
    served = ServedModel(
        served_name(model),
        template=recipe.chat_template(model),
        template_arguments=model.chat_template_arguments,
        template_date=recipe.template_date,
    )
    async with open_http(settings_of(model), place_of(job.name, job.run)) as http:
        client = EndpointClient(
            http,
            served,
            recipe.inference.attempts,
            journal.emit,
            lambda: journal.beat(client.endpoints),
            job.log,
        )
        await client.check()
        journal.answering(client.endpoints)
        await client.run(iter(WorkQueue(job.requests)))
        journal.beat(client.endpoints)


class _Journal:
    """Spools answers, those of each version of server under its own name, and counts them."""

    def __init__(self, job: Job, limits: str) -> None:
        self._job = job
        self._limits = limits
        self._progress = job.progress
        self._report = job.report
        self._open = ExitStack()
        self._writers: dict[str, SpoolWriter] = {}

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def answering(self, endpoints: list[Endpoint]) -> None:
        """The endpoints are there."""
        self._progress.engine = "openai"
        self._progress.answering()
        self.beat(endpoints)

    def emit(self, answer: Answer, endpoint: Endpoint) -> None:
        """Spool an answer and count it."""
        writer = self._writers.get(endpoint.version)
        if writer is None:
            answered_by = AnsweredBy("openai", endpoint.version, self._limits)
            writer = self._open.enter_context(SpoolWriter(self._job.spool, answered_by))
            self._writers[endpoint.version] = writer
        self._progress.count(writer.add(answer))

    def beat(self, endpoints: list[Endpoint]) -> None:
        """Report, and let the spool write what has waited."""
        for writer in self._writers.values():
            writer.tick()
        there = [endpoint for endpoint in endpoints if endpoint.available]
        self._progress.engines = len(there)
        self._progress.engine_version = ", ".join(sorted({e.version for e in there}))
        self._progress.in_flight = sum(endpoint.in_flight for endpoint in endpoints)
        self._report(self._progress)


def settings_of(model: Model) -> OpenAISettings:
    """Return what the recipe says of a model's endpoints."""
    return OpenAISettings.model_validate(model.backend_settings)


def place_of(name: str, run: Run) -> str:
    """Return the place of a model's endpoints in the recipe, for messages."""
    return f"recipe {run.recipe.name}: models.{name}.backend.openai"


def served_name(model: Model) -> str:
    """Return what the endpoints of a model call it: their ``name``, else its weights'.

    Raises:
        UnsetError: ``env:NAME`` names a variable that is not set.
    """
    if name := settings_of(model).name:
        return name
    weights = from_environment(model.weights, "weights of a model with endpoints")
    return weights.removeprefix("served:").removeprefix("hf:")
