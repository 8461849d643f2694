"""Writing a format's rows: files of bounded size, in an order that makes the same bytes again.

Rows are taken by ranges of prompts, so that each file is sorted by itself: what has to be held is
a file's rows, whatever their number in all. Which rows a file has, and their order, is decided by
ids alone: the number of threads and the order in the tables have no part in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.exports.formats import (
    Column,
    ExportError,
    Format,
    columns_of,
    with_template_arguments,
)
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS

# Rows of a file: at three texts of 1 kB some 100 MB, compressed.
SHARD_ROWS = 100_000
# Rows that are compressed together, by one thread; a multiple of DuckDB's vectors of 2,048.
GROUP_ROWS = 10_240
TRAIN, TEST = "train", "test"
_BLOCK = 1 << 22
# In a type, but for names and values in it, which are quoted: few readers know Parquet's UUID, and
# integers of 128 bits, as sums are, would become floating-point numbers.
_TYPES = {"UUID": "VARCHAR", "HUGEINT": "BIGINT", "UHUGEINT": "UBIGINT"}
_TYPE = re.compile(rf"(?<![\"'])\b({'|'.join(_TYPES)})\b(?![\"'])")
# Lets tables have one of so many ranges of prompts.
Show = Callable[[int, int], None]


@dataclass(frozen=True)
class File:
    """A file of an export.

    Attributes:
        format: the name of its format.
        split: train or test.
        path: in the folder of the export.
        rows: how many it has.
        bytes: its size.
        sha256: over its bytes.
    """

    format: str
    split: str
    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Written:
    """A format that has been written.

    Attributes:
        format: it.
        columns: of its files.
        files: by split and number.
    """

    format: Format
    columns: Sequence[Column]
    files: Sequence[File]

    @property
    def splits(self) -> dict[str, int]:
        """The rows of each split."""
        found: dict[str, int] = {}
        for file in self.files:
            found[file.split] = found.get(file.split, 0) + file.rows
        return found


@dataclass(frozen=True)
class Source:
    """Where the rows of a policy's export come from.

    Attributes:
        connection: to the tables.
        database: the name that the database is attached by.
        policy: the policy.
        parameters: the recipe's settings, which formats may name; ``seed`` draws the test split.
        test_share: of the prompts, for the split ``test``; 0 makes none.
        template_arguments: what the policy's chat template is given besides the messages.
        commit: that the policy's revision was resolved to; None if nobody has looked it up.
    """

    connection: duckdb.DuckDBPyConnection
    database: str
    policy: str
    parameters: Mapping[str, Any]
    test_share: float = 0.0
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    commit: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """What formats may name."""
        return {**self.parameters, "policy": self.policy}

    @property
    def splits(self) -> dict[str, str]:
        """The condition on a format's rows, ``made``, for each split.

        A prompt's place is drawn by its id: adding prompts moves no other.
        """
        if not self.test_share:
            return {TRAIN: "true"}
        limit = f"{int(self.test_share * 2**52):013x}"
        seed = int(self.parameters["seed"])
        drawn = f"left(sample_key({seed}, 'test split', made.prompt_id::VARCHAR), 13)"
        return {TRAIN: f"{drawn} >= '{limit}'", TEST: f"{drawn} < '{limit}'"}


def write_formats(
    source: Source, formats: Sequence[Format], folder: Path, shard_rows: int = SHARD_ROWS
) -> list[Written]:
    """Write the files of formats, each format's into ``<folder>/<format>``.

    A split without rows has a file too, which tells its columns.

    Args:
        source: where rows come from.
        formats: which.
        folder: of the export.
        shard_rows: about how many rows a file has at most.

    Raises:
        ExportError: a SELECT fails, or has no id of a row in its first column.
        OSError: the disk takes no more.
    """
    with _own_views(source) as show:
        return [_write(source, one, folder, shard_rows, show) for one in formats]


def _write(source: Source, one: Format, folder: Path, shard_rows: int, show: Show) -> Written:
    (folder / one.name).mkdir()
    show(0, 1)
    one = with_template_arguments(source.connection, one, source.template_arguments)
    columns, files = columns_of(source.connection, one, source.values), list[File]()
    for split, condition in source.splits.items():
        show(0, 1)
        wanted = _count(source, one, columns, condition)
        count, found = max(1, -(-wanted // shard_rows)), len(files)
        for number in range(count):
            path = f"{one.name}/{split}-{number:05d}-of-{count:05d}.{one.suffix}"
            show(number, count)
            rows = _copy(source, one, columns, condition, folder / path)
            size, digest = _digest(folder / path)
            files.append(File(one.name, split, path, rows, size, digest))
        if (rows := sum(file.rows for file in files[found:])) != wanted:
            raise ExportError(
                f"{one.file}: it gives {wanted:,} rows for all prompts together and {rows:,} for "
                f"{count:,} ranges of them: let it name a table that exports are made from (see "
                f"docs/exports.md), which has the rows of a range alone"
            )
    return Written(one, _written(one, columns), files)


@contextmanager
def _own_views(source: Source) -> Iterator[Show]:
    """Yield what lets the policy's tables have one of some ranges of its prompts, for the body.

    Ids are hashes, so that equal ranges of them have about as many prompts.
    """
    tables = [
        name
        for name, table in sql_files.tables().items()
        if PARTITION_COLUMNS.get(name) == "policy"
        and "prompt_id" in {column.name for column in table.columns}
    ]

    shown: list[tuple[int, int]] = []

    def show(number: int, count: int) -> None:
        if shown[-1:] == [(number, count)]:
            return
        own = f"policy = {sql_files.text_literal(source.policy)}"
        for place, sign in ((number, ">="), (number + 1, "<")):
            if 0 < place < count:
                first = f"{place * 2**32 // count:08x}-0000-0000-0000-000000000000"
                own += f" AND prompt_id {sign} '{first}'::UUID"
        for table in tables:
            source.connection.execute(
                f"CREATE OR REPLACE TEMP VIEW {table} AS "
                f'FROM "{source.database}".main.{table} WHERE {own}'
            )
        shown.append((number, count))

    try:
        yield show
    finally:
        for table in tables:
            source.connection.execute(f"DROP VIEW IF EXISTS temp.{table}")


def _count(source: Source, one: Format, columns: Sequence[Column], condition: str) -> int:
    """Return how many rows a split has, having looked whether each has an id and a prompt."""
    row_id = columns[0].name
    rows, ids, astray = _run(
        source,
        one,
        f'SELECT count(*) FILTER ({condition}), count(DISTINCT made."{row_id}") FILTER '
        f"({condition}), count(*) FILTER (made.prompt_id IS NULL) FROM ({one.text}\n) AS made",
    )
    if astray:
        raise ExportError(
            f"{one.file}: {astray:,} rows have no prompt_id, by which rows are split: give it"
        )
    if rows != ids:
        raise ExportError(
            f"{one.file}: {rows:,} rows have {ids:,} values of {row_id}, its first column: let "
            f"that be an id of the row, by which they are ordered"
        )
    return int(rows)


def _copy(
    source: Source, one: Format, columns: Sequence[Column], condition: str, path: Path
) -> int:
    taken = ", ".join(
        f'made."{column.name}"::{column.type} AS "{column.name}"'
        for column in _written(one, columns)
    )
    how = (
        "FORMAT json"
        if one.lines
        else f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS}"
    )
    (rows,) = _run(
        source,
        one,
        f"COPY (SELECT {taken} FROM ({one.text}\n) AS made WHERE {condition} "
        f'ORDER BY made."{columns[0].name}") '
        f"TO {sql_files.text_literal(path)} ({how})",
    )
    return int(rows)


def _run(source: Source, one: Format, statement: str) -> tuple[Any, ...]:
    given = sql_files.named_parameters(one.text, source.values)
    try:
        return source.connection.execute(statement, given).fetchone() or (0, 0)
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise OSError(str(error).splitlines()[0]) from error
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"{one.file} fails: {reason}; mend it") from error


def _written(one: Format, columns: Sequence[Column]) -> list[Column]:
    """Return the columns that files have, of those that the SELECT gives."""
    there = {column.name: column for column in columns}
    names = one.lines or tuple(there)
    return [Column(name, _TYPE.sub(_read_type, there[name].type)) for name in names]


def _read_type(found: re.Match[str]) -> str:
    return _TYPES[found.group()]


def _digest(path: Path) -> tuple[int, str]:
    """Return a file's size and sha256."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
