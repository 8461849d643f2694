"""What is no longer wanted: answers and rows of those who left the recipe, answers nobody asks for.

Here is found what would go, and taken away what goes. Dagster's records of it are the command
``tidy``'s part.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from alignment_assets.inference.spool_files import EMPTY_FILE, new_name, write_file
from alignment_assets.inference.spool_queries import ANSWERED_ID
from alignment_assets.inference.stored_spool import StoredFolder, stored_folder
from alignment_assets.inference.types import ANSWER_SCHEMA
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import RequestSet, waits_for
from alignment_assets.requests.spool_care import (
    Folder,
    other_folders,
    query_files,
    scratch,
    spool_folders,
)
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.query import QueryError, only_statement
from alignment_assets.warehouse.removed import RemovedPart, find_removed

logger = logging.getLogger(__name__)

# Of a condition, and of what is wrong with it, a message has so much.
SHOWN_CHARACTERS = 200

Requests = Mapping[tuple[str, str | None], Sequence[RequestSet]]

_ANSWERS = """
    SELECT *, $asset::VARCHAR AS asset, $partition::VARCHAR AS partition
    FROM read_parquet($files, union_by_name = true, filename = true, file_row_number = true)
"""
# Of each file, how many answers it has and those of its rows that go. A condition stands after
# WHERE here as where it is shown: elsewhere COLUMNS(…) means something else.
_DROPPED = f"""
SELECT filename, answers, dropped
FROM (SELECT filename, count(*) AS answers FROM ({_ANSWERS}) GROUP BY filename)
LEFT JOIN (
    SELECT filename, list(file_row_number ORDER BY file_row_number) AS dropped
    FROM ({_ANSWERS})
    WHERE {{condition}}
    GROUP BY filename
) USING (filename)
ORDER BY filename
"""
_UNASKED = f"coalesce({ANSWERED_ID} NOT IN (FROM current_requests), true)"
_SHOWN = f"""
SELECT asset, partition, request_id, task, finish_reason, value,
    coalesce(left(text, 200), error) AS text, answered_at
