"""OpenAI-compatible servers as inference: a model's requests over HTTP, into the spool.

Here belong what of the recipe reaches the servers and what is reported of them; the calls are
`client`'s part.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.paths import from_environment
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.backends.openai.endpoint import Endpoint
from alignment_assets.inference.backends.openai.protocol import ServedModel
from alignment_assets.inference.fingerprint import model_fingerprint, resolve_weights
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer, EngineIdentity
from alignment_assets.inference.work_queue import WorkQueue
from alignment_assets.recipe.model import Endpoints, Model, Recipe


class EndpointInference(Inference):
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

    def fingerprint(self, model: str, recipe: Recipe, home: Path) -> str:
        """Return the hash of weights, chat template, its arguments and template date."""
        return model_fingerprint(resolve_weights(model, recipe, home), recipe.models[model], recipe)

    def settings(self, model: Model) -> str:
        """Return the served model and the context length that the recipe expects of it."""
        values = {
            "backend": "openai",
            "model": served_name(model),
            "max_model_len": model.max_model_len,
        }
        return json.dumps(values, sort_keys=True)

    def answer(
        self, job: Job, gpus: GpuPool, progress: Progress, report: Callable[[Progress], None]
    ) -> None:
        """Send the job's requests to the model's endpoints; see `Inference.answer`.

        Raises:
            EndpointError: an endpoint does not fit the recipe, or all have been gone for minutes;
                what was answered is in the spool.
        """
        weights = resolve_weights(job.model, job.recipe, job.home)
        progress.weights = f"{weights.location}@{weights.content}"
        report(progress)
        journal = _Journal(job, self.settings(job.recipe.models[job.model]), progress, report)
        # Outside the event loop, so that whatever ends it, answers are on disk.
        with journal:
            asyncio.run(_drain(job, journal))


async def _drain(job: Job, journal: _Journal) -> None:
    # Here, because importing definitions must not load an HTTP client.
    from alignment_assets.inference.backends.openai.client import EndpointClient
    from alignment_assets.inference.backends.openai.http import open_http

    model = job.recipe.models[job.model]
    served = ServedModel(
        served_name(model),
        template=job.recipe.resolve(model.chat_template).read_text("utf-8")
        if model.chat_template
        else None,
        template_arguments=model.chat_template_arguments,
        template_date=job.recipe.template_date,
    )
    settings = endpoints_of(model)
    async with open_http(settings, endpoints_place(job.model, job.recipe)) as http:
        client = EndpointClient(
            http,
            served,
            job.recipe.inference.attempts,
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

    def __init__(
        self, job: Job, settings: str, progress: Progress, report: Callable[[Progress], None]
    ) -> None:
        self._job = job
        self._settings = settings
        self._progress = progress
        self._report = report
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
            identity = EngineIdentity("openai", endpoint.version, self._settings)
            writer = self._open.enter_context(SpoolWriter(self._job.spool, identity))
            self._writers[endpoint.version] = writer
        writer.add(answer)
        progress = self._progress
        progress.done += 1
        progress.failed += answer.error is not None
        progress.prompt_tokens += answer.prompt_tokens or 0
        progress.completion_tokens += answer.completion_tokens or 0
        progress.cached_tokens += answer.cached_tokens or 0

    def beat(self, endpoints: list[Endpoint]) -> None:
        """Report, and let the spool write what has waited."""
        for writer in self._writers.values():
            writer.tick()
        there = [endpoint for endpoint in endpoints if endpoint.available]
        self._progress.engines = len(there)
        self._progress.engine_version = ", ".join(sorted({e.version for e in there}))
        self._progress.in_flight = sum(endpoint.in_flight for endpoint in endpoints)
        self._report(self._progress)


def endpoints_of(model: Model) -> Endpoints:
    """Return a model's endpoints, which it must have."""
    if model.endpoints is None:
        raise ValueError("a model without endpoints is for vLLM on this host")
    return model.endpoints


def endpoints_place(name: str, recipe: Recipe) -> str:
    """Return the place of a model's endpoints in the recipe, for messages."""
    return f"recipe {recipe.name}: models.{name}.endpoints"


def served_name(model: Model) -> str:
    """Return what the endpoints of a model call it: their ``name``, else its weights'.

    Raises:
        LookupError: ``env:NAME`` names a variable that is not set.
    """
    if model.endpoints is not None and model.endpoints.name:
        return model.endpoints.name
    weights = from_environment(model.weights, "weights of a model with endpoints")
    return weights.removeprefix("served:").removeprefix("hf:")
