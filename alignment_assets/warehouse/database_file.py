"""The database as one DuckDB file, which many processes read and take turns to write.

Here belongs how the file is opened; whose turn it is, is `access`'s part.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import duckdb

from alignment_assets.host.durable import sync
from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse import rewrite, snapshots, sql_files
from alignment_assets.warehouse.access import SharedFile, closing, file_version
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.file_staging import FileStaging
from alignment_assets.warehouse.rewrite import Rows
from alignment_assets.warehouse.schema import Migration, WarehouseError, plan_migration

# Versions of files whose tables are those of ``sql/schema``: comparing takes longer than opening.
_COMPARED: set[tuple[object, ...]] = set()


class DatabaseFile(Database):
    """A DuckDB file; ``database`` is its path."""

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self.database)

    @property
    def home(self) -> Path:
        """The folder it stands in, with the spool and the staging files beside it."""
        return self.path.parent

    @property
    def shown(self) -> str:
        """The database as messages name it."""
        return str(self.path)

    @property
    def is_there(self) -> bool:
        """Whether there is a database; a file without content is what a killed process left."""
        return self.path.exists() and self.path.stat().st_size > 0

    @contextmanager
    def read(self, as_of: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database read-only, beside other readers. Keep it short: writers wait.

        Args:
            as_of: a state of the past, which a DuckLake has and a DuckDB file has not.

        Raises:
            WarehouseError: it is another recipe's, or its tables differ from ``sql/schema``.
            LockTimeout: the file stayed with somebody else.
        """
        if as_of is not None:
            raise WarehouseError(
                f"{self.shown} is one file, which has no past; `{proposed('snapshot')}` keeps a "
                f"copy that `query --snapshot` and `compare` read"
            )
        with self._read("reading") as connection:
            yield connection

    @contextmanager
    def read_snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the last snapshot read-only, for as long as you like: nobody waits for it.

        Raises:
            WarehouseError: there is none.
        """
        last = snapshots.database_of(snapshots.snapshot_to_read(self.home))
        with closing(self.connect(str(last), read_only=True)) as connection:
            yield connection

    @contextmanager
    def attach_snapshot(
        self, connection: duckdb.DuckDBPyConnection, snapshot: Path | str, name: str
    ) -> Iterator[None]:
        """Attach a snapshot to read.

        Args:
            connection: to nothing else, or to the database itself.
            snapshot: its file; of a DuckLake also a snapshot's number, or a moment.
            name: what it is attached as.

        Raises:
            WarehouseError: it is none.
        """
        if isinstance(snapshot, str):
            raise WarehouseError(f"{self.shown} is one file, which has no past: no {snapshot}")
        with rewrite.attached(
            connection, snapshots.database_of(snapshot), name, read_only=True, log=self._log
        ):
            yield

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

    def holders(self) -> list[str]:
        """Return who has the database's file, or waits for it, as messages name them."""
        return self._shared.holders()

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

    def create(self) -> None:
        """Make an empty database, if opening it does not make one.

        It is made beside its place: a process killed meanwhile leaves no half of one.
        """
        new = rewrite.temporary_sibling(self.path)
        self._make(new)
        self._put(new)

    @contextmanager
    def made_whole(self, purpose: str) -> Iterator[Path]:
        """Yield an empty database beside this one that takes its place when the body ends well.

        Nobody else has the file meanwhile, be it there or not; who is killed leaves it as it was.

        Raises:
            LockTimeout: the file stayed with somebody else.
        """
        with self._shared.opened(nullcontext, exclusive=True, purpose=purpose):
            new = rewrite.temporary_sibling(self.path)
            try:
                self._make(new)
                yield new
                sync(new)
                self._put(new)
                sync(self.home)
            finally:
                rewrite.temporary_sibling(self.path)

    def attach(
        self, connection: duckdb.DuckDBPyConnection, *, read_only: bool
    ) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Attach the database to a connection as ``warehouse`` while the context lasts."""
        return rewrite.attached(
            connection, self.path, "warehouse", read_only=read_only, log=self._log
        )

    def _make(self, new: Path) -> None:
        duckdb.connect(str(new), config={"storage_compatibility_version": rewrite.STORAGE}).close()

    def _put(self, new: Path) -> None:
        for left in self.home.glob(f"{self.path.name}.wal*"):  # of a database that is gone
            left.unlink(missing_ok=True)
        new.replace(self.path)

    def declaration(self, table: sql_files.Table) -> str:
        """Return the statement that makes a table, with how its columns are stored."""
        return rewrite.compressed(table.ddl)

    def rebuild(self, tables: Sequence[str] | None) -> str:
        """Return the command that takes tables away, so that they are made anew.

        Args:
            tables: their names; None is the whole database.
        """
        if tables is None:
            old = self.path.with_name(f"{self.path.name}.old")
            return f"mv {shlex.quote(str(self.path))} {shlex.quote(str(old))}"
        drops = "; ".join(f"DROP TABLE {table}" for table in tables)
        return f'python -c "import duckdb; duckdb.connect({str(self.path)!r}).execute({drops!r})"'

    def _staging(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: sql_files.Table,
        partition: dict[str, str],
        straight: bool,
        name: str,
    ) -> FileStaging:
        """Return what takes new rows; ``name`` is that of its own files in the spill folder."""
        return FileStaging(
            connection,
            table,
            partition,
            self.attach_in_turn,
            straight,
            database=self.path,
            spill=self.spill_folder,
        )

    def _without(
        self, connection: duckdb.DuckDBPyConnection, dropped: Rows
    ) -> AbstractContextManager[str]:
        """Take rows away together with what else the body does, in the database that it yields."""
        rewrite_it = rewrite.is_most_of_the_file(connection, dropped)
        return rewrite.without_rows(connection, self.path, dropped, rewrite=rewrite_it)

    @contextmanager
    def _read(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        def connect() -> AbstractContextManager[duckdb.DuckDBPyConnection]:
            return closing(self.connect(self.database, read_only=True))

        with self._read_forward(connect, purpose) as connection:
            yield connection

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
        migration = plan_migration(connection, database, self)
        if migration is None:
            _COMPARED.add(self._version)
        return migration

    @property
    def _version(self) -> tuple[object, ...]:
        return (self.recipe, sql_files.schema_version(), *file_version(self.path))

    @property
    def _shared(self) -> SharedFile:
        return SharedFile(self.path, self.lock_timeout, self._log)
