"""From questions in SQL to answers in the spool: ask only what is missing, then hand over all.

The database is open while requests are read, closed while the engine works, and opened again to
build the rows. Here belongs that order of things; SQL says what is asked and what the answers mean.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.progress import Progress, ProgressLog
from alignment_assets.inference.spool import (
    UNREADABLE,
    raise_unreadable,
    read_settled,
    spool_folder,
    view_answers,
)
from alignment_assets.inference.types import REQUEST_SCHEMA, Task
from alignment_assets.inference.work_queue import ROW_GROUP
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.ledger import LedgerEntry
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Staging, Warehouse

# What a question has for engines alone.
_RENDERED = ", ".join([*(set(REQUEST_SCHEMA.names) - {"request_id"}), "asking_order"])
# Reasons that the message of a partition names in which too many requests failed.
REASONS = 5
_REASONS_QUERY = f"""
SELECT
    regexp_replace(coalesce(error, finish_reason), '\\d+', 'N', 'g') AS reason,
    count(*) AS requests
FROM requests
JOIN answers USING (request_id)
WHERE finish_reason NOT IN ('stop', 'length')
GROUP BY reason
ORDER BY requests DESC, reason
LIMIT {REASONS}
"""


_ANSWERED_QUERY = """
SELECT
    count(*),
    count(*) FILTER (finish_reason IS NULL),
    count(*) FILTER (finish_reason NOT IN ('stop', 'length'))
FROM requests
LEFT JOIN answers USING (request_id)
"""


class UnansweredError(RuntimeError):
    """Requests that have no answer; the message says how many and to run again."""


class TooManyFailures(RuntimeError):
    """More requests failed than the recipe allows; the message has the most common reasons."""


@dataclass(frozen=True)
class Question:
    """A file of ``sql/requests`` with its parameters, the model that is to answer, and the task."""

    name: str
    model: str
    task: Task
    parameters: dict[str, Any]

    @property
    def sql(self) -> str:
        """The query: one row a request."""
        return sql_files.read_sql("requests", self.name)

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that the query names."""
        return sql_files.named_parameters(self.sql, self.parameters)