FROM ({_ANSWERS})
WHERE {{condition}}
ORDER BY request_id, answered_at
LIMIT $limit
"""


@dataclass(frozen=True)
class Removal:
    """What goes from a folder of answers.

    Attributes:
        dropped_rows: for each file that loses answers, those of its rows that go.
        answers: how many answers the folder has.
        freed: bytes, before the files are written: in proportion to the rows.
        left_alone: why nothing goes, if the folder's requests cannot be told yet.
    """

    folder: Folder
    dropped_rows: Mapping[Path, Sequence[int]]
    answers: int
    freed: int = 0
    left_alone: str | None = None

    @property
    def dropped(self) -> int:
        """How many answers go."""
        return sum(map(len, self.dropped_rows.values()))


def find_left(connection: duckdb.DuckDBPyConnection | None, run: Run) -> list[RemovedPart]:
    """Return what there is of sources, models and policies that left the recipe, answers included.

    Args:
        connection: to the database itself; None while there is none.
        run: the recipe and its home.
    """
    found: dict[TablePart, RemovedPart] = {}
    if connection is not None:
        for one in find_removed(connection, run.recipe.members):
            found[one.part] = one
    for folder in other_folders(run):
        part = TablePart(folder.asset, folder.partition)
        known = found.get(part, RemovedPart(part, 0, 0))
        size = sum(path.stat().st_size for path in (*folder.files, *folder.left_over))
        if size:
            found[part] = RemovedPart(part, known.rows, known.bytes + size)
    return list(found.values())


def plan_removals(
    connection: duckdb.DuckDBPyConnection, run: Run, requests: Requests
) -> list[Removal]:
    """Find the answers that no current request refers to.

    A folder that the recipe no longer asks for loses all. One whose requests cannot be told,
    because a table that they read is empty or behind, is left alone.

    Args:
        connection: to the warehouse; its present tables say which requests there are.
        run: the recipe and its home.
        requests: see `all_request_sets`.

    Raises:
        SpoolError: a file cannot be read.
    """
    removals, lineage = [], Lineage(connection, run.recipe.settings())
    for folder in spool_folders(run):
        reason = None
        connection.execute("CREATE OR REPLACE TEMP TABLE current_requests (request_id UUID)")
        if folder.asked:
            missing = waits_for(lineage, run.recipe, folder.asset, folder.partition)
            reason = f"waits for {missing}" if missing else None
            for asked in () if reason else requests[folder.asset, folder.partition]:
                connection.execute(
                    f"INSERT INTO current_requests SELECT request_id FROM ({asked.sql}\n)",
                    asked.values,
                )
            if not reason and not connection.execute("FROM current_requests LIMIT 1").fetchone():
                reason = "has no requests now"
        removals.append(_removal(connection, folder, _UNASKED, reason))
    return removals


def plan_matching(run: Run, where: str) -> list[Removal]:
    """Find the answers that meet a condition, in every folder.

    Args:
        run: the recipe and its home.
        where: SQL over the columns of `ANSWER_SCHEMA`, ``asset`` and ``partition``; it sees no
            file but those of answers.

    Raises:
        QueryError: it is no such condition; the message has the columns.
        SpoolError: a file cannot be read.
    """
    with _condition(run, where) as (connection, condition):
        return [_removal(connection, folder, condition) for folder in spool_folders(run)]


def show_matching(run: Run, where: str, limit: int) -> pa.Table:
    """Return the first answers that `plan_matching` finds; texts are cut to 200 characters.

    Columns: asset, partition, request_id, task, finish_reason, value, text (or the error),
    answered_at.

    Raises:
        QueryError: see `plan_matching`.
        SpoolError: a file cannot be read.
    """
    tables: list[pa.Table] = []
    with _condition(run, where) as (connection, condition):
        query = _SHOWN.format(condition=condition)
        for folder in spool_folders(run):
            left = limit - sum(table.num_rows for table in tables)
            if folder.files and not folder.is_link and left > 0:
                values = {"asset": folder.asset, "partition": folder.partition, "limit": left}
                tables.append(query_files(connection, query, folder.files, values))
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def remove_answers(warehouse: Database, plan: Callable[..., list[Removal]]) -> list[Removal]:
    """Remove the answers that a plan finds, and what dead writers left; return what went.

    The database is held alone meanwhile, so that no run reads or publishes; engines go on writing
    files, which are left alone. Each file is replaced in one step: when this is killed, every
    other answer is still there, and another call does the rest. What goes from object storage does
    not come back from other machines; what they merged meanwhile is looked through again.

    Args:
        warehouse: the database.
        plan: told a connection to it, says what goes.

    Raises:
        SpoolError: a file cannot be read; nothing goes.
        StoreError: object storage cannot be asked; another call does the rest.
    """
    warehouse.prepare()
    with warehouse.get_connection() as connection:
        removals = plan(connection)
        again = _remove(removals)
        while again:
            found = [removal for removal in plan(connection) if removal.dropped]
            again = _remove(found)
            removals += found
    return removals


def _remove(removals: Sequence[Removal]) -> bool:
    """Remove what goes; return whether some of it went from object storage."""
    any_stored = False
    for removal in removals:
        stored = stored_folder(removal.folder.path) if removal.dropped else None
        for path, rows in removal.dropped_rows.items():
            _drop(path, rows, stored)
        if stored:
            stored.settle(logger.info)
            any_stored = True
        if removal.folder.is_link:
            continue
        for path in removal.folder.left_over:
            path.unlink(missing_ok=True)
        if not removal.folder.asked:
            _remove_if_empty(removal.folder.path)
    return any_stored


def removals_table(removals: Sequence[Removal]) -> pa.Table:
    """Return one row for each folder: answers kept and removed, bytes freed, why it is left."""
    return pa.Table.from_pylist(
        [
            {
                "asset": removal.folder.asset,
                "partition": removal.folder.partition,
                "in_recipe": removal.folder.asked,
                "kept": removal.answers - removal.dropped,
                "removed": removal.dropped,
                "bytes_removed": removal.freed,
                "left_over_files": len(removal.folder.left_over),
                "left_alone": removal.left_alone,
            }
            for removal in removals
        ]
    )


def left_table(left: Sequence[RemovedPart]) -> pa.Table:
    """Return one row for each table and partition that left the recipe: its rows and bytes."""
    return pa.Table.from_pylist(
        [
            {
                "table": one.part.table,
                "partition": one.part.partition,
                "rows": one.rows,
                "bytes": one.bytes,
            }
            for one in left
        ]
    )


@contextmanager
def _condition(run: Run, where: str) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """Yield a connection that reaches answers alone, and a condition in brackets if it is one."""
    condition = f"({where}\n)"
    folders = {str(run.spool), glob.escape(str(run.spool))}  # as names and as patterns
    try:
        where.encode()
        only_statement(f"SELECT 1 WHERE {condition}")
        with scratch(run) as connection:
            connection.execute("SET allowed_directories = $folders", {"folders": sorted(folders)})
            connection.execute("SET enable_external_access = false; SET lock_configuration = true")
            connection.register("no_answers", ANSWER_SCHEMA.empty_table())
            connection.execute(
                f"SELECT 1 FROM (SELECT *, '' AS asset, '' AS partition FROM no_answers) "
                f"WHERE {condition}"
            )
            yield connection, condition
    # Or in the middle of the answers, such as a cast.
    except (duckdb.Error, QueryError, UnicodeEncodeError) as error:
        columns = ", ".join([*ANSWER_SCHEMA.names, "asset", "partition"])
        told = str(error).splitlines()[0][:SHOWN_CHARACTERS]
        raise QueryError(
            f"--where {where[:SHOWN_CHARACTERS]!r}: {told}; the columns are {columns}"
        ) from error


def _removal(
    connection: duckdb.DuckDBPyConnection, folder: Folder, condition: str, reason: str | None = None
) -> Removal:
    if folder.is_link:
        reason = "is a link; remove it yourself"
    files = folder.files
    values = {"asset": folder.asset, "partition": folder.partition}
    rows = (
        query_files(connection, _DROPPED.format(condition=condition), files, values).to_pylist()
        if files
        else []
    )
    answers = sum(row["answers"] for row in rows)
    if reason:
        return Removal(folder, {}, answers, left_alone=reason)
    dropped = {Path(row["filename"]): row["dropped"] for row in rows if row["dropped"]}
    freed = sum(
        Path(row["filename"]).stat().st_size * len(row["dropped"]) // row["answers"]
        for row in rows
        if row["dropped"]
    )
    return Removal(folder, dropped, answers, freed)


def _drop(path: Path, rows: Sequence[int], stored: StoredFolder | None) -> None:
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:  # quarantined, or taken away
        return
    dropped = set(rows)
    kept = [row for row in range(table.num_rows) if row not in dropped]
    # An object has a name of its own for good.
    instead = (path if stored is None else new_name(path)) if kept else None
    if instead:
        write_file(table.take(kept), instead)
    if stored:
        stored.retire([path], instead)
    elif not kept:
        path.unlink()


def _remove_if_empty(folder: Path) -> None:
    (folder / EMPTY_FILE).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
