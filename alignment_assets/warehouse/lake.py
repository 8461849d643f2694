"""The database as a DuckLake: Parquet files, and a catalog in SQLite or PostgreSQL.

Here belongs how a lake is opened, read and committed to. Readers wait for nobody and see one
snapshot; writers take turns for the moment of their commit alone (`lake_staging`). Looking after a
lake is `lake_care`'s part.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
from pydantic import Field

from alignment_assets.host.durable import read_record, write_record
from alignment_assets.warehouse import snapshots, sql_files
from alignment_assets.warehouse.access import closing
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.extensions import SETTINGS, load_extensions
from alignment_assets.warehouse.lake_catalog import (
    Catalog,
    catalog_of,
    keep_records_in_catalog,
)
from alignment_assets.warehouse.lake_data import LakeData
from alignment_assets.warehouse.lake_staging import LakeStaging, commit, delete_rows
from alignment_assets.warehouse.rewrite import Rows
from alignment_assets.warehouse.schema import Migration, WarehouseError, plan_migration

if TYPE_CHECKING:
    import pyarrow as pa

# By the name that a lake is attached by, its catalog.
_CATALOG = "__ducklake_metadata_{name}"
_NEWEST = "SELECT snapshot_id, schema_version FROM {catalog}.ducklake_snapshot {where} LIMIT 1"
_BY_TIME = "WHERE snapshot_time::TIMESTAMPTZ <= {time}::TIMESTAMPTZ ORDER BY snapshot_id DESC"
_SNAPSHOTS = """
SELECT count(*), min(snapshot_id), max(snapshot_id), min(snapshot_time::TIMESTAMPTZ) FROM
{catalog}.ducklake_snapshot
"""
_COMPARED: set[tuple[object, ...]] = set()


class Lake(Database):
    """A DuckLake, safe to share between processes; with a catalog in PostgreSQL, machines.

    ``database`` is its catalog, ``sqlite:<file>`` or ``postgres:<libpq's>``.
    """

    data: str = Field(description="The folder, or address in object storage, of its files.")
    catalog_schema: str = Field(default="main", description="Of a PostgreSQL database.")
    folder: str = Field(description="The home of the recipe.")

    @property
    def home(self) -> Path:
        """The recipe's home, with the spool and the staging files."""
        return Path(self.folder)

    @property
    def shown(self) -> str:
        """The lake as messages name it: its catalog, which has no password in it."""
        return f"{self.database} (files in {self.data})"

    @property
    def is_there(self) -> bool:
        """Whether there is a catalog."""
        return self.catalog.newest() is not None

    @property
    def catalog(self) -> Catalog:
        """Where it is written which files there are."""
        return catalog_of(self.database, self.catalog_schema)

    @property
    def files(self) -> LakeData:
        """Where the files are."""
        return LakeData(self.data)

    def equip(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Load what attaching the lake takes."""
        needed = ("ducklake", self.catalog.extension, *self.files.extensions)
        load_extensions(connection, needed)
        # Tried again, what two commit at once stays beside each other, unless both delete rows.
        connection.execute("SET ducklake_max_retry_count = 0")
        self.files.allow(connection)

    @contextmanager
    def read(self, as_of: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open one snapshot to read, beside everybody else, for as long as you like.

        Args:
            as_of: a snapshot's number, or a moment; None is now.

        Raises:
            WarehouseError: it is another recipe's, its tables differ from ``sql/schema``, or there
                is no such snapshot.
        """
        with (
            closing(self.connect(":memory:")) as connection,
            self._attached_to_read(connection, "warehouse", as_of),
        ):
            connection.execute("USE warehouse")
            yield connection

    def append(self, table: str, rows: pa.Table, timeout: float | None = None) -> None:
        """Add rows to a table that is a log; see `Database.append`."""
        patient = self if timeout is None else self.model_copy(update={"lock_timeout": timeout})
        with patient._opened_to_write(f"adding to {table}") as connection:
            self._bring_forward(connection)
            connection.register("new_rows", rows)
            with self.committing(connection, f"adding to {table}"):
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new_rows")

    @contextmanager
    def read_snapshot(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the snapshot that was noted last.

        Raises:
            WarehouseError: none was.
        """
        with self.read(noted_version(snapshots.snapshot_to_read(self.home))) as connection:
            yield connection

    def snapshot(self, target: Path | None = None) -> Path:
        """Note which snapshot is the newest, under a name, and keep it; nothing is copied.

        Args:
            target: a file for the note; by default a new one in the folder ``<home>/snapshots``.

        Raises:
            WarehouseError: the target is there and is no such note.
        """
        suffix = snapshots.NOTE_SUFFIX
        target = target or snapshots.new_name(self.home).with_suffix(suffix)
        if target.suffix != suffix or (target.exists() and not target.is_file()):
            raise WarehouseError(f"{target}: a lake's snapshot is a note; name a file *{suffix}")
        self.prepare()
        version, _ = self.catalog.newest() or (0, 0)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_record(target, {"lake_snapshot": str(version), "catalog": self.database})
        snapshots.note_last(self.home, target)
        return target

    @contextmanager
    def attach_in_turn(
        self, connection: duckdb.DuckDBPyConnection, *, exclusive: bool, purpose: str
    ) -> Iterator[None]:
        """Attach the lake as ``warehouse``: to read its newest snapshot, or to commit in turn."""
        if not exclusive:
            with self._attached_to_read(connection, "warehouse", None):
                yield
            return
        while True:
            if not self.is_there:
                self.prepare()
            with self._attached(connection, "warehouse"):
                # Before the turn, so that others do not wait for it: what tables there are.
                connection.execute("SELECT 1 FROM warehouse.main.database_info LIMIT 0")
                with self._turn(purpose):
                    if self._migration(connection) is None:
                        yield
                        return
            self.prepare()

    @contextmanager
    def attach_snapshot(
        self, connection: duckdb.DuckDBPyConnection, snapshot: Path | str, name: str
    ) -> Iterator[None]:
        """Attach a snapshot to read: one that a note names, or a number or moment."""
        as_of = noted_version(snapshot) if isinstance(snapshot, Path) else snapshot
        with self._attached_to_read(connection, name, as_of):
            yield

    def holders(self) -> list[str]:
        """Return who has the turn to commit."""
        return self.catalog.holders()

    def version_of(self, as_of: str) -> int:
        """Return the number of the snapshot that was the newest at a moment, or is named.

        Raises:
            WarehouseError: there is none.
        """
        with (
            closing(self.connect(":memory:")) as connection,
            self._attached(connection, "lake", read_only=True),
        ):
            return self._find(connection, "lake", as_of)

    @contextmanager
    def committing(self, connection: duckdb.DuckDBPyConnection, message: str) -> Iterator[None]:
        """Commit what the body does to ``warehouse``; the lake's history says who and what."""
        about = {"recipe": self.recipe, "process": os.getpid(), "host": socket.gethostname()}
        with commit(connection, self._author, message, json.dumps(about)):
            yield

    def rebuild(self, tables: Sequence[str] | None) -> str:
        """Say how tables, or all of them, are made anew; see `Database.rebuild`."""
        if tables is None:
            return "name another catalog and an empty place for data in warehouse.ducklake"
        place = self.model_dump(include={"database", "data", "catalog_schema", "folder"})
        code = f"from alignment_assets.warehouse.lake import Lake; Lake(**{place}).drop({tables!r})"
        return f"python -c {shlex.quote(code)}"

    def drop(self, tables: Sequence[str]) -> None:
        """Drop tables, whatever their columns are."""
        with self._opened_to_write("dropping tables") as connection:
            for table in tables:
                connection.execute(f"DROP TABLE {table}")

    # What the steps of runs say of themselves is in `resource`.

    @property
    def settings(self) -> dict[str, Any]:
        """See `Database.settings`."""
        return {**super().settings, **SETTINGS}

    @property
    def _author(self) -> str:
        return f"process {os.getpid()}"

    def _staging(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: sql_files.Table,
        partition: dict[str, str],
        straight: bool,
        name: str,
    ) -> LakeStaging:
        return LakeStaging(
            connection,
            table,
            partition,
            self.attach_in_turn,
            straight,
            data=self.files,
            scratch=self.spill_folder / name,
            committing=self.committing,
        )

    @contextmanager
    def _without(self, connection: duckdb.DuckDBPyConnection, dropped: Rows) -> Iterator[str]:
        with self.committing(connection, "removing rows"):
            delete_rows(connection, dropped)
            yield "warehouse"

    def declaration(self, table: sql_files.Table) -> str:
        """Return the statement that makes a table: DuckLake knows no compression of columns."""
        return table.ddl

    def _bring_forward(self, connection: duckdb.DuckDBPyConnection) -> None:
        new = self._migration(connection) is not None
        super()._bring_forward(connection)
        if new:
            keep_records_in_catalog(connection)

    @contextmanager
    def _opened_to_write(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.is_there:
            with self._turn(purpose):
                if not self.is_there:
                    self._make()
        with (
            closing(self.connect(":memory:")) as connection,
            self._attached(connection, "warehouse"),
        ):
            connection.execute("USE warehouse")
            with self._turn(purpose):
                yield connection

    def _turn(self, purpose: str) -> AbstractContextManager[None]:
        return self.catalog.turn(purpose, self.lock_timeout, self._log)

    def _make(self) -> None:
        if not self.files.is_empty():
            raise WarehouseError(
                f"{self.data} has files, and {self.database} has no catalog yet: they may be "
                f"another lake's; name an empty place in warehouse.ducklake.data, or that catalog"
            )
        self.catalog.make()
        with closing(self.connect(":memory:")) as connection, self._attached(connection, "new"):
            pass

    @contextmanager
    def _attached(
        self,
        connection: duckdb.DuckDBPyConnection,
        name: str,
        *,
        snapshot: int | None = None,
        read_only: bool = False,
    ) -> Iterator[None]:
        options = [f"DATA_PATH {sql_files.text_literal(self.files.folder)}", *self.catalog.options]
        options.append("DATA_INLINING_ROW_LIMIT 0")
        if read_only:
            options.append("READ_ONLY")
        if snapshot is not None:
            options.append(f"SNAPSHOT_VERSION {snapshot}")
        address = sql_files.text_literal(f"ducklake:{self.catalog.address}")
        try:
            connection.execute(f"ATTACH {address} AS {name} ({', '.join(options)})")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            if reason.startswith("DATA_PATH"):  # of two texts in quotes, the other one
                reason = f"its files are in {reason.split(chr(34))[3]}; is it another lake?"
            raise WarehouseError(f"{self.shown} cannot be opened: {reason}") from error
        try:
            yield
        finally:
            with suppress(duckdb.Error):  # of a query that was broken off
                connection.interrupt()
                there = connection.execute("SELECT database_name FROM duckdb_databases()")
                home = "staging" if ("staging",) in there.fetchall() else "memory"
                connection.execute(f"SET search_path = '{home}.main'")
                connection.execute(f"DETACH {name}")

    @contextmanager
    def _attached_to_read(
        self, connection: duckdb.DuckDBPyConnection, name: str, as_of: str | None
    ) -> Iterator[None]:
        while True:
            if newest := self.catalog.newest():
                version, _ = newest
                if as_of is not None:
                    with self._attached(connection, name, read_only=True):
                        version = self._find(connection, name, as_of)
                with self._attached(connection, name, snapshot=version, read_only=True):
                    if as_of is not None or self._migration(connection, name) is None:
                        yield
                        return
            if as_of is not None:
                raise WarehouseError(f"no lake {self.shown} yet, so it has no snapshots")
            with self._opened_to_write("preparing the tables") as writing:
                self._bring_forward(writing)

    def _find(self, connection: duckdb.DuckDBPyConnection, name: str, as_of: str) -> int:
        catalog = _CATALOG.format(name=name)
        if as_of.isdecimal():
            where = f"WHERE snapshot_id = {int(as_of)}"
        else:
            where = _BY_TIME.format(time=sql_files.text_literal(_moment(as_of).isoformat()))
        found = connection.execute(_NEWEST.format(catalog=catalog, where=where)).fetchone()
        if found is None:
            count, first, last, since = connection.execute(
                _SNAPSHOTS.format(catalog=catalog)
            ).fetchone() or (0, None, None, None)
            raise WarehouseError(
                f"no snapshot {as_of}: there are {count}, {first} ({since:%Y-%m-%dT%H:%MZ}) "
                f"to {last}; `alignment-assets lake snapshots` lists them"
            )
        return int(found[0])

    def _migration(
        self, connection: duckdb.DuckDBPyConnection, database: str | None = None
    ) -> Migration | None:
        name = database or "warehouse"
        newest = _NEWEST.format(catalog=_CATALOG.format(name=name), where="ORDER BY ALL DESC")
        (_, schema) = connection.execute(newest).fetchone() or (0, 0)
        seen = (self.database, self.catalog_schema, self.recipe, sql_files.schema_version(), schema)
        if seen in _COMPARED:
            return None
        migration = plan_migration(connection, name, self)
        if migration is None:
            _COMPARED.add(seen)
        return migration


def noted_version(note: Path) -> str:
    """Return the number of the snapshot that a note of `Lake.snapshot` names.

    Raises:
        WarehouseError: it is none.
    """
    version = read_record(note).get("lake_snapshot") if note.suffix != ".duckdb" else None
    if version is None:
        raise WarehouseError(f"{note} is no snapshot of a lake; name another")
    return version


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise WarehouseError(
            f"{text!r} is no snapshot: write its number, or a moment as 2026-11-30T06:00:00Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


__all__ = ["Lake", "noted_version"]
