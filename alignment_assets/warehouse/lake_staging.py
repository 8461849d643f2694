"""New rows of a table on their way into a DuckLake: a finished Parquet file, then one commit.

Readers and other writers go on until the commit, which takes as long as it takes to name the files.
A writer that is killed before leaves the old rows, and files that nobody reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.host.machine import ensure_room
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lake_data import LakeData
from alignment_assets.warehouse.rewrite import Rows, stored_bytes
from alignment_assets.warehouse.schema import WarehouseError
from alignment_assets.warehouse.staging import Attaching, Staging

# Groups of rows are compressed side by side, and wait in memory until they are: of texts of 1 KB
# the usual 122,880 would be 120 MB for each thread. Level 1 takes two thirds of the usual level's
# processor time, for files that are a tenth larger.
_WRITTEN = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 30720"
_NULLS = """
SELECT path_in_schema, sum(stats_null_count) FROM parquet_metadata($files)
WHERE list_contains($columns, path_in_schema)
GROUP BY path_in_schema
HAVING sum(stats_null_count) > 0
"""


class LakeStaging(Staging):
    """New rows for a DuckLake.

    Those that go ``straight`` are written to a Parquet file at once, others when they are whole.

    Args: see `Staging`, and

        data: takes finished files.
        scratch: the beginning of the names of unfinished ones.
        committing: gives the transaction that puts files in place; told what is made.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: sql_files.Table,
        partition: dict[str, str],
        attach: Attaching,
        straight: bool,
        *,
        data: LakeData,
        scratch: Path,
        committing: Callable[[duckdb.DuckDBPyConnection, str], AbstractContextManager[None]],
    ) -> None:
        super().__init__(connection, table, partition, attach, straight)
        self._data, self._scratch, self._committing = data, scratch, committing
        self._files: list[Path] = []
        connection.execute(table.ddl)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Let the database go; files that were not put in place go, too."""
        try:
            super().__exit__(kind, error, traceback)
        finally:
            for file in self._files:
                file.unlink(missing_ok=True)

    def check_room(self) -> None:
        """Raise OSError if the disk has no room for as many rows as there are now."""
        needed = stored_bytes(self.connection, self._old_rows)
        ensure_room(self._scratch.parent, needed, f"{self.table.name}: building new rows")

    def _add(self, rows: str, values: Mapping[str, Any]) -> int:
        if not self._straight:
            into = f"INSERT INTO staging.main.{self.table.name} BY NAME {rows}"
            return int(self._scalar(into, values))
        shown = "VIEW" if self._files else "TABLE"
        count = self._write(f"({rows})", values)
        if count:
            self._check_nulls()
            files = ", ".join(map(sql_files.text_literal, self._files))
            name = f"staging.main.{self.table.name}"
            self.connection.execute(f"DROP {shown} {name}")
            self.connection.execute(
                f"CREATE VIEW {name} AS SELECT {self._columns} FROM read_parquet([{files}])"
            )
        return count

    def _put_in_place(self) -> None:
        name = self.table.name
        if not self._straight:
            self._write(f"staging.main.{name}", {})
        self.close()
        needed = sum(file.stat().st_size for file in self._files)
        self._data.ensure_room(needed, f"{self.label}: replacing")
        placed = [self._data.put(file, name) for file in self._files]
        with ExitStack() as writing:
            purpose = f"replacing {self.label}"
            writing.enter_context(self._attach(self.connection, exclusive=True, purpose=purpose))
            writing.enter_context(self._committing(self.connection, self.label))
            self._takes_rows = "warehouse"
            delete_rows(self.connection, self._old_rows)
            if placed:
                self.connection.execute(
                    "CALL ducklake_add_data_files('warehouse', $table, $files)",
                    {"table": name, "files": placed},
                )
            self._writing = writing.pop_all()

    def _write(self, source: str, values: Mapping[str, Any]) -> int:
        """Write rows to a file of their own, with the types that the table declares."""
        file = Path(f"{self._scratch}-{len(self._files)}.parquet")
        self._files.append(file)
        count = int(
            self._scalar(
                f"COPY (SELECT {self._columns} FROM {source}) "
                f"TO {sql_files.text_literal(file)} ({_WRITTEN})",
                values,
            )
        )
        if not count:  # a file without rows would be one more to open
            self._files.remove(file)
            file.unlink()
        return count

    @property
    def _columns(self) -> str:
        return ", ".join(
            f'"{column.name}"::{column.type} AS "{column.name}"' for column in self.table.columns
        )

    def _check_nulls(self) -> None:
        """Do what NOT NULL does where rows go to a file."""
        needed = [column for column in self.table.columns if not column.nullable]
        nested = [column.name for column in needed if re.search(r"[(\[]", column.type)]
        flat = [column.name for column in needed if column.name not in nested]
        files = [str(file) for file in self._files]
        found = self.connection.execute(_NULLS, {"files": files, "columns": flat}).fetchall()
        wrong = [name for name, _ in found]
        if nested:
            counts = ", ".join(f'count(*) FILTER ("{name}" IS NULL)' for name in nested)
            row = self.connection.execute(
                f"SELECT {counts} FROM read_parquet($files)", {"files": files}
            ).fetchone()
            wrong += [name for name, count in zip(nested, row or (), strict=True) if count]
        if wrong:
            raise WarehouseError(
                f"{self.label}: not replaced, the old rows stay: NULL in {', '.join(wrong)}, which "
                f"sql/schema/{self.table.name}.sql declares NOT NULL"
            )


@contextmanager
def commit(
    connection: duckdb.DuckDBPyConnection, author: str, message: str, about: str
) -> Iterator[None]:
    """Commit what the body does to ``warehouse``, or nothing if it raises.

    Args:
        connection: has it attached, to write.
        author: who, in the lake's own history.
        message: what.
        about: the same as JSON.

    Raises:
        WarehouseError: the catalog does not take it.
    """
    connection.begin()
    try:
        yield
        connection.execute(
            "CALL warehouse.set_commit_message($author, $message, extra_info => $about)",
            {"author": author, "message": message, "about": about},
        )
        try:
            connection.commit()
        except duckdb.Error as error:
            raise WarehouseError(
                f"{message}: not committed ({refusal(error)}); see that the catalog can be reached "
                f"and written, then run this again"
            ) from error
    except BaseException:
        connection.interrupt()  # see `rewrite.detach`
        with suppress(duckdb.Error):
            connection.rollback()
        raise


def refusal(error: duckdb.Error) -> str:
    """Return why a catalog refuses; before it, DuckLake tells all that it asked."""
    text = str(error).strip()
    if "ducklake_snapshot_pkey" in text:
        return "the turn was lost with its connection, and another process committed meanwhile"
    lines = text.splitlines() or [type(error).__name__]
    said = re.findall("ERROR: +(.+)", text)
    return str(said[-1]) if said else lines[-1 if lines[0].startswith("TransactionContext") else 0]


def delete_rows(connection: duckdb.DuckDBPyConnection, dropped: Rows) -> None:
    """Delete rows of ``warehouse``, in the transaction that is open."""
    for table, (condition, values) in dropped.items():
        connection.execute(f"DELETE FROM warehouse.main.{table} WHERE {condition}", dict(values))
