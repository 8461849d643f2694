"""The database of a recipe: what it does, whichever kind it is.

There are two: one DuckDB file (`database_file`), and a DuckLake (`lake`). How rows are replaced
(`staging`), how tables change (`schema`) and copies (`snapshots`) have modules of their own, as has
its face in Dagster (`resource`): nothing here imports Dagster, so that a question costs no more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from pydantic import BaseModel, ConfigDict, Field

from alignment_assets.host.leftovers import remove_left
from alignment_assets.host.paths import why_unwritable
from alignment_assets.warehouse import rewrite, snapshots, sql_files
from alignment_assets.warehouse.access import closing, is_conflict
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.removed import hide_removed, remove_rows
from alignment_assets.warehouse.rewrite import Rows
from alignment_assets.warehouse.schema import Migration, WarehouseError, migrate
from alignment_assets.warehouse.settings import duckdb_settings
from alignment_assets.warehouse.staging import Staging

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)


class Database(BaseModel):
    """The database of a recipe, safe to share between processes.

    What the configuration leaves out comes from the machine: ``threads`` are its cores and
    ``memory_limit`` a fifth of its memory; each process has a folder in ``temp_directory``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: str = Field(description="The DuckDB file, or the catalog of a DuckLake.")
    connection_config: dict[str, Any] = Field(
        default={}, description="Settings of DuckDB, by name; see its documentation."
    )
    lock_timeout: float = Field(default=3600.0, description="Seconds to wait for the file at most.")
    recipe: str | None = Field(
        default=None, description="The recipe's name; a database of another one is refused."
    )
    members: dict[str, list[str]] = Field(
        default={}, description="Whom the recipe has, by the column that names them in tables."
    )

    @property
    def spill_folder(self) -> Path:
        """Where queries that outgrow memory spill, each process in a folder of its own."""
        own = self.home / "staging"
        spare = tempfile.gettempdir() if why_unwritable(own) else own
        return Path(self.connection_config.get("temp_directory") or spare)

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database for writing, alone; free again when the body ends or raises."""
        with self._opened_to_write("writing") as connection:
            yield connection

    def append(self, table: str, rows: pa.Table, timeout: float | None = None) -> None:
        """Add rows, matched by column name, to a table that is a log.

        Args:
            table: its name.
            rows: what to add.
            timeout: seconds to wait for the file at most; None is ``lock_timeout``.

        Raises:
            LockTimeout: the file stayed with somebody else.
        """
        patient = self if timeout is None else self.model_copy(update={"lock_timeout": timeout})
        with patient._opened_to_write(f"adding to {table}") as connection:
            self._bring_forward(connection)
            connection.register("new_rows", rows)
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")

    def export(self, tables: Sequence[str], target: Path | None = None) -> Path:
        """Write some tables as Parquet, ``<folder>/<table>.parquet``, as they are at one moment.

        Args:
            tables: their names; rows of those who left the recipe are left out.
            target: a new folder; by default one in ``<home>/snapshots``.

        Returns:
            The folder.

        Raises:
            WarehouseError: there is no such table, or the folder is there already.
        """
        target = target or snapshots.new_name(self.home)
        snapshots.check_target(target, None, folder=True)
        unknown = sorted(set(tables) - sql_files.tables().keys())
        if unknown:
            raise WarehouseError(f"no tables {unknown}; there are {', '.join(sql_files.tables())}")
        with snapshots.written_aside(target) as part, self.read() as connection:
            hide_removed(connection, self.members)
            snapshots.write_parquet(connection, tables, part)
        return target

    @contextmanager
    def stage(
        self,
        table: str,
        partition: Mapping[str, str] | None = None,
        *,
        reads: bool = True,
        straight: bool = False,
    ) -> Iterator[Staging]:
        """Build new rows of a table, or of one partition of it, apart from the old ones.

        Inside, names of tables mean the warehouse's, but for ``table`` itself: that is the new
        rows. Nothing changes before `Staging.publish`.

        Args:
            table: its name.
            partition: the partition's column and value.
            reads: whether the rows come from other tables. If they come from elsewhere, the
                database is open only when they are audited and put in place.
            straight: whether they have long texts, which never wait in memory: they are written
                to a DuckDB file at once, which is held alone from the start, or to a file of a
                DuckLake that is not read yet.

        Raises:
            WarehouseError: it is another recipe's database, or its tables differ.
            OSError: the disk has no room for as many rows as there are now.
            LockTimeout: the file stayed with somebody else.
        """
        self.spill_folder.mkdir(parents=True, exist_ok=True)
        left = (self.spill_folder.glob(f"*-*.{kind}") for kind in ("duckdb*", "spill", "parquet"))
        remove_left(chain.from_iterable(left))
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        with ExitStack() as held:
            connection = held.enter_context(closing(self.connect(":memory:", spill=name)))
            staging = self._staging(
                connection, sql_files.tables()[table], dict(partition or {}), straight, name
            )
            held.enter_context(staging)
            staging.open()
            staging.check_room()
            if not reads:
                staging.close()
            yield staging

    def remove(self, parts: Sequence[TablePart]) -> int:
        """Remove partitions of tables, and what is on record of their making; return the rows.

        Raises:
            LockTimeout: the file stayed with somebody else.
        """
        with closing(self.connect(":memory:")) as connection:
            connection.execute("ATTACH ':memory:' AS staging")
            with self.attach_in_turn(connection, exclusive=True, purpose="removing rows"):
                return remove_rows(connection, parts, self._without)

    def connect(
        self, database: str, *, read_only: bool = False, spill: str | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Open a DuckDB database with this one's settings and the macros of ``sql``.

        Args:
            database: a file, or ``:memory:``.
            read_only: beside other readers.
            spill: a name for what outgrows memory; by default one of the process and file.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        self.spill_folder.mkdir(parents=True, exist_ok=True)
        # Two databases that spill into one folder overwrite each other's files, and crash. All
        # connections of a process to one file are one database, and must name the same folder.
        named = hashlib.sha256(database.encode()).hexdigest()[:16]
        own = self.spill_folder / f"{spill or f'{os.getpid()}-{named}'}.spill"
        config = duckdb_settings(self.settings, own)
        try:
            connection = duckdb.connect(database, read_only=read_only, config=config)
        except duckdb.Error as error:
            if is_conflict(error):
                raise
            raise WarehouseError(
                f"{database} cannot be opened: {str(error).splitlines()[0]}"
            ) from error
        connection.execute("SET enable_progress_bar = false")  # it would print into logs
        connection.execute(f"SET zstd_min_string_length = {rewrite.ZSTD_FROM_CHARACTERS}")
        connection.execute(sql_files.macros())
        self.equip(connection)
        return connection

    def prepare(self) -> None:
        """Create the database, and bring its tables forward to ``sql/schema``.

        Raises:
            WarehouseError: it is another recipe's, or that cannot be done without losing rows.
        """
        with self.read():
            pass

    def _bring_forward(self, connection: duckdb.DuckDBPyConnection) -> None:
        migration = self._migration(connection)
        if migration is not None:
            migrate(connection, migration, self.recipe)
            if migration.changes:
                changed = "; ".join(migration.changes)
                self._log(f"{self.shown} brought forward to sql/schema: {changed}")

    def _log(self, line: str) -> None:
        logger.warning(line)

    # What each kind of database does in its own way.

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of DuckDB, of the recipe and those that it takes to open the database."""
        return self.connection_config

    def equip(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Load into a connection what attaching the database takes."""

    @property
    @abstractmethod
    def home(self) -> Path:
        """The recipe's home, with the spool and the staging files."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """The database as messages name it."""

    @property
    @abstractmethod
    def is_there(self) -> bool:
        """Whether there is a database."""

    @abstractmethod
    def read(self, as_of: str | None = None) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open the database read-only; all that is asked inside is of one moment.

        Args:
            as_of: a snapshot's number, or a moment of the past, which a DuckLake has and a DuckDB
                file has not; None is now.

        Raises:
            WarehouseError: it is another recipe's, its tables differ from ``sql/schema``, or it
                has no such past.
            LockTimeout: the file stayed with somebody else.
        """

    @abstractmethod
    def read_snapshot(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open the last snapshot read-only, for as long as you like: nobody waits for it.

        Raises:
            WarehouseError: there is none.
        """

    @abstractmethod
    def attach_snapshot(
        self, connection: duckdb.DuckDBPyConnection, snapshot: Path | str, name: str
    ) -> AbstractContextManager[None]:
        """Attach a snapshot to read.

        Args:
            connection: to nothing else, or to the database itself.
            snapshot: its file; of a DuckLake also a snapshot's number, or a moment.
            name: what it is attached as.

        Raises:
            WarehouseError: it is none.
        """

    @abstractmethod
    def attach_in_turn(
        self, connection: duckdb.DuckDBPyConnection, *, exclusive: bool, purpose: str
    ) -> AbstractContextManager[None]:
        """Attach the database as ``warehouse``.

        Args:
            connection: to nothing, or with ``staging`` attached.
            exclusive: to write, when it is our turn; else to read.
            purpose: what for, told to those who wait.

        Raises:
            WarehouseError, LockTimeout: see `read`.
        """

    @abstractmethod
    def snapshot(self, target: Path | None = None) -> Path:
        """Keep the database as it is now, for those who want to read it for long.

        Args:
            target: a file, replaced if it is a snapshot; by default a new one in the folder
                ``<home>/snapshots``.

        Returns:
            The snapshot's path.

        Raises:
            WarehouseError: the target is something else than a snapshot.
            OSError: the disk has no room for it.
        """

    @abstractmethod
    def holders(self) -> list[str]:
        """Return who has the database, or its turn, or waits for it, as messages name them."""

    @abstractmethod
    def declaration(self, table: sql_files.Table) -> str:
        """Return the statement that makes a table, with how its columns are stored."""

    @abstractmethod
    def rebuild(self, tables: Sequence[str] | None) -> str:
        """Say how tables are taken away, so that they are made anew.

        Args:
            tables: their names; None is the whole database.
        """

    @abstractmethod
    def _opened_to_write(self, purpose: str) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open the database to write, made if it is not there, when it is our turn."""

    @abstractmethod
    def _migration(
        self, connection: duckdb.DuckDBPyConnection, database: str | None = None
    ) -> Migration | None:
        """Return what brings an attached database forward; None if nothing has to."""

    @abstractmethod
    def _staging(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: sql_files.Table,
        partition: dict[str, str],
        straight: bool,
        name: str,
    ) -> Staging:
        """Return what takes new rows; ``name`` is that of its own files in the spill folder."""

    @abstractmethod
    def _without(
        self, connection: duckdb.DuckDBPyConnection, dropped: Rows
    ) -> AbstractContextManager[str]:
        """Take rows away together with what else the body does, in the database that it yields."""
