"""A whole small engine in place of a language model: fast, deterministic, as strict as a real one.

It answers from the content of a request alone, so the same question gets the same answer in any
process, and two different questions nearly always get different ones.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.counting import COUNTED_SCHEMA
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import Answer, AnsweredBy, Request
from alignment_assets.inference.work_queue import WorkQueue
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run
from tests.support.line_log import append_entry

WORDS = (
    *("the", "a", "one", "some", "people", "value", "fairness", "care"),
    *("rules", "freedom", "because", "however", "often", "rarely", "must", "may"),
)


def row_tokens(messages: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """Return the token counts of a training row: a word is a token, and so is what ends a turn."""
    tokens = [len(message["content"].split()) + 1 for message in messages]
    return {"prompt_tokens": sum(tokens[:-1]) + 1, "completion_tokens": tokens[-1]}


def write_token_counts(uncounted: Path, counted: Path) -> None:
    """Count the tokens of training rows, file to file."""
    counts = [
        {"content_id": row["content_id"], **row_tokens(row["messages"])}
        for row in pq.read_table(uncounted).to_pylist()
    ]
    pq.write_table(pa.Table.from_pylist(counts, COUNTED_SCHEMA), counted)


class FakeInference(Inference):
    """Answers with words drawn by hash.

    Attributes:
        log: a file that takes one line of JSON for each request asked, if given; ``<log>.counted``
            takes one for each file of training rows that are counted.
        seconds_per_request: how long an answer takes.
        context_characters: what does not fit is refused.
        unparsable_share: share of grades that are no JSON.
    """

    log: str = ""
    seconds_per_request: float = 0.0
    context_characters: int = 100_000
    unparsable_share: float = 0.0

    def fingerprint(self, model: str, run: Run) -> str:
        spec, day = run.recipe.models[model], run.recipe.template_date
        content = [spec.weights, spec.revision, spec.chat_template_arguments, day]
        if spec.system_prompt != "own_message":
            content.append(spec.system_prompt)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def tokenizer(self, model: str, run: Run) -> str | None:
        spec, day = run.recipe.models[model], run.recipe.template_date
        if spec.weights.startswith("served:"):
            return None
        content = [spec.chat_template, spec.chat_template_arguments, day]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def count_tokens(
        self, model: str, run: Run, uncounted: Path, counted: Path, report: Callable[[str], None]
    ) -> None:
        rows = pq.read_metadata(uncounted).num_rows
        append_entry(
            f"{self.log}.counted" if self.log else os.devnull, {"model": model, "rows": rows}
        )
        write_token_counts(uncounted, counted)

    def limits(self, model: Model) -> str:
        return json.dumps({"backend": "fake", "context_characters": self.context_characters})

    def answer(self, job: Job) -> None:
        progress = job.progress
        answered_by = AnsweredBy("fake", "1", self.limits(job.model))
        job.report(progress)
        progress.answering()
        with SpoolWriter(job.spool, answered_by) as writer:
            for request in WorkQueue(job.requests):
                append_entry(
                    self.log or os.devnull,
                    {
                        "request_id": request.request_id,
                        "task": request.task,
                        "model": job.name,
                        "gpus": job.gpus.device_count(),
                        "messages": request.messages,
                    },
                )
                if self.seconds_per_request:
                    time.sleep(self.seconds_per_request)
                answer = writer.add(self._answer(request))
                if self.seconds_per_request:
                    writer.flush()
                progress.count(answer)
                job.report(progress)
        progress.engine, progress.engine_version = answered_by.engine, answered_by.version
        progress.logs = [self.log]
        progress.weights = job.model.weights

    def _answer(self, request: Request) -> Answer:
        return fake_answer(request, self.context_characters, self.unparsable_share)


def fake_answer(
    request: Request, context_characters: int = 100_000, unparsable_share: float = 0.0
) -> Answer:
    """Return words, a grade, a score or weights drawn by the hash of a request."""
    characters = sum(len(message["content"]) for message in request.messages)
    if characters > context_characters:
        return Answer(
            request.request_id, request.task, "context_length", error=f"{characters} characters"
        )
    number = int(hashlib.sha256(request.request_id.encode()).hexdigest(), 16)
    answer = Answer(
        request.request_id,
        request.task,
        "stop",
        prompt_tokens=characters // 4 + 1,
        completion_tokens=1,
    )
    if request.kind == "classify":
        return replace(answer, value=number % 2000 / 100 - 10)
    if request.kind == "loglikelihood":
        return replace(answer, value=-(number % 9000) / 100, **row_tokens(request.messages))
    if request.kind == "weigh":
        weights = {
            label: 1 + (number >> (8 * index)) % 100
            for index, label in enumerate(request.labels or ())
        }
        whole = 1.25 * sum(weights.values())  # the rest is on other words
        logprobs = {label: math.log(weight / whole) for label, weight in weights.items()}
        return replace(answer, label_logprobs=logprobs)
    if request.task == "grade":
        if number % 1000 < unparsable_share * 1000:
            return replace(answer, finish_reason="length", text='{"reasoning": "it goes on')
        grade = {"reasoning": f"drawn {number % 97}", "classification": str(number % 4)}
        return replace(answer, text=json.dumps(grade))
    words = [WORDS[(number >> shift) % len(WORDS)] for shift in range(0, 48, 4)]
    return replace(answer, text=" ".join(words), completion_tokens=len(words))
