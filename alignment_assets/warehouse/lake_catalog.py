"""The catalog of a DuckLake: a file of SQLite, or a schema of a PostgreSQL database.

Here belongs what differs between the two: how each is named, made, and who commits when.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import duckdb

from alignment_assets.host.advisory_lock import AdvisoryLock, connected
from alignment_assets.host.paths import why_denied, why_unwritable
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.access import SharedFile
from alignment_assets.warehouse.schema import RECORDS, WarehouseError

logger = logging.getLogger(__name__)

SQLITE, POSTGRES = "sqlite:", "postgres:"
# Who reads waits so long for who commits, which takes milliseconds.
_BUSY_MILLISECONDS = 60_000
# Rows of records are few: the catalog holds them itself, until there are so many.
INLINED_ROWS = 1000
_NEWEST = "SELECT snapshot_id, schema_version FROM {snapshots} ORDER BY snapshot_id DESC LIMIT 1"


class Catalog(Protocol):
    """What is common to both."""

    @property
    def address(self) -> str:
        """How DuckLake names it, after ``ducklake:``; no password is in it."""

    @property
    def extension(self) -> str:
        """DuckDB's extension for it."""

    @property
    def options(self) -> tuple[str, ...]:
        """What it is attached with."""

    def newest(self) -> tuple[int, int] | None:
        """Return the newest snapshot and the version of its tables; None before it is made."""

    def make(self) -> None:
        """Make what DuckLake expects to be there."""

    @contextmanager
    def turn(self, purpose: str, timeout: float, log: Callable[[str], None]) -> Iterator[None]:
        """Have the turn to commit, alone among those who share it."""

    def holders(self) -> list[str]:
        """Return who has the turn."""


def catalog_of(address: str, schema: str) -> Catalog:
    """Return the catalog at an address, ``sqlite:<file>`` or ``postgres:<libpq's>``."""
    if address.startswith(SQLITE):
        return SqliteCatalog(Path(address.removeprefix(SQLITE)))
    return PostgresCatalog(address.removeprefix(POSTGRES), schema)


@dataclass(frozen=True)
class SqliteCatalog:
    """A catalog for the processes of one machine.

    Attributes:
        file: it. Beside it stand SQLite's log, and the folder of those who wait for their turn.
    """

    file: Path

    address = property(lambda self: f"{SQLITE}{self.file}")
    extension = "sqlite_scanner"
    # With its log, SQLite lets readers read while somebody writes.
    options = ("META_JOURNAL_MODE 'WAL'", f"META_BUSY_TIMEOUT {_BUSY_MILLISECONDS}")

    def newest(self) -> tuple[int, int] | None:
        """Return the newest snapshot and the version of its tables; None before it is made.

        Raises:
            WarehouseError: it cannot be read.
        """
        if not self.file.is_file() or not self.file.stat().st_size:
            return None
        connection = sqlite3.connect(f"{self.file.as_uri()}?mode=ro", uri=True)
        try:
            query = _NEWEST.format(snapshots="ducklake_snapshot")
            return _numbers(connection.execute(query).fetchone())
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # whoever was making it was killed
                return None
            reason = why_unwritable(self.file.parent) or why_denied(self.file) or str(error)
            raise WarehouseError(
                f"the catalog {self.file} cannot be read: SQLite keeps its log beside it, and "
                f"{reason}; have a user run this who may write there"
            ) from error
        except sqlite3.Error:
            return None
        finally:
            connection.close()

    def make(self) -> None:
        """Make the file's folder; DuckLake makes the file."""
        self.file.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def turn(self, purpose: str, timeout: float, log: Callable[[str], None]) -> Iterator[None]:
        """Have the file's lock; see `SharedFile.opened`."""
        shared = SharedFile(self.file, timeout, log)
        with shared.opened(nullcontext, exclusive=True, purpose=purpose):
            yield

    def holders(self) -> list[str]:
        """Return who has the file's lock."""
        return SharedFile(self.file, 0, logger.warning).holders()


@dataclass(frozen=True)
class PostgresCatalog:
    """A catalog for the processes of several machines.

    Attributes:
        conninfo: the database as libpq takes it, without a password: that is in PGPASSWORD or
            a password file.
        schema: the schema that has DuckLake's tables, so that recipes may share a database.
    """

    conninfo: str
    schema: str

    address = property(lambda self: f"{POSTGRES}{self.conninfo}")
    extension = "postgres_scanner"

    @property
    def options(self) -> tuple[str, ...]:
        """What it is attached with."""
        return (f"META_SCHEMA {sql_files.text_literal(self.schema)}",)

    def newest(self) -> tuple[int, int] | None:
        """Return the newest snapshot and the version of its tables; None before it is made."""
        snapshots = f'"{self.schema}".ducklake_snapshot'
        with self._asked() as connection:
            (made,) = connection.execute("SELECT to_regclass(%s)", [snapshots]).fetchone()
            if made is None:
                return None
            return _numbers(connection.execute(_NEWEST.format(snapshots=snapshots)).fetchone())

    def make(self) -> None:
        """Make the schema."""
        with self._asked() as connection:
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"')

    @contextmanager
    def turn(self, purpose: str, timeout: float, log: Callable[[str], None]) -> Iterator[None]:
        """Hold the advisory lock of the schema."""
        with self._lock.held(purpose, timeout, log):
            yield

    def holders(self) -> list[str]:
        """Return who holds the advisory lock of the schema."""
        return [self._lock.holder() or "nobody now"]

    @property
    def _lock(self) -> AdvisoryLock:
        return AdvisoryLock(self.conninfo, f"the catalog {self.schema}")

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        with connected(self.conninfo, "looks", f"the catalog {self.schema}") as connection:
            yield connection


def keep_records_in_catalog(connection: duckdb.DuckDBPyConnection) -> None:
    """Have the catalog of ``warehouse`` hold the rows of records, which come a few at a time."""
    for table in sorted(RECORDS):
        connection.execute(
            "CALL warehouse.set_option('data_inlining_row_limit', $rows, table_name => $table)",
            {"rows": INLINED_ROWS, "table": table},
        )


def _numbers(row: Any) -> tuple[int, int] | None:
    return None if row is None else (int(row[0]), int(row[1]))
