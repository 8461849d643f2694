"""The tables of a recipe for Python: `alignment_assets.open`.

Here belongs what notebooks and scripts read with. It reads as ``alignment-assets query`` does:
read-only, without access to any other file, and of a recipe without the rows of those who left it.
A folder has all rows: no recipe says who left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.database_file import DatabaseFile
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import check_there
from alignment_assets.warehouse.removed import hide_removed
from alignment_assets.warehouse.snapshots import snapshot_to_read

FILE = "alignment.duckdb"


class Tables(Mapping[str, duckdb.DuckDBPyRelation]):
    """The tables of a database as DuckDB relations, by name, until it is closed.

    A relation is read when its rows are asked for: ``tables["dpo_pairs"].df()`` is a pandas frame,
    ``.to_arrow_table()`` an Arrow table. Who writes waits while the tables are open, unless they
    are those of a snapshot.
    """

    def __init__(self, database: Database, *, snapshot: bool) -> None:
        with ExitStack() as held:
            # A connection to the file itself would be one with all others of this process.
            self._connection = held.enter_context(closing(database.connect(":memory:")))
            self._connection.execute("ATTACH ':memory:' AS staging")
            if snapshot:
                last = snapshot_to_read(database.home)
                held.enter_context(database.attach_snapshot(self._connection, last, "warehouse"))
            else:
                check_there(database)
                held.enter_context(
                    database.attach_in_turn(self._connection, exclusive=False, purpose="reading")
                )
            self._connection.execute("SET search_path = 'warehouse.main'")
            hide_removed(self._connection, database.members, "warehouse")
            self._connection.execute("SET enable_external_access = false")
            self._held = held.pop_all()

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __getitem__(self, table: str) -> duckdb.DuckDBPyRelation:
        if table not in sql_files.tables():
            raise KeyError(f"no table {table!r}; there are {', '.join(self)}")
        return self._connection.sql(f"FROM {table}")

    def __iter__(self) -> Iterator[str]:
        return iter(sql_files.tables())

    def __len__(self) -> int:
        return len(sql_files.tables())

    def sql(self, query: str, /, **parameters: Any) -> duckdb.DuckDBPyRelation:
        """Return the rows of a SELECT.

        Args:
            query: it; what it names as ``$name`` is taken from the parameters.
            parameters: their values.
        """
        return self._connection.sql(query, params=parameters)

    def close(self) -> None:
        """Let the database go; relations cannot be read any more."""
        self._held.close()


def open_tables(recipe_or_folder: str | Path | None = None, *, snapshot: bool = False) -> Tables:
    """Open a recipe's tables; see `alignment_assets.open`."""
    folder = Path(recipe_or_folder) if recipe_or_folder is not None else None
    if folder is not None and (folder / FILE).is_file():
        return Tables(DatabaseFile(database=str(folder / FILE)), snapshot=snapshot)
    named = None if recipe_or_folder is None else str(recipe_or_folder)
    return Tables(database_of(run_to_read(named).database_settings), snapshot=snapshot)
