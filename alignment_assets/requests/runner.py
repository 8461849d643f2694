"""From a set of requests to answers in the spool: ask only what is missing, then hand over all.

The database is open while requests are read, closed while the engine works, and opened again to
build the rows. Here belongs that order of things; SQL says what is asked and what the answers mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.expected import Expected
from alignment_assets.host.leftovers import work_folder
from alignment_assets.inference.asking import asking_alone
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.progress import Progress, ProgressLog, told_while_loading
from alignment_assets.inference.spool import (
    UNREADABLE,
    merge_small_files,
    raise_unreadable,
    read_final,
    spool_folder,
    view_answers,
)
from alignment_assets.inference.types import KINDS, REQUEST_SCHEMA, Kind
from alignment_assets.inference.work_queue import ROW_GROUP
from alignment_assets.recipe.run import Run
from alignment_assets.requests.ledger import LedgerEntry
from alignment_assets.requests.moved import check_unmoved, has_own_names
from alignment_assets.requests.request_sets import RequestSet
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.sql_files import SqlFileError
from alignment_assets.warehouse.staging import Staging

# What a request has for engines alone; its task is the name of its file.
_ASKED = [name for name in REQUEST_SCHEMA.names if name != "task"]
_RENDERED = ", ".join([*(name for name in _ASKED if name != "request_id"), "asking_order"])
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


class UnansweredError(Expected):
    """Requests that have no answer; the message says how many and to run again."""


class TooManyFailures(Expected):
    """More requests failed than the recipe allows; the message has the most common reasons."""


@dataclass
class RequestRunner:
    """Has engines answer requests for one asset, or one partition of it, and collects the answers.

    Attributes:
        run: the recipe and its home.
        dagster_run_id: the Dagster run; None outside of one.
        log: takes a line now and then.
    """

    run: Run
    warehouse: Database
    inference: Inference
    gpus: GpuPool
    asset: str
    partition: str | None
    dagster_run_id: str | None
    log: Callable[[str], None]

    def __post_init__(self) -> None:
        """Start with nothing asked."""
        self.reused = 0
        self.progress: list[Progress] = []

    @property
    def label(self) -> str:
        """The asset, with its partition in brackets."""
        return f"{self.asset}[{self.partition}]" if self.partition else self.asset

    @property
    def folder(self) -> Path:
        """The spool folder of the asset or partition."""
        return spool_folder(self.run.spool, self.asset, self.partition)

    def fingerprint(self, model: str) -> str:
        """Return the fingerprint of one of the recipe's models."""
        return self.inference.fingerprint(model, self.run)

    def count(self, requests: RequestSet) -> tuple[int, int]:
        """Return how many requests there are, and how many of them have no answer."""
        with self.warehouse.read() as connection:
            return self.count_in(connection, requests)

    def answer(self, requests: RequestSet, at_most: int | None = None) -> None:
        """Have an engine answer what the spool does not answer yet.

        One process at a time asks for a partition; who comes second finds its answers there.

        Args:
            requests: what is asked.
            at_most: only so many of the requests, drawn by their hash: a pilot.
        """
        with (
            asking_alone(self.run, self.asset, self.partition, self.log),
            work_folder(self.run.work) as folder,
        ):
            work = folder / "requests.parquet"
            total, pending, kind = self.write_unanswered(requests, work, at_most)
            self.reused += total - pending
            if kind:
                progress = Progress(self.label, min(pending, at_most or pending), total - pending)
                self._have_answered(requests, kind, work, progress)
            else:
                self.log(f"{self.label}: all {total:,} requests are answered already; no inference")

    def write_unanswered(
        self, requests: RequestSet, path: Path, at_most: int | None = None
    ) -> tuple[int, int, Kind | None]:
        """Write those requests to a work file that the spool does not answer.

        Returns:
            How many requests there are, how many of them have no answer, and their kind; None, and
            no file, if all are answered.

        Raises:
            MovedError: a request has other inputs now than those that it is named by.
        """
        # Whoever makes rows of these files has the database open meanwhile.
        merge_small_files(self.folder, self.warehouse.get_connection, self.log)
        with self.warehouse.read() as connection:
            total, pending = self.count_in(connection, requests)
            if has_own_names(requests.name):
                values = {
                    **requests.parameters,
                    "model_fingerprint": self.fingerprint(requests.model),
                }
                check_unmoved(connection, requests.name, values, self.asset, self.partition)
            kind = self._write(connection, requests, path, at_most) if pending else None
        return total, pending, kind

    def stage(
        self,
        staging: Staging,
        asked: Sequence[RequestSet],
        query: str,
        parameters: Mapping[str, Any],
        max_failed_share: float | None = None,
    ) -> None:
        """Add the rows that the answers to some requests make.

        Args:
            staging: takes the rows.
            asked: all of the requests; each must be answered.
            query: makes the rows; ``requests``, each with the ``model_fingerprint`` of whom it was
                asked, and ``answers`` stand beside the tables for it.
            parameters: what the query may name.
            max_failed_share: how many of them may have failed; what the recipe says if None.

        Raises:
            UnansweredError: a request has no answer in the spool.
            SpoolError: a file of answers cannot be read.
            TooManyFailures: a larger share of them failed than the recipe allows.
        """
        connection = staging.connection
        for number, requests in enumerate(asked):
            create = (
                "CREATE OR REPLACE TEMP TABLE requests AS"
                if number == 0
                else "INSERT INTO requests BY NAME"
            )
            connection.execute(
                f"{create} SELECT * EXCLUDE ({_RENDERED}), $asked_model AS model_fingerprint "
                f"FROM ({requests.sql}\n)",
                {**requests.values, "asked_model": self.fingerprint(requests.model)},
            )
        limits = [self._limits(requests) for requests in asked]
        files = view_answers(connection, self.folder, limits, self.log)
        try:
            self._check_answers(connection, max_failed_share)
            staging.insert(query, parameters)
        except UNREADABLE as error:
            raise_unreadable(files, error)
            raise

    def metadata(self) -> dict[str, Any]:
        """Return what engines did for the asset, for a materialization."""
        runs = self.progress
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
        versions = {f"{run.engine} {run.engine_version}" for run in runs}
        return {
            **asked,
            "requests_failed": sum(run.failed for run in runs),
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "tokens_cached": cached,
            "prefix_cache_share": round(cached / tokens_in, 4) if tokens_in else 0.0,
            "seconds_answering": round(seconds, 2),
            "tokens_in_per_second": round(tokens_in / seconds, 1) if seconds else 0.0,
            "tokens_out_per_second": round(tokens_out / seconds, 1) if seconds else 0.0,
            # One line, as Dagster plots whatever is a number.
            "engine": f"{', '.join(sorted(versions))}: "
            f"{max(run.engines for run in runs)} at once, {max(run.gpus for run in runs)} GPUs, "
            f"{sum(run.restarts for run in runs)} restarts, "
            f"{sum(run.seconds_loading for run in runs):.1f} s to load",
            "engine_logs": sorted({log for run in runs for log in run.logs}),
        }

    def _limits(self, requests: RequestSet) -> str:
        return self.inference.limits(self.run.recipe.models[requests.model])

    def count_in(self, connection: DuckDBPyConnection, requests: RequestSet) -> tuple[int, int]:
        """Count as `count` does, and make the table ``final`` of what need not be asked."""
        read_final(connection, self.folder, [self._limits(requests)], self.log)
        return connection.execute(
            "SELECT count(*), count(*) FILTER (request_id NOT IN (FROM final)) "
            f"FROM (SELECT request_id FROM ({requests.sql}\n))",
            requests.values,
        ).fetchone() or (0, 0)

    def _write(
        self,
        connection: DuckDBPyConnection,
        requests: RequestSet,
        path: Path,
        at_most: int | None,
    ) -> Kind:
        """Write the requests that are not final to a work file; return their kind."""
        not_final = f"FROM ({requests.sql}\n) WHERE request_id NOT IN (FROM final)"
        # Ordered here and not in the file: a join may take rows in any order.
        order = "asking_order" if at_most is None else "request_id LIMIT $at_most"
        asked = ", ".join(_ASKED)
        if self.run.recipe.models[requests.model].system_prompt == "prepend_to_user":
            # A training row stays as it is: what is asked is what a trainer sees.
            asked = asked.replace(
                "messages",
                "CASE WHEN kind = 'loglikelihood' THEN messages "
                "ELSE prepended_to_user(messages) END AS messages",
            )
        query = f"SELECT {asked}, $task AS task {not_final} ORDER BY {order}"
        values = {**requests.values, "task": requests.task}
        if at_most is not None:
            values["at_most"] = at_most
        batches = connection.execute(query, values).to_arrow_reader(ROW_GROUP)
        kinds: set[Kind] = set()
        unlabelled = count = 0
        with pq.ParquetWriter(path, REQUEST_SCHEMA, compression="zstd") as writer:
            for batch in batches:
                rows = batch.select(REQUEST_SCHEMA.names).cast(REQUEST_SCHEMA)
                kinds.update(rows.column("kind").unique().to_pylist())
                unlabelled += rows.column("labels").null_count
                count += rows.num_rows
                writer.write_batch(rows, row_group_size=ROW_GROUP)
        if len(kinds) != 1 or not kinds <= KINDS:
            raise SqlFileError(
                f"sql/requests/{requests.name}.sql asks for the kind "
                f"{', '.join(sorted(map(str, kinds)))}; a file asks for one of "
                f"{', '.join(sorted(KINDS))}"
            )
        if unlabelled != (0 if kinds == {"weigh"} else count):
            raise SqlFileError(
                f"sql/requests/{requests.name}.sql: requests of the kind weigh have labels, and "
                f"no others have"
            )
        return kinds.pop()

    def _have_answered(
        self, requests: RequestSet, kind: Kind, work: Path, progress: Progress
    ) -> None:
        self.progress.append(progress)
        report = ProgressLog(self.log)
        job = Job(
            self.run,
            requests.model,
            kind,
            work,
            self.folder,
            self.gpus,
            progress,
            report,
            self.log,
        )
        entry = LedgerEntry(self.folder)
        failure: BaseException | None = None
        try:
            with told_while_loading(progress, report):
                self.inference.answer(job)
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
                    dagster_run_id=self.dagster_run_id,
                    task=requests.task,
                    model=requests.model,
                    model_fingerprint=self.fingerprint(requests.model),
                    error=failure,
                )
            except Exception as error:
                if failure is None:
                    raise
                self.log(f"{self.label}: not entered into inference_runs: {error}")
        report(progress)

    def _check_answers(self, connection: DuckDBPyConnection, share: float | None) -> None:
        asked, unanswered, failed = connection.execute(_ANSWERED_QUERY).fetchone() or (0, 0, 0)
        if unanswered:
            raise UnansweredError(
                f"{self.label}: {unanswered:,} of {asked:,} requests unanswered; run it again"
            )
        allowed = self.run.recipe.inference.max_failed_share if share is None else share
        if failed <= allowed * asked:
            return
        own = "the recipe's inference.max_failed_share"
        rule = own if share is None else f"the share (or {own}, if that is more)"
        reasons = "; ".join(
            f"{count:,} × {reason}"
            for reason, count in connection.execute(_REASONS_QUERY).fetchall()
        )
        raise TooManyFailures(
            f"{self.label}: {failed:,} of {asked:,} requests failed, more than "
            f"{rule} of {allowed:.2%}. Most common: {reasons}. The answers are "
            f"kept and the old rows stay; put the reason right or raise the share, and run it again"
        )
