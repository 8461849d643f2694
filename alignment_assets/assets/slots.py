"""The waits of runs for a slot of a pool: told, cheap, and over when the run is asked to end.

Dagster's in-process executor looks for a slot again and again without a pause, which takes a whole
core, and no signal ends it (dagster-io/dagster pull request 20367). And with records in PostgreSQL
a run fails that gives a pool its limit after another did (issue 33552). Here belongs what mends
both.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from dagster import DagsterInstance, DagsterRun, RunsFilter, raise_execution_interrupts
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.executor import in_process
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import ConcurrencyLimitsTable

from alignment_assets.inference.run_process import describe_process

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
# A wait is told after so long, and then as often.
TOLD_AFTER_SECONDS = 1.0
TOLD_EACH_SECONDS = 60.0


def wait_with_patience() -> None:
    """Have the runs of this process wait as said above."""
    in_process.InstanceConcurrencyContext = PatientClaims  # type: ignore[attr-defined]


class PatientClaims(InstanceConcurrencyContext):
    """A run's claims on slots of pools, as Dagster keeps them, with waits that are bearable."""

    def __init__(self, instance: DagsterInstance, dagster_run: DagsterRun) -> None:
        super().__init__(instance, dagster_run)
        self._run = dagster_run
        self._waits: dict[str, _Wait] = {}

    def claim(self, concurrency_key: str, step_key: str, step_priority: int = 0) -> bool:
        """Claim a slot for a step; return whether it has it."""
        self._settle_limit(concurrency_key)
        claimed = bool(super().claim(concurrency_key, step_key, step_priority))
        wait = self._waits.get(step_key)
        if claimed and wait:
            del self._waits[step_key]
            if wait.told:
                self._tell(f"{step_key}: got a slot of the pool {concurrency_key} after {wait}")
        elif not claimed:
            wait = self._waits.setdefault(step_key, _Wait())
            if wait.is_due():
                whom = " and ".join(holders(self._instance, concurrency_key))
                self._tell(
                    f"{step_key}: waiting for a slot of the pool {concurrency_key}, {wait} so far, "
                    f"behind {whom}; it goes on by itself when that ends, is terminated in the UI, "
                    f"or its process is ended"
                )
        return claimed

    def interval_to_next_pending_claim_check(self) -> float:
        """Pause, since there is nothing to do but wait; return how much longer to wait: not at all.

        Raises:
            DagsterExecutionInterruptedError: the run is asked to end.
        """
        with raise_execution_interrupts():
            time.sleep(PAUSE_SECONDS)
        return 0.0

    def _settle_limit(self, pool: str) -> None:
        """Give a pool in PostgreSQL the default limit, if it has none yet or follows the default.

        Dagster inserts, and updates where that fails: in PostgreSQL the transaction is then over.
        """
        default, known = self._pool_config.default_pool_limit, self.get_pool_info(pool)
        if default is None or (known and (known.limit == default or not known.from_default)):
            return
        storage = self._instance.event_log_storage
        if not isinstance(storage, SqlEventLogStorage):
            return
        with storage.index_transaction() as connection:
            if connection.dialect.name != "postgresql":
                return
            from sqlalchemy.dialects.postgresql import insert

            limits = ConcurrencyLimitsTable.c
            row = insert(ConcurrencyLimitsTable).values(
                concurrency_key=pool, limit=default, using_default_limit=True
            )
            # Locks the row in any case, so that slots are counted by one run after another.
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=[limits.concurrency_key],
                    set_={"limit": default},
                    where=limits.using_default_limit,
                )
            )
            storage._allocate_concurrency_slots(connection, pool, default)
        self._sync_pools()

    def _tell(self, text: str) -> None:
        logger.warning(text)
        self._instance.report_engine_event(text, self._run)


class _Wait:
    """How long a step has waited, and when that is told again."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._tell_at = self._start + TOLD_AFTER_SECONDS
        self.told = False

    def __str__(self) -> str:
        return f"{time.monotonic() - self._start:.0f} s"

    def is_due(self) -> bool:
        """Return whether it is time to tell; it is then taken for told."""
        if time.monotonic() < self._tell_at:
            return False
        self._tell_at = time.monotonic() + TOLD_EACH_SECONDS
        self.told = True
        return True


def holders(instance: DagsterInstance, pool: str) -> list[str]:
    """Return who has the slots of a pool: run, step, process, and since when."""
    info = instance.event_log_storage.get_concurrency_info(pool)
    return [_described(instance, slot) for slot in info.claimed_slots] or ["other runs that wait"]


def _described(instance: DagsterInstance, slot: Any) -> str:
    text = f"run {slot.run_id} ({slot.step_key}"
    for record in instance.get_run_records(RunsFilter(run_ids=[slot.run_id]), limit=1):
        process = describe_process(record.dagster_run.tags)
        since = record.start_time and time.strftime(
            "%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(record.start_time)
        )
        text += f", {process}" if process else ""
        text += f", since {since}" if since else ""
    return f"{text})"
