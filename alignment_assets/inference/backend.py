"""Inference as a Dagster resource: whoever answers requests, behind one small interface.

`Inference` is what assets know; `vllm` and `endpoints` beside this module answer, and
`model_inference` gives each model to the one that its recipe names. Which requests there are, and
what becomes of the answers, is not decided here.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dagster import ConfigurableResource

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import Task
from alignment_assets.recipe.model import Model, Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Requests for one model.

    Attributes:
        model: the recipe's name of the model that answers.
        recipe: what defines the model.
        home: the run's folder, for logs and recorded revisions.
        task: what the requests ask for.
        requests: the work file.
        spool: the folder that takes the answers.
        total: how many requests there are.
        log: takes a line now and then.
    """

    model: str
    recipe: Recipe
    home: Path
    task: Task
    requests: Path
    spool: Path
    total: int
    log: Callable[[str], None] = logger.info


class Inference(ConfigurableResource[None], ABC):
    """Answers requests into the spool."""

    @abstractmethod
    def fingerprint(self, model: str, recipe: Recipe, home: Path) -> str:
        """Return the fingerprint of one of the recipe's models."""

    @abstractmethod
    def settings(self, model: Model) -> str:
        """Return, as canonical JSON, the settings that decide which requests are refused."""

    @abstractmethod
    def answer(
        self, job: Job, gpus: GpuPool, progress: Progress, report: Callable[[Progress], None]
    ) -> None:
        """Answer all requests of a job, each with an answer or a reason.

        ``progress`` is kept up to date, and ``report`` called with it about every second.
        """
