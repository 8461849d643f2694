"""New rows of a table on their way into a DuckDB file, which their writer has alone at the end.

Here belongs when the file is open to write, and how much room that takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.host.machine import ensure_room
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.rewrite import (
    REWRITE_FROM_BYTES,
    compress_messages,
    is_most_of_the_file,
    stored_bytes,
    used_bytes,
    without_rows,
)
from alignment_assets.warehouse.staging import Attaching, Staging

# Before compression, and with the temporary tables beside the new rows: rather too many.
_STAGED = """
SELECT sum(memory_usage_bytes + temporary_storage_bytes) FROM duckdb_memory()
WHERE tag = 'IN_MEMORY_TABLE'
"""
_REUSABLE = """
SELECT coalesce(any_value(free_blocks * block_size), 0)
FROM pragma_database_size()
WHERE database_name = 'warehouse'
"""


class FileStaging(Staging):
    """New rows for a DuckDB file.

    Those that go ``straight`` are written to it at once, in a transaction that publishing them
    commits, with the old ones out of the way.

    Args: see `Staging`, and

        database: the file.
        spill: the folder of what outgrows memory.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: sql_files.Table,
        partition: dict[str, str],
        attach: Attaching,
        straight: bool,
        *,
        database: Path,
        spill: Path,
    ) -> None:
        super().__init__(connection, table, partition, attach, straight)
        self._database = database
        self._spill = spill
        if not straight:
            connection.execute(table.ddl)

    def open(self) -> None:
        """Attach the database; for rows that go straight to write, for others to read."""
        if self._straight and self._writing is None:
            self._open_to_write()
        else:
            super().open()

    @property
    def reads(self) -> str:
        """The name by which the database with all other rows is attached while it is open."""
        return self._takes_rows if self._straight else "warehouse"

    def close(self) -> None:
        """Let the database go; what was written to it and not published is undone."""
        super().close()
        self._takes_rows = "staging"
        if self._straight:  # none of them is there any more, or all are published
            self._inserted = 0

    def check_room(self) -> None:
        """Raise OSError if the disk has no room for as many rows as there are now."""
        if not self._straight:  # they look for it when they open the file
            ensure_room(self._spill, self._stored_bytes(), f"{self.table.name}: building new rows")

    def _add(self, rows: str, values: Mapping[str, Any]) -> int:
        if self._straight:
            self.open()
        into = f"INSERT INTO {self._takes_rows}.main.{self.table.name} BY NAME {rows}"
        return int(self._scalar(into, values))

    def _put_in_place(self) -> None:
        self.close()
        self._open_to_write()
        name = self.table.name
        self.connection.execute(
            f"INSERT INTO {self._takes_rows}.main.{name} BY NAME SELECT * FROM staging.{name}"
        )

    def _open_to_write(self) -> None:
        with ExitStack() as writing:
            purpose = f"replacing {self.label}"
            writing.enter_context(self._attach(self.connection, exclusive=True, purpose=purpose))
            rewrite = is_most_of_the_file(self.connection, self._old_rows)
            ensure_room(
                self._database.parent, self._needed_bytes(rewrite), f"{self.label}: replacing"
            )
            self._takes_rows = writing.enter_context(
                without_rows(
                    self.connection,
                    self._database,
                    self._old_rows,
                    rewrite=rewrite,
                    prepare=self._show_rows if self._straight else str,
                )
            )
            compress_messages(self.connection, self.table.columns)
            self._writing = writing.pop_all()

    def _show_rows(self, database: str) -> None:
        """Have the table's name mean the new rows, where they go straight."""
        own = " AND ".join(
            f"{column} = {sql_files.text_literal(value)}"
            for column, value in self.partition.items()
        )
        self.connection.execute(
            f"CREATE OR REPLACE VIEW staging.{self.table.name} AS "
            f"FROM {database}.main.{self.table.name} WHERE {own or 'true'}"
        )
        self._search(database)

    def _stored_bytes(self) -> int:
        """Return about how many bytes the old rows take, or of a small database those of all."""
        used = used_bytes(self.connection)
        is_small = used <= REWRITE_FROM_BYTES
        return used if is_small else stored_bytes(self.connection, self._old_rows)

    def _needed_bytes(self, rewrite: bool) -> int:
        """Return about how many bytes of disk the replacement takes."""
        staged = self._stored_bytes() if self._straight else int(self._scalar(_STAGED))
        if rewrite:
            return staged + used_bytes(self.connection) - self._stored_bytes()
        return staged - int(self._scalar(_REUSABLE))
