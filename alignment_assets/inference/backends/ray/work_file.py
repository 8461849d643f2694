"""The work file as Ray Data reads it: a row is a stretch of requests, and so is a block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

STRETCH = "stretch"


class WorkFile(Datasource):  # type: ignore[misc]  # Ray is optional, so not looked into
    """Reads a work file in its order, on the host that has it.

    Rows have one column, ``stretch``: requests, as a stream of Arrow's. Ray makes blocks of rows
    that come to about a size, so a block of requests would be a call of two batches at times, of
    which the second waits for the longest answer of the first.

    Args:
        path: the work file.
        rows: how many requests a stretch has.

    Attributes:
        blocks: how many Ray is to make: one for each stretch.
    """

    def __init__(self, path: Path, rows: int) -> None:
        super().__init__()
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
        self._path, self._rows = path, rows
        # Short groups are read together.
        together = max(1, rows // max(groups))
        numbers = range(len(groups))
        self._tasks = [
            (numbers[first : first + together], sum(groups[first : first + together]))
            for first in numbers[::together]
        ]
        # Ray splits what each task reads into as many parts.
        self.blocks = len(self._tasks) * max(-(-count // rows) for _, count in self._tasks)

    def estimate_inmemory_data_size(self) -> int | None:
        """Return nothing: blocks are made by rows, not by bytes."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return what reads some row groups each."""
        place = [str(self._path)]
        return [
            ReadTask(
                partial(_read, self._path, groups, self._rows),
                BlockMetadata(
                    num_rows=-(-count // self._rows),
                    size_bytes=None,
                    exec_stats=None,
                    input_files=place,
                ),
            )
            for groups, count in self._tasks
        ]


def stretch_of(batch: pa.Table) -> pa.Table:
    """Return the requests of a row."""
    (stretch,) = batch.column(STRETCH)
    return pa.ipc.open_stream(stretch.as_buffer()).read_all()


def _read(path: Path, groups: Sequence[int], rows: int) -> Iterator[pa.Table]:
    table = pq.ParquetFile(path).read_row_groups(groups)
    stretches = [_packed(table.slice(first, rows)) for first in range(0, len(table), rows)]
    yield pa.table({STRETCH: pa.array(stretches, pa.large_binary())})


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
