"""A fake engine that remembers exactly what it was asked, and never answers the same twice.

A line of its log is one answer under the hash of all that it depends on: the messages, the model's
fingerprint as it is now, the sampling parameters, the labels, the schema. Whoever wants to know
whether a row belongs to its inputs renders what should have been asked, and looks whether the row
is one of the answers to exactly that. Like a model at temperature 1 it says something else when it
is asked again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer, AnsweredBy, Request
from alignment_assets.inference.work_queue import WorkQueue
from alignment_assets.recipe.model import Model, Recipe
from alignment_assets.recipe.run import Run
from tests.support.fakes import WORDS, row_tokens, write_token_counts
from tests.support.line_log import append_entry

# What several requests may get alike, in this share of the answers.
COMMON_TEXTS = ("I would rather not say.", "It depends.", "")
COMMON_SHARE = 0.15


def fingerprint_of(recipe: Recipe, model: str) -> str:
    """Return a hash of all that makes a model answer as it does."""
    spec = recipe.models[model]
    content = [
        spec.weights,
        spec.revision,
        spec.chat_template_arguments,
        spec.chat_template,
        recipe.template_date,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def asked_hash(
    kind: str,
    task: str,
    fingerprint: str,
    messages: list[dict[str, str]],
    sampling: dict[str, Any] | None = None,
    labels: list[str] | None = None,
    answer_schema: str | None = None,
) -> str:
    """Return a hash of exactly what an engine is asked."""
    shown = [[message["role"], message["content"]] for message in messages]
    asked = [kind, task, fingerprint, shown, sampling or {}, labels, answer_schema]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


@dataclass
class AskedLog:
    """The answers that were given, by the hash of what was asked; reads what is new of a file."""

    path: Path
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _read: int = 0

    def update(self) -> AskedLog:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if line.endswith(b"\n"):
                        self._read += len(line)
                        entry = json.loads(line)
                        self.answers.setdefault(entry["asked"], []).append(entry["answer"])
        return self

    def to(self, asked: str) -> list[dict[str, Any]]:
        return self.answers.get(asked, [])


class RememberingInference(Inference):
    """Answers from the hash of what it is asked and from how often it was asked that before.

    Attributes:
        log: the file that takes a line for each answer.
    """

    log: str

    def fingerprint(self, model: str, run: Run) -> str:
        return fingerprint_of(run.recipe, model)

    def tokenizer(self, model: str, run: Run) -> str | None:
        spec, day = run.recipe.models[model], run.recipe.template_date
        content = [spec.chat_template, spec.chat_template_arguments, day]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def count_tokens(
        self, model: str, run: Run, uncounted: Path, counted: Path, report: Callable[[str], None]
    ) -> None:
        write_token_counts(uncounted, counted)

    def limits(self, model: Model) -> str:
        return json.dumps({"backend": "fake", "max_model_len": model.max_model_len})

    def answer(self, job: Job) -> None:
        progress = job.progress
        answered_by = AnsweredBy("fake", "1", self.limits(job.model))
        job.report(progress)
        progress.answering()
        before = AskedLog(Path(self.log)).update()
        fingerprint = fingerprint_of(job.run.recipe, job.name)
        with SpoolWriter(job.spool, answered_by) as writer:
            for request in WorkQueue(job.requests):
                asked = asked_hash(
                    request.kind,
                    request.task,
                    fingerprint,
                    request.messages,
                    request.sampling,
                    request.labels,
                    request.answer_schema,
                )
                given = before.answers.setdefault(asked, [])
                answer = _answer(request, job.model, asked, len(given))
                kept = {**asdict(answer), "answered_at": None}
                given.append(kept)
                line = {"asked": asked, "request_id": request.request_id, "answer": kept}
                append_entry(self.log, line)
                progress.count(writer.add(answer))
                job.report(progress)
        progress.engine, progress.engine_version = answered_by.engine, answered_by.version
        progress.weights = job.model.weights


def _answer(request: Request, model: Model, asked: str, times: int) -> Answer:
    characters = sum(len(message["content"]) for message in request.messages)
    number = int(hashlib.sha256(f"{asked} {times}".encode()).hexdigest(), 16)

    def answered(finish_reason: Any = "stop", **what: Any) -> Answer:
        tokens = {"prompt_tokens": characters // 4 + 1, "completion_tokens": number % 40 + 1}
        return Answer(request.request_id, request.task, finish_reason, **{**tokens, **what})

    if characters // 4 > model.max_model_len:
        return answered("context_length", error=f"{characters} characters")
    luck, number = number % 1000, number // 1000
    if luck < 10:
        return answered("failed", error="the engine stumbled")
    if request.kind == "classify":
        return answered(value=number % 2000 / 100 - 10)
    if request.kind == "loglikelihood":
        return answered(value=-(number % 90000) / 100, **row_tokens(request.messages))
    if request.kind == "weigh":
        weights = {
            label: 1 + (number >> (8 * index)) % 100
            for index, label in enumerate(request.labels or ())
        }
        whole = 1.25 * sum(weights.values())  # the rest is on other words
        return answered(
            label_logprobs={label: math.log(weight / whole) for label, weight in weights.items()}
        )
    if request.task == "grade":
        if luck < 100:
            return answered("length", text='{"reasoning": "it goes on')
        grade = {"reasoning": f"{asked[:8]}.{times}", "classification": str(number % 4)}
        return answered(text=json.dumps(grade))
    if luck < 10 + 1000 * COMMON_SHARE:
        return answered(text=COMMON_TEXTS[number % len(COMMON_TEXTS)])
    words = " ".join(WORDS[(number >> shift) % len(WORDS)] for shift in range(0, 16, 4))
    finish = "length" if luck > 940 else "stop"
    return answered(finish, text=f"{words} [{asked[:8]}.{times}]")
