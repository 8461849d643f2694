"""The ledger of inference: what engines were asked, what it took, and how it ended.

Here belongs the row of ``inference_runs`` alone; forecasts read it with SQL.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from alignment_assets.inference.progress import Progress
from alignment_assets.warehouse.database import Database

# A run that failed is not kept waiting for the database.
PATIENCE_AFTER_FAILURE = 10.0


class LedgerEntry:
    """One row of ``inference_runs`` in the making; made when engines are about to be asked."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._bytes = _size(spool)
        self._started_at = _now()

    def write(
        self,
        warehouse: Database,
        progress: Progress,
        *,
        asset: str,
        partition: str | None,
        dagster_run_id: str | None,
        task: str,
        model: str,
        model_fingerprint: str,
        error: BaseException | None,
    ) -> None:
        """Add the row to the database."""
        lines = str(error).splitlines() or [""]
        row = {
            "inference_run_id": uuid.uuid4().hex,
            "dagster_run_id": dagster_run_id,
            "asset": asset,
            "partition": partition,
            "task": task,
            "model": model,
            "model_fingerprint": model_fingerprint,
            "weights": progress.weights,
            "engine": progress.engine,
            "engine_version": progress.engine_version,
            "engines": progress.engines,
            "gpus": progress.gpus,
            "requests": progress.total,
            "answered": progress.done,
            "failed": progress.failed,
            "prompt_tokens": progress.prompt_tokens,
            "completion_tokens": progress.completion_tokens,
            "cached_tokens": progress.cached_tokens,
            "restarts": progress.restarts,
            "seconds_loading": progress.seconds_loading,
            "seconds": progress.seconds,
            "spool_bytes": _size(self._spool) - self._bytes,
            "outcome": "done" if error is None else f"{type(error).__name__}: {lines[0]}"[:1000],
            "started_at": self._started_at,
            "ended_at": _now(),
        }
        patience = PATIENCE_AFTER_FAILURE if error else warehouse.lock_timeout
        warehouse.append("inference_runs", pa.Table.from_pylist([row]), timeout=patience)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
