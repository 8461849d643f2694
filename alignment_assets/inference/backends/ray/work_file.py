"""The work file as Ray Data reads it: one task a row group, whose rows Ray splits into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata


class WorkFile(Datasource):  # type: ignore[misc]  # Ray is optional, so not looked into
    """Reads a work file in its order, on the host that has it.

    Attributes:
        rows: how many it has.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        metadata = pq.read_metadata(path)
        self._path, self.rows = path, metadata.num_rows
        self._groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]

    def estimate_inmemory_data_size(self) -> int | None:
        """Return nothing: blocks are made by rows, not by bytes."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return what reads one row group each."""
        place = [str(self._path)]
        return [
            ReadTask(
                partial(_read, self._path, group),
                BlockMetadata(num_rows=rows, size_bytes=None, exec_stats=None, input_files=place),
            )
            for group, rows in enumerate(self._groups)
        ]


def _read(path: Path, group: int) -> Iterator[pa.Table]:
    yield pq.ParquetFile(path).read_row_group(group)