@dataclass
class Answering:
    """Asks engines on behalf of one asset (or partition of it) and collects the answers.

    Attributes:
        run_id: the Dagster run; None outside of one.
        log: takes a line now and then.
    """

    warehouse: Warehouse
    inference: Inference
    gpus: GpuPool
    recipe: Recipe
    asset: str
    partition: str | None
    run_id: str | None
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        """Start with nothing asked."""
        self.reused = 0
        self.runs: list[Progress] = []

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

    def count(self, question: Question) -> tuple[int, int]:
        """Return how many requests a question has, and how many of them are unanswered."""
        with self.warehouse.read() as connection:
            return self._count(connection, question)

    def ask(self, question: Question, at_most: int | None = None) -> None:
        """Have the engine answer what the spool does not answer yet.

        Args:
            question: what is asked.
            at_most: only so many of the requests, drawn by their hash: a pilot.
        """
        work = self.warehouse.home / "work"
        work.mkdir(parents=True, exist_ok=True)
        _remove_left_work(work)
        with tempfile.TemporaryDirectory(dir=work, prefix=f"{os.getpid()}-") as folder:
            requests = Path(folder) / "requests.parquet"
            with self.warehouse.read() as connection:
                total, pending = self._count(connection, question)
                if pending:
                    self._write_pending(connection, question, requests, at_most)
            self.reused += total - pending
            if pending:
                asked = min(pending, at_most or pending)
                self._run(question, requests, asked, total - pending)
            else:
                self.log(f"{self.label}: all {total:,} requests are answered already; no inference")

    def stage(
        self,
        staging: Staging,
        questions: Sequence[Question],
        query: str,
        parameters: Mapping[str, Any],
    ) -> None:
        """Add the rows that the answers to some questions make.

        Args:
            staging: takes the rows.
            questions: all of them; each request must be answered.
            query: makes the rows; ``requests`` and ``answers`` stand beside the tables for it.
            parameters: what the query may name.

        Raises:
            UnansweredError: a request has no answer in the spool.
            SpoolError: a file of answers cannot be read.
            TooManyFailures: a larger share of them failed than the recipe allows.
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
        settings = [self._settings(question) for question in questions]
        files = view_answers(connection, self.folder, settings, self.log)
        try:
            self._check_answers(connection)
            staging.insert(query, parameters)
        except UNREADABLE as error:
            raise_unreadable(files, error)
            raise

    def metadata(self) -> dict[str, Any]:
        """Return what engines did for the asset, for a materialization."""
        runs = self.runs
        seconds = sum(run.seconds for run in runs)
        tokens_in = sum(run.prompt_tokens for run in runs)
        tokens_out = sum(run.completion_tokens for run in runs)
        cached = sum(run.cached_tokens for run in runs)
        asked = {
            "requests_asked": sum(run.total for run in runs),
            "answers_reused": self.reused,
        }
        if not runs:
            return asked
        return {
            **asked,
            "requests_failed": sum(run.failed for run in runs),
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "tokens_cached": cached,
            "prefix_cache_share": round(cached / tokens_in, 4) if tokens_in else 0.0,
            "seconds_loading": round(sum(run.seconds_loading for run in runs), 2),
            "seconds_answering": round(seconds, 2),
            "tokens_in_per_second": round(tokens_in / seconds, 1) if seconds else 0.0,
            "tokens_out_per_second": round(tokens_out / seconds, 1) if seconds else 0.0,
            "engine": ", ".join(sorted({f"{run.engine} {run.engine_version}" for run in runs})),
            "engines": max(run.engines for run in runs),
            "engine_restarts": sum(run.restarts for run in runs),
            "gpus": max(run.gpus for run in runs),
            "engine_logs": sorted({log for run in runs for log in run.logs}),
        }

    def _settings(self, question: Question) -> str:
        return self.inference.settings(self.recipe.models[question.model])

    def _count(self, connection: DuckDBPyConnection, question: Question) -> tuple[int, int]:
        """Make the table ``settled`` of the requests that need not be asked, and count."""
        settings = [self._settings(question)]
        read_settled(connection, self.folder, settings, self.log)
        return connection.execute(
            "SELECT count(*), count(*) FILTER (request_id NOT IN (FROM settled)) "
            f"FROM (SELECT request_id FROM ({question.sql}\n))",
            question.values,
        ).fetchone() or (0, 0)

    def _write_pending(
        self,
        connection: DuckDBPyConnection,
        question: Question,
        path: Path,
        at_most: int | None,
    ) -> None:
        columns = ", ".join(REQUEST_SCHEMA.names)
        unsettled = f"FROM ({question.sql}\n) WHERE request_id NOT IN (FROM settled)"
        # Ordered here and not in the question: a join may take rows in any order.
        order = "asking_order" if at_most is None else "request_id LIMIT $at_most"
        query = f"SELECT {columns} {unsettled} ORDER BY {order}"
        values = question.values | ({} if at_most is None else {"at_most": at_most})
        batches = connection.execute(query, values).to_arrow_reader(ROW_GROUP)
        with pq.ParquetWriter(path, REQUEST_SCHEMA, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch.cast(REQUEST_SCHEMA), row_group_size=ROW_GROUP)

    def _run(self, question: Question, requests: Path, pending: int, reused: int) -> None:
        progress = Progress(self.label, pending, reused)
        self.runs.append(progress)
        report = ProgressLog(self.log)
        home = self.warehouse.home
        job = Job(
            question.model,
            self.recipe,
            home,
            question.task,
            requests,
            self.folder,
            pending,
            self.log,
        )
        entry = LedgerEntry(self.folder)
        failure: BaseException | None = None
        try:
            self.inference.answer(job, self.gpus, progress, report)
        except BaseException as error:
            failure = error
            raise
        finally:
            progress.finish()
            try:
                entry.write(
                    self.warehouse,
                    progress,
                    asset=self.asset,
                    partition=self.partition,
                    dagster_run_id=self.run_id,
                    task=question.task,
                    model=question.model,
                    model_fingerprint=self.fingerprint(question.model),
                    error=failure,
                )
            except Exception as error:
                if failure is None:
                    raise
                self.log(f"{self.label}: not entered into inference_runs: {error}")
        report(progress)

    def _check_answers(self, connection: DuckDBPyConnection) -> None:
        asked, unanswered, failed = connection.execute(_ANSWERED_QUERY).fetchone() or (0, 0, 0)
        if unanswered:
            raise UnansweredError(
                f"{self.label}: {unanswered:,} of {asked:,} requests unanswered; run it again"
            )
        allowed = self.recipe.inference.max_failed_share
        if failed <= allowed * asked:
            return
        reasons = "; ".join(
            f"{count:,} × {reason}"
            for reason, count in connection.execute(_REASONS_QUERY).fetchall()
        )
        raise TooManyFailures(
            f"{self.label}: {failed:,} of {asked:,} requests failed, more than the recipe's "
            f"inference.max_failed_share of {allowed:.2%}. Most common: {reasons}. The answers are "
            f"kept and the old rows stay; put the reason right or raise the share, and run it again"
        )


def _remove_left_work(work: Path) -> None:
    """Remove work files whose process was killed."""
    for folder in work.glob("*-*"):
        owner = folder.name.split("-", 1)[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
