"""The spool: the durable journal of an engine's answers, append-only Parquet files.

``<spool>/<asset>/<partition>/<writer>-<number>.parquet``, each written aside, synced and renamed,
so that a file is there whole or not at all; several writers may fill one folder. Here belong
writing and the query that reads it back; which answer belongs to which row is SQL.
"""

from __future__ import annotations

import glob
import os
import time
import uuid
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.requests import ANSWER_SCHEMA, Answer, EngineIdentity

FLUSH_ROWS = 1000
FLUSH_SECONDS = 5.0

# A Parquet file begins and ends with these bytes, and has a length of four before the last.
PARQUET_MAGIC = b"PAR1"
PARQUET_ENDS = 12

# The answer to each request that counts: the first final one, or else the first refusal under the
# engine's present settings. `$files` may match nothing: the writer leaves an empty file first.
ANSWERS_QUERY = """
SELECT * EXCLUDE (filename, file_row_number)
FROM read_parquet($files, filename = true, file_row_number = true)
WHERE finish_reason IN ('stop', 'length') OR list_contains($settings, engine_settings)
QUALIFY row_number() OVER (
    PARTITION BY request_id
    ORDER BY finish_reason NOT IN ('stop', 'length'), filename, file_row_number) = 1
"""


def spool_folder(home: Path, asset: str, partition: str | None) -> Path:
    """Return the folder of an asset's answers, or of one partition of it."""
    return home / "spool" / asset / (partition or "all")


def answer_files(folder: Path) -> list[str]:
    """Return a spool folder's files for `ANSWERS_QUERY`; makes the folder readable if empty.

    A file without its end (a copy that was broken off, say) does not exist.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [path for path in sorted(folder.glob("*.parquet")) if _is_whole(path)]
    if not files:
        files = [folder / "0-empty.parquet"]
        _write(ANSWER_SCHEMA.empty_table(), files[0])
    return [glob.escape(str(path)) for path in files]


class SpoolWriter:
    """Appends answers to a spool folder; on disk at the latest after 1,000 rows or 5 s.

    The five seconds count when `tick` is called, which an engine does on every step.
    """

    def __init__(self, folder: Path, identity: EngineIdentity) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._identity = identity
        self._writer = uuid.uuid4().hex
        self._number = 0
        self._rows: list[Answer] = []
        self._flushed_at = time.monotonic()

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()

    def add(self, answer: Answer) -> None:
        """Append one answer."""
        self._rows.append(answer)
        self.tick()

    def tick(self) -> None:
        """Write what has waited long enough."""
        due = time.monotonic() - self._flushed_at >= FLUSH_SECONDS
        if len(self._rows) >= FLUSH_ROWS or (due and self._rows):
            self.flush()

    def flush(self) -> None:
        """Write all answers that are not on disk yet."""
        self._flushed_at = time.monotonic()
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        table = pa.Table.from_pylist([self._row(answer) for answer in rows], schema=ANSWER_SCHEMA)
        _write(table, self._folder / f"{self._writer}-{self._number:08d}.parquet")
        self._number += 1

    def _row(self, answer: Answer) -> dict[str, object]:
        logprobs = answer.label_logprobs
        return {
            **vars(answer),
            "label_logprobs": None
            if logprobs is None
            else [{"label": label, "logprob": value} for label, value in logprobs.items()],
            "engine": self._identity.engine,
            "engine_version": self._identity.version,
            "engine_settings": self._identity.settings,
        }


def _write(table: pa.Table, path: Path) -> None:
    aside = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    with aside.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < PARQUET_ENDS:
            return False
        file.seek(-len(PARQUET_MAGIC), os.SEEK_END)
        return file.read() == PARQUET_MAGIC
