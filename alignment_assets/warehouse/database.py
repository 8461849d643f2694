"""The database: one DuckDB file that many processes read and take turns to write.

Here belong its settings and the ways to open it. Whose turn it is (`access`), how rows are replaced
(`staging`), how tables change (`schema`) and copies (`snapshots`) have modules of their own, as has
its face in Dagster (`resource`): nothing here imports Dagster, so that a question costs no more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from pydantic import BaseModel, ConfigDict, Field

from alignment_assets.host.leftovers import remove_left
from alignment_assets.host.machine import ensure_room
from alignment_assets.host.paths import why_unwritable
from alignment_assets.warehouse import rewrite, snapshots, sql_files
from alignment_assets.warehouse.access import SharedFile, closing, file_version, is_conflict
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.removed import hide_removed, remove_rows
from alignment_assets.warehouse.schema import Migration, WarehouseError, migrate, plan_migration
from alignment_assets.warehouse.settings import duckdb_settings
from alignment_assets.warehouse.staging import Staging

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

# Versions of files whose tables are those of ``sql/schema``: comparing takes longer than opening.
_COMPARED: set[tuple[object, ...]] = set()


class Database(BaseModel):
    """The DuckDB database of a recipe, safe to share between processes.

    What the configuration leaves out comes from the machine: ``threads`` are its cores and
    ``memory_limit`` a fifth of its memory; each process has a folder in ``temp_directory``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: str = Field(description="Path of the DuckDB file.")
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
    def path(self) -> Path:
        """The database's file."""
        return Path(self.database)

    @property
    def home(self) -> Path:
        """The folder it stands in, with the spool and the staging files beside it."""
        return self.path.parent

    @property
    def is_there(self) -> bool:
        """Whether there is a database; a file without content is what a killed process left."""
        return self.path.exists() and self.path.stat().st_size > 0

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

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database read-only, beside other readers. Keep it short: writers wait.

        Raises:
            WarehouseError: it is another recipe's, or its tables differ from ``sql/schema``.
            LockTimeout: the file stayed with somebody else.
        """
        with self._read("reading") as connection:
            yield connection

    @contextmanager
    def read_snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the last snapshot read-only, for as long as you like: nobody waits for it.

        Raises:
            WarehouseError: there is none.
        """
        last = str(snapshots.snapshot_to_read(self.home))
        with closing(self.connect(last, read_only=True)) as connection:
            yield connection

    def snapshot(self, target: Path | None = None) -> Path:
        """Write a consistent copy of the database; writers wait for the copy, readers do not.

        Args:
            target: a file, replaced if it is a snapshot; by default a new one in the folder
                ``<home>/snapshots``.

        Returns:
            The copy's path.

        Raises:
            WarehouseError: the target is the database itself, or something else than a snapshot.
            OSError: the disk has no room for it.
        """
        target = target or snapshots.new_name(self.home).with_suffix(".duckdb")
        snapshots.check_target(target, self.path, folder=False)
        with snapshots.written_aside(target) as part:
            with self._read("copying"):  # open, so that nobody outside writes either
                snapshots.copy_database(self.path, part)
            snapshots.settle(part)
        snapshots.note_last(self.home, target)
        return target

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
        snapshots.check_target(target, self.path, folder=True)
        unknown = sorted(set(tables) - sql_files.tables().keys())
        if unknown:
            raise WarehouseError(f"no tables {unknown}; there are {', '.join(sql_files.tables())}")
        with snapshots.written_aside(target) as part, self._read("copying") as connection:
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
            straight: whether they are written to the database at once, in a transaction; the
                database is held alone from the start, and long texts never wait in memory.

        Raises:
            WarehouseError: it is another recipe's database, or its tables differ.
            OSError: the disk has no room for as many rows as there are now.
            LockTimeout: the file stayed with somebody else.
        """
        self.spill_folder.mkdir(parents=True, exist_ok=True)
        remove_left([*self.spill_folder.glob("*-*.duckdb*"), *self.spill_folder.glob("*-*.spill")])
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        with ExitStack() as held:
            connection = held.enter_context(closing(self.connect(":memory:", spill=name)))
            staging = Staging(
                connection,
                sql_files.tables()[table],
                dict(partition or {}),
                self.attach_in_turn,
                self.path,
                straight,
            )
            held.enter_context(staging)
            staging.open()
            if not straight:
                ensure_room(
                    self.spill_folder, staging.stored_bytes(), f"{table}: building new rows"
                )
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
                return remove_rows(connection, self.path, parts)

    def prepare(self) -> None:
        """Create the database, and bring its tables forward to ``sql/schema``.

        Raises:
            WarehouseError: it is another recipe's, or that cannot be done without losing rows.
        """
        with self._read("preparing"):
            pass

    def holders(self) -> list[str]:
        """Return who has the database's file, or waits for it, as messages name them."""
        return self._shared.holders()

    # What opens the database: another kind of it (DuckLake) overrides these four.

    def create(self) -> None:
        """Make an empty database, if opening it does not make one.

        It is made beside its place: a process killed meanwhile leaves no half of one.
        """
        new = rewrite.temporary_sibling(self.path)
        duckdb.connect(str(new), config={"storage_compatibility_version": rewrite.STORAGE}).close()
        for left in self.home.glob(f"{self.path.name}.wal*"):  # of a database that is gone
            left.unlink(missing_ok=True)
        new.replace(self.path)

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
        config = duckdb_settings(self.connection_config, own)
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
        return connection

    def attach(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Attach the database to a connection as ``warehouse`` while the context lasts."""
        return rewrite.attached(connection, self.path, read_only=read_only, log=self._log)

    def declaration(self, table: sql_files.Table) -> str:
        """Return the statement that makes a table, with how its columns are stored."""
        return rewrite.compressed(table.ddl)

    @contextmanager
    def _read(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        def connect() -> AbstractContextManager[duckdb.DuckDBPyConnection]:
            return closing(self.connect(self.database, read_only=True))

        with self._read_forward(connect, purpose) as connection:
            yield connection

    @contextmanager
    def attach_in_turn(
        self, connection: duckdb.DuckDBPyConnection, *, exclusive: bool, purpose: str
    ) -> Iterator[None]:
        """Attach the database as ``warehouse`` when it is our turn; see `SharedFile.opened`."""
        fits = False

        @contextmanager
        def attach() -> Iterator[duckdb.DuckDBPyConnection]:
            with self.attach(connection, read_only=not exclusive):
                yield connection
            if exclusive and fits:  # the file is another now, with the same tables
                _COMPARED.add(self._version)

        if not exclusive:
            with self._read_forward(attach, purpose, "warehouse"):
                yield
            return
        while True:
            if not self.is_there:
                self.prepare()
            with self._shared.opened(attach, exclusive=True, purpose=purpose):
                fits = self._migration(connection, "warehouse") is None
                if fits:
                    yield
                    return
            self.prepare()

    @contextmanager
    def _read_forward(
        self,
        open_it: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]],
        purpose: str,
        database: str | None = None,
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database to read, made and brought forward first where that is needed."""
        while True:
            if self.is_there:
                with self._shared.opened(open_it, exclusive=False, purpose=purpose) as connection:
                    if self._migration(connection, database) is None:
                        yield connection
                        return
            with self._opened_to_write("preparing the tables") as connection:
                self._bring_forward(connection)

    @contextmanager
    def _opened_to_write(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        def connect() -> AbstractContextManager[duckdb.DuckDBPyConnection]:
            if not self.is_there:
                self.create()
            return closing(self.connect(self.database))

        with self._shared.opened(connect, exclusive=True, purpose=purpose) as connection:
            rewrite.settle_row_groups(connection, self.path)
            yield connection

    def _migration(
        self, connection: duckdb.DuckDBPyConnection, database: str | None = None
    ) -> Migration | None:
        if database is None:
            (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        if self._version in _COMPARED:
            return None
        migration = plan_migration(connection, database, self.path, self.recipe, self.declaration)
        if migration is None:
            _COMPARED.add(self._version)
        return migration

    def _bring_forward(self, connection: duckdb.DuckDBPyConnection) -> None:
        migration = self._migration(connection)
        if migration is not None:
            migrate(connection, migration, self.recipe)
            if migration.changes:
                changed = "; ".join(migration.changes)
                self._log(f"{self.path} brought forward to sql/schema: {changed}")

    def _log(self, line: str) -> None:
        logger.warning(line)

    @property
    def _version(self) -> tuple[object, ...]:
        return (self.recipe, sql_files.schema_version(), *file_version(self.path))

    @property
    def _shared(self) -> SharedFile:
        return SharedFile(self.path, self.lock_timeout, self._log)
