"""From questions in SQL to answers in the spool: ask only what is missing, then hand over all.

The database is open while requests are read, closed while the engine works, and opened again to
build the rows. Here belongs that order of things; SQL says what is asked and what the answers mean.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from alignment_assets import sql
from alignment_assets.inference.progress import Progress, ProgressLog
from alignment_assets.inference.requests import REQUEST_SCHEMA, Task
from alignment_assets.inference.spool import ANSWERS_QUERY, answer_files, spool_folder
from alignment_assets.recipe import Recipe
from alignment_assets.resources.gpus import GpuPool
from alignment_assets.resources.inference import Inference, Job
from alignment_assets.resources.warehouse import Staging, Warehouse

_RENDERED = ", ".join(name for name in REQUEST_SCHEMA.names if name != "request_id")
WORK_BATCH = 1024


class UnansweredError(RuntimeError):
    """Requests that have no answer; the message says how many and to run again."""


@dataclass(frozen=True)
class Question:
    """A file of ``sql/requests`` with its parameters, and the model that is to answer."""

    name: str
    model: str
    parameters: dict[str, Any]

    @property
    def sql(self) -> str:
        """The query: one row a request."""
        return sql.read_sql("requests", self.name)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that the query names."""
        return sql.named_parameters(self.sql, self.parameters)


@dataclass
class Answering:
    """Asks engines on behalf of one asset (or partition of it) and collects the answers."""

    warehouse: Warehouse
    inference: Inference
    gpus: GpuPool
    recipe: Recipe
    asset: str
    partition: str | None
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        """Start with nothing asked."""
        self.asked = 0
        self.reused = 0
        self.notes: dict[str, Any] = {}
        self.tokens_out = self.tokens_in = self.tokens_cached = 0
        self.seconds = self.seconds_loading = 0.0

    @property
    def label(self) -> str:
        """The asset, with its partition in brackets."""
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset

    @property
    def folder(self) -> Path:
        """The spool folder of the asset or partition."""
        return spool_folder(self.warehouse.home, self.asset, self.partition)

    def fingerprint(self, model: str) -> str:
        """Return the fingerprint of one of the recipe's models."""
        return self.inference.fingerprint(model, self.recipe, self.warehouse.home)

    def ask(self, question: Question) -> None:
        """Have the engine answer what the spool does not answer yet."""
        settings = self.inference.settings(self.recipe.models[question.model])
        work = self.warehouse.home / "work"
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work, prefix=f"{self.asset}-") as folder:
            requests = Path(folder) / "requests.parquet"
            total, pending, task = self._write_pending(question, settings, requests)
            self.asked += pending
            self.reused += total - pending
            if pending == 0:
                self.log(f"{self.label}: all {total:,} requests are answered already; no inference")
                return
            self._run(question, requests, pending, total - pending, task)

    def stage(self, staging: Staging, questions: Sequence[Question]) -> None:
        """Put the temporary tables ``requests`` and ``answers`` beside the new rows.

        Raises:
            UnansweredError: a request has no answer in the spool.
        """
        connection = staging.connection
        for number, question in enumerate(questions):
            create = (
                "CREATE OR REPLACE TEMP TABLE requests AS"
                if number == 0
                else "INSERT INTO requests BY NAME"
            )
            connection.execute(
                f"{create} SELECT * EXCLUDE ({_RENDERED}) FROM ({question.sql}\n)", question.values
            )
        settings = {
            self.inference.settings(self.recipe.models[question.model]) for question in questions
        }
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE answers AS {ANSWERS_QUERY}",
            {"files": answer_files(self.folder), "settings": sorted(settings)},
        )
        asked, unanswered = connection.execute(
            "SELECT count(*), count(*) FILTER (request_id NOT IN (SELECT request_id FROM answers)) "
            "FROM requests"
        ).fetchone() or (0, 0)
        if unanswered:
            raise UnansweredError(
                f"{self.label}: {unanswered:,} of {asked:,} requests unanswered; run it again"
            )

    def metadata(self) -> dict[str, Any]:
        """Return what the run did, for a materialization."""
        return {
            "requests_asked": self.asked,
            "answers_reused": self.reused,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "tokens_cached": self.tokens_cached,
            "seconds_loading": round(self.seconds_loading, 2),
            "seconds_answering": round(self.seconds, 2),
            "tokens_out_per_second": round(self.tokens_out / self.seconds, 1)
            if self.seconds
            else 0.0,
            **self.notes,
        }

    def _write_pending(
        self, question: Question, settings: str, path: Path
    ) -> tuple[int, int, Task]:
        """Write the unanswered requests; return the counts (all, unanswered) and the task."""
        columns = ", ".join(REQUEST_SCHEMA.names)
        answered = f"SELECT request_id FROM ({ANSWERS_QUERY})"
        values = question.values
        files = {"files": answer_files(self.folder), "settings": [settings]}
        with self.warehouse.read() as connection:
            connection.execute(f"CREATE TEMP TABLE answered AS {answered}", files)
            total, pending = connection.execute(
                "SELECT count(*), count(*) FILTER (request_id NOT IN (FROM answered)) "
                f"FROM (SELECT request_id FROM ({question.sql}\n))",
                values,
            ).fetchone() or (0, 0)
            if pending == 0:
                return total, 0, "generate"
            batches = connection.execute(
                f"SELECT {columns} FROM ({question.sql}\n) WHERE request_id NOT IN (FROM answered)",
                values,
            ).to_arrow_reader(WORK_BATCH)
            with pq.ParquetWriter(path, REQUEST_SCHEMA, compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch.cast(REQUEST_SCHEMA))
        task: Task = next(pq.ParquetFile(path).iter_batches(batch_size=1)).column("task")[0].as_py()
        return total, pending, task

    def _run(
        self, question: Question, requests: Path, pending: int, reused: int, task: Task
    ) -> None:
        progress = Progress(self.label, pending, reused)
        report = ProgressLog(self.log)
        job = Job(
            question.model, self.recipe, self.warehouse.home, task, requests, self.folder, pending
        )
        started = time.monotonic()
        self.notes |= self.inference.answer(job, self.gpus, progress, report)
        progress.finish()
        report(progress)
        self.seconds += time.monotonic() - started - progress.seconds_loading
        self.seconds_loading += progress.seconds_loading
        self.tokens_in += progress.prompt_tokens
        self.tokens_out += progress.completion_tokens
        self.tokens_cached += progress.cached_tokens
