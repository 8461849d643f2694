"""One work file on its way through engines that may die of it.

A request that kills every engine that it meets must cost no other its answer, so what the dead had
in hand is asked again: together first, then one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment_assets.inference.progress import COUNTS, PROGRESS_SECONDS, Progress
from alignment_assets.inference.retries import GIVEN_UP_IN_A_ROW, KILLS, RESTARTS
from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import ERROR_CHARACTERS, Answer, AnsweredBy, Request
from alignment_assets.inference.work_queue import WorkQueue, claimed, write_row, write_unanswered
from alignment_assets.inference.worker_process import WorkerError

if TYPE_CHECKING:
    from alignment_assets.inference.backends.vllm.engines import Engine


class Answering:
    """The answering of one work file.

    Args:
        engines: loaded; they drain the file together.
        limits: of the engines' backend.
        spool: takes the answers.
        progress: told by `report` every second how far it is.
        report: told of the progress.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        limits: str,
        spool: Path,
        progress: Progress,
        report: Callable[[Progress], None],
    ) -> None:
        self._engines, self._limits, self._spool = engines, limits, spool
        self._progress, self._report = progress, report
        self._counted: dict[str, int] = dict.fromkeys(COUNTS, 0)
        self._given_up: set[str] = set()

    def run(self, requests: Path) -> None:
        """Ask all, then what is left of it, until nothing is left.

        Raises:
            WorkerError: an engine cannot be started, or dies of whatever it is asked.
        """
        left = self._progress.total
        for engine in self._engines:  # which may have answered for another step before
            engine.begin()
        while True:
            deaths = self._deaths()
            command = self._command(requests)
            self._watch([partial(engine.answer, command, RESTARTS) for engine in self._engines])
            died = self._deaths() > deaths
            if self._progress.done == self._progress.total and not died:
                return
            # What an engine had in hand when it died went with it.
            rest, count = self._unanswered(requests)
            if count and not died:
                raise WorkerError(
                    f"{count:,} requests came back from the engine without an answer; "
                    f"see {', '.join(self._progress.logs)}"
                )
            self._count(count)
            if count and (count == left or any(e.deaths > RESTARTS for e in self._engines)):
                suspects, some = self._unanswered(requests, claimed(requests))
                if not some:
                    raise WorkerError(next(e.last_words for e in self._engines if e.last_words))
                self._watch([partial(self._one_by_one, suspects)])
                rest, count = self._unanswered(requests)
                self._count(count)
                for engine in self._engines:
                    engine.deaths = 0
            if not count:
                return
            left, requests = count, rest

    def _one_by_one(self, suspects: Path) -> None:
        """Ask each alone; answer as failed what kills the engine again and again.

        Raises:
            WorkerError: too many do, one after the other, or the engine cannot be started.
        """
        engine, in_a_row = self._engines[0], 0
        for number, request in enumerate(WorkQueue(suspects)):
            for kill in range(KILLS):
                alone = suspects.with_name(f"{suspects.stem}-{number}-{kill}.parquet")
                write_row(suspects, number, alone)
                engine.start()
                try:
                    engine.attempt(self._command(alone))
                    in_a_row = 0
                    break
                except WorkerError as error:
                    if engine.is_closed:
                        raise
                    last_words = str(error)
            else:
                in_a_row += 1
                if in_a_row == GIVEN_UP_IN_A_ROW:
                    raise WorkerError(
                        f"the engine dies of whatever it is asked: {in_a_row} requests in a row "
                        f"killed it {KILLS} times each, asked alone. {last_words}"
                    )
                self._give_up(request, last_words)

    def _give_up(self, request: Request, last_words: str) -> None:
        error = f"killed its engine {KILLS} times, asked alone: {last_words}"[:ERROR_CHARACTERS]
        answered_by = AnsweredBy("vllm", self._engines[0].version, self._limits)
        with SpoolWriter(self._spool, answered_by) as writer:
            writer.add(Answer(request.request_id, request.task, "failed", error=error))
        self._given_up.add(request.request_id)
        self._counted["done"] += 1
        self._counted["failed"] += 1

    def _command(self, requests: Path) -> dict[str, Any]:
        return {"do": "answer", "requests": str(requests), "spool": str(self._spool)}

    def _deaths(self) -> int:
        return sum(engine.deaths for engine in self._engines)

    def _unanswered(self, requests: Path, rows: int | None = None) -> tuple[Path, int]:
        """Return a new work file of what is left of one, or of its first rows, and its length."""
        path = requests.with_name(f"rest-{time.monotonic_ns()}.parquet")
        count = write_unanswered(
            requests, self._spool, self._limits, path, without=self._given_up, rows=rows
        )
        return path, count

    def _watch(self, work: Sequence[Callable[[], None]]) -> None:
        """Do things side by side and tell how far they are; raise what the first failed with."""
        with ThreadPoolExecutor(len(work)) as threads:
            try:
                running = [threads.submit(one) for one in work]
                while wait(running, PROGRESS_SECONDS, FIRST_EXCEPTION).not_done:
                    self._tell()
                    if any(future.done() and future.exception() for future in running):
                        break
                for future in wait(running, return_when=FIRST_EXCEPTION).done:
                    future.result()
            except BaseException:
                for engine in self._engines:
                    engine.close()
                raise
        self._tell()

    def _count(self, left: int) -> None:
        """Take over what engines have counted, with what is on disk as the measure of done."""
        self._counted = {name: getattr(self._progress, name) for name in COUNTS}
        self._counted |= {"in_flight": 0, "done": self._progress.total - left}
        for engine in self._engines:
            engine.counts = dict.fromkeys(COUNTS, 0)

    def _tell(self) -> None:
        progress = self._progress
        for name in COUNTS:
            now = sum(engine.counts[name] for engine in self._engines)
            setattr(progress, name, now if name == "in_flight" else self._counted[name] + now)
        progress.restarts = sum(engine.restarts for engine in self._engines)
        progress.logs = [str(log) for engine in self._engines for log in engine.logs]
        self._report(progress)
