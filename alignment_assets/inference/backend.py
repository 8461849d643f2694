"""Inference as a Dagster resource: whoever answers requests, behind one small interface.

`Inference` is what assets know. The folders of `backends` answer, and `backends.by_model` gives
each model to the one that its recipe names. Which requests there are, and what becomes of the
answers, is not decided here.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from dagster import ConfigurableResource

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.expected import Expected
from alignment_assets.inference.counting import count_tokens
from alignment_assets.inference.fingerprint import (
    ModelError,
    model_fingerprint,
    resolve_weights,
    tokenizer_fingerprint,
    tokenizer_settings,
)
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import KINDS, Kind
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.part import Part
from alignment_assets.recipe.run import Run

logger = logging.getLogger(__name__)

Verdict = Literal["ok", "warning", "problem"]


class BackendError(Expected):
    """No engine can answer; the message says which failed, why, and what to do."""


@dataclass(frozen=True)
class Job:
    """Requests for one model, all of one kind.

    Attributes:
        run: what defines the model, and where logs and recorded revisions go.
        name: the recipe's name of the model that answers.
        kind: what the engine does with them.
        requests: the work file.
        spool: the folder that takes the answers.
        gpus: the GPUs that engines of this host may lease.
        progress: is kept up to date.
        report: is called with the progress about every second.
        log: takes a line now and then.
    """

    run: Run
    name: str
    kind: Kind
    requests: Path
    spool: Path
    gpus: GpuPool
    progress: Progress
    report: Callable[[Progress], None] = lambda _: None
    log: Callable[[str], None] = logger.info

    @property
    def model(self) -> Model:
        """What the recipe says of the model."""
        return self.run.recipe.models[self.name]


@dataclass(frozen=True)
class Examination:
    """What `alignment-assets doctor` looks at.

    Attributes:
        run: the recipe and its home.
        models: those of the recipe that are looked at, by name.
        gpus: the GPUs that engines of this host may lease.
    """

    run: Run
    models: Mapping[str, Model]
    gpus: GpuPool


@dataclass(frozen=True)
class Finding:
    """One thing that `alignment-assets doctor` looked at.

    Attributes:
        subject: what.
        verdict: ok; warning, if a run may work all the same; or problem.
        text: what was found, and the next step where there is one.
    """

    subject: str
    verdict: Verdict
    text: str


class Inference(ConfigurableResource[None], ABC):
    """Answers requests into the spool.

    Attributes:
        Settings: what the recipe may say to it, for each model that names it as its backend.
        loads_weights: whether its engines load a model's weights, on this host or another of ours.
        kinds: what its engines do.
    """

    Settings: ClassVar[type[Part]] = Part
    loads_weights: ClassVar[bool] = True
    kinds: ClassVar[frozenset[Kind]] = KINDS

    def fingerprint(self, model: str, run: Run) -> str:
        """Return a hash of all that makes one of the recipe's models answer as it does.

        Raises:
            ModelError, PackageError, RevisionError, UnsetError: its weights cannot be found.
        """
        weights = resolve_weights(model, run)
        return model_fingerprint(weights, run.recipe.models[model], run.recipe)

    def tokenizer(self, model: str, run: Run) -> str | None:
        """Return a hash of all that makes one of the recipe's models count tokens as it does.

        Returns:
            None if servers alone know its tokenizer.

        Raises:
            ModelError, PackageError, RevisionError, UnsetError: it cannot be found.
        """
        settings = tokenizer_settings(model, run)
        return tokenizer_fingerprint(settings) if settings else None

    def count_tokens(
        self, model: str, run: Run, uncounted: Path, counted: Path, report: Callable[[str], None]
    ) -> None:
        """Count the tokens of training rows by a model's tokenizer; see `counting.count_tokens`.

        Raises:
            CountingError: see there.
            ModelError: servers alone know the tokenizer.
        """
        settings = tokenizer_settings(model, run)
        if settings is None:
            raise ModelError(f"models.{model}: servers alone know its tokenizer")
        count_tokens(settings, uncounted, counted, report)

    @abstractmethod
    def limits(self, model: Model) -> str:
        """Return, as canonical JSON, the settings that decide which requests are refused."""

    @abstractmethod
    def answer(self, job: Job) -> None:
        """Answer all requests of a job, each with an answer or a reason."""

    def engines(self, models: Collection[str], run: Run) -> dict[str, int]:
        """Return how many engines would answer for models of the recipe, where that can be told.

        The others are forecast by how many answered last.
        """
        return {}

    def examine(self, examined: Examination) -> Iterator[Finding]:
        """Yield what a run would find of the engines that some of its models need."""
        yield from ()
