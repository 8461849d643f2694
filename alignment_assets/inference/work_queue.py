"""The work file: requests on their way to engines, and the queue that several engines drain.

A work file is Parquet, in the order of asking. Engines of one job claim stretches of it, so that
each request is taken once, and no engine waits for another.
"""

from __future__ import annotations

import fcntl
import json
import os
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.spool import read_final
from alignment_assets.inference.spool_queries import ANSWERED_ID
from alignment_assets.inference.types import Request

# Rows of a work file that are read at once, at most.
ROW_GROUP = 1024
# Requests claimed at once: few, so that engines end together.
CLAIM = 64


class WorkQueue:
    """The requests of a work file that no other reader of it has claimed; see `__iter__`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._claims = path.with_suffix(".claimed")

    def __iter__(self) -> Iterator[Request]:
        """Yield requests as they are claimed, a thousand in memory at a time."""
        with pq.ParquetFile(self._path) as file:
            groups = range(file.metadata.num_row_groups)
            sizes = (file.metadata.row_group(group).num_rows for group in groups)
            starts = list(accumulate(sizes, initial=0))
            loaded, rows = -1, list[Request]()
            while (first := self._claim()) < starts[-1]:
                for index in range(first, min(first + CLAIM, starts[-1])):
                    group = bisect_right(starts, index) - 1
                    if group != loaded:
                        loaded, rows = group, requests_of(file.read_row_group(group))
                    yield rows[index - starts[group]]

    def _claim(self) -> int:
        """Return the first row of a stretch that is now ours."""
        descriptor = os.open(self._claims, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            first = int(os.pread(descriptor, 32, 0) or 0)
            os.pwrite(descriptor, str(first + CLAIM).encode(), 0)
            return first
        finally:
            os.close(descriptor)


def claimed(path: Path) -> int:
    """Return how many of a work file's first rows have been claimed."""
    try:
        return int(path.with_suffix(".claimed").read_bytes() or 0)
    except FileNotFoundError:
        return 0


def write_unanswered(
    requests: Path,
    spool: Path,
    limits: str,
    rest: Path,
    *,
    without: Collection[str] = (),
    rows: int | None = None,
) -> int:
    """Write those of a work file's requests that a spool folder does not answer, in their order.

    Args:
        requests: the work file.
        spool: the folder of answers.
        limits: of the engine; refusals under others do not count as answers.
        rest: the work file to write.
        without: ids of requests that are given up.
        rows: look at so many of the first requests alone.

    Returns:
        How many they are; nothing is written if there are none.
    """
    with duckdb.connect(config={"temp_directory": str(rest.with_suffix(".spill"))}) as connection:
        read_final(connection, spool, [limits])
        missing = (
            "FROM read_parquet($requests, file_row_number = true) "
            f"WHERE coalesce({ANSWERED_ID} NOT IN (FROM final), true) "
            "AND NOT list_contains($without, request_id) "
            "AND ($rows IS NULL OR file_row_number < $rows)"
        )
        values = {"requests": str(requests), "without": sorted(without), "rows": rows}
        (count,) = connection.execute(f"SELECT count(*) {missing}", values).fetchone() or (0,)
        if count:
            connection.execute(
                f"COPY (SELECT * EXCLUDE (file_row_number) {missing} ORDER BY file_row_number) "
                "TO $rest (FORMAT parquet, ROW_GROUP_SIZE 2048)",
                {**values, "rest": str(rest)},
            )
    return int(count)


def unanswered(requests: Sequence[Request], spool: Path, limits: str) -> list[Request]:
    """Return those of some requests that a spool folder does not answer; see `write_unanswered`."""
    with duckdb.connect() as connection:
        read_final(connection, spool, [limits])
        ids = [request.request_id for request in requests]
        left = connection.execute(
            f"SELECT request_id FROM (SELECT unnest($ids) AS request_id) "
            f"WHERE coalesce({ANSWERED_ID} NOT IN (FROM final), true)",
            {"ids": ids},
        ).fetchall()
    kept = {request_id for (request_id,) in left}
    return [request for request in requests if request.request_id in kept]


def write_row(requests: Path, number: int, path: Path) -> None:
    """Write one request of a work file, by its place from 0, as a work file of its own."""
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT * EXCLUDE (file_row_number) FROM read_parquet($requests, "
            "file_row_number = true) WHERE file_row_number = $number) TO $path (FORMAT parquet)",
            {"requests": str(requests), "number": number, "path": str(path)},
        )


def requests_of(table: pa.Table) -> list[Request]:
    """Return the requests of a table, column by column, which takes a third of the time."""
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    messages = columns.pop("messages")
    said = [
        {"role": role, "content": content}
        for role, content in zip(
            *(messages.values.field(name).to_pylist() for name in ("role", "content")), strict=True
        )
    ]
    labels = columns.pop("labels")
    label = labels.values.to_pylist()
    columns["sampling"] = [_sampling(text) for text in columns["sampling"].to_pylist()]
    rest = (
        values if isinstance(values, list) else values.to_pylist() for values in columns.values()
    )
    return [
        Request(
            **dict(zip(columns, row, strict=True)),
            messages=said[first:end],
            labels=label[first_label:end_label] if labelled else None,
        )
        for row, (first, end), (first_label, end_label), labelled in zip(
            zip(*rest, strict=True),
            pairwise(messages.offsets.to_pylist()),
            pairwise(labels.offsets.to_pylist()),
            labels.is_valid().to_pylist(),
            strict=True,
        )
    ]


def _sampling(text: str | None) -> dict[str, Any]:
    return dict(_parsed(text)) if text else {}


@lru_cache(maxsize=16)
def _parsed(text: str) -> dict[str, Any]:
    """Return sampling parameters, which most requests of a file have in common."""
    parameters: dict[str, Any] = json.loads(text)
    return parameters
