"""The warehouse: one DuckDB file that many processes read and take turns to write.

Every replacement is write-audit-publish: new rows are built in a file apart, the table's rules run
on them there, and one transaction puts them in place. Here belongs all that opens the database.
"""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
from dagster_duckdb import DuckDBResource
from pydantic import Field
from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception,
    stop_after_delay,
    wait_random_exponential,
)

from alignment_assets import sql
from alignment_assets.resources.locking import locked

logger = logging.getLogger(__name__)


class WarehouseError(RuntimeError):
    """Rows or tables that do not fit; the message says which and what to do."""


@dataclass(frozen=True)
class Published:
    """What a replacement put in place."""

    table: str
    rows: int
    data_version: str


class Warehouse(DuckDBResource):
    """The DuckDB database of a recipe, safe to share between processes.

    ``database`` and ``connection_config`` mean what they mean in ``DuckDBResource``; a
    ``temp_directory`` in it is the parent of one folder for each process.
    """

    lock_timeout: float = Field(default=3600.0, description="Seconds to wait for the file at most.")

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self.database)

    @property
    def home(self) -> Path:
        """The folder it stands in, with the spool and the staging files beside it."""
        return self.path.parent

    @property
    def lock_path(self) -> Path:
        """The file that processes lock to take turns."""
        return self.path.with_name(self.path.name + ".lock")

    @property
    def spill_folder(self) -> Path:
        """Where queries that outgrow memory spill, each process in a folder of its own."""
        return Path(self.connection_config.get("temp_directory") or self.home / "staging")

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database for writing, alone; free again when the body ends or raises."""
        with self._locked(exclusive=True, purpose="writing"):
            connection = self._connect(self.database)
            try:
                yield connection
            finally:
                connection.close()

    @contextmanager
    def read(self, *, isolated: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the database read-only, beside other readers. Keep it short: writers wait.

        Args:
            isolated: without access to any other file, for queries that are not ours.
        """
        self.prepare()
        with self._locked(exclusive=False, purpose="reading"):
            connection = self._connect(self.database, read_only=True)
            try:
                if isolated:
                    connection.execute(
                        "SET enable_external_access = false; SET lock_configuration = true"
                    )
                yield connection
            finally:
                connection.close()

    @contextmanager
    def stage(self, table: str, partition: Mapping[str, str] | None = None) -> Iterator[Staging]:
        """Build new rows of a table, or of one partition of it, apart from the old ones.

        Inside, names of tables mean the warehouse's, but for ``table`` itself: that is the new
        rows. Nothing changes before `Staging.publish`.
        """
        self.prepare()
        folder = self.home / "staging"
        folder.mkdir(parents=True, exist_ok=True)
        for scratch in {folder, self.spill_folder}:
            _remove_leftovers(scratch)
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        path = folder / f"{name}.duckdb"
        with self._locked(exclusive=False, purpose=f"reading for {table}") as lock:
            connection = self._connect(":memory:", spill=name)
            try:
                connection.execute(f"ATTACH {_quoted(path)} AS staging")
                self._attach(connection, read_only=True)
                connection.execute("SET search_path = 'staging.main,warehouse.main'")
                connection.execute(sql.tables()[table].ddl)
                yield Staging(self, connection, sql.tables()[table], dict(partition or {}), lock)
            finally:
                connection.close()
                for leftover in folder.glob(f"{path.name}*"):
                    leftover.unlink()

    def prepare(self) -> None:
        """Create the database and the tables it lacks.

        Raises:
            WarehouseError: a table's columns are not those of ``sql/schema``.
        """
        if self.path.exists():
            with self._locked(exclusive=False, purpose="reading"):
                missing = self._missing_tables()
            if not missing:
                return
        with self.get_connection() as connection:
            present = {
                name
                for (name,) in connection.execute(
                    "SELECT table_name FROM duckdb_tables()"
                ).fetchall()
            }
            connection.begin()
            for table in sql.tables().values():
                if table.name not in present:
                    connection.execute(table.ddl)
            connection.commit()

    def _missing_tables(self) -> list[str]:
        connection = self._connect(self.database, read_only=True)
        try:
            found: dict[str, list[tuple[str, str]]] = {}
            for table, column, kind in connection.execute(
                "SELECT table_name, column_name, data_type FROM duckdb_columns() "
                "ORDER BY table_name, column_index"
            ).fetchall():
                found.setdefault(table, []).append((column, kind))
        finally:
            connection.close()
        for name, table in sql.tables().items():
            wanted = {(column.name, column.type) for column in table.columns}
            if name in found and set(found[name]) != wanted:
                differing = sorted(wanted ^ set(found[name]))
                raise WarehouseError(
                    f"{self.path}: table {name} differs from sql/schema/{name}.sql in {differing}; "
                    f"drop the table and materialize {name} again"
                )
        return [name for name in sql.tables() if name not in found]

    @contextmanager
    def _locked(self, *, exclusive: bool, purpose: str) -> Iterator[_Lock]:
        lock = _Lock(self.lock_path, self.lock_timeout)
        try:
            lock.take(exclusive=exclusive, purpose=purpose)
            yield lock
        finally:
            lock.free()

    def _connect(
        self, database: str, *, read_only: bool = False, spill: str | None = None
    ) -> duckdb.DuckDBPyConnection:
        self.home.mkdir(parents=True, exist_ok=True)
        self.spill_folder.mkdir(parents=True, exist_ok=True)
        # Two databases that spill into one folder overwrite each other's files, and crash. All
        # connections of a process to one file are one database, and must name the same folder.
        own = self.spill_folder / f"{spill or f'{os.getpid()}-database'}.spill"
        config = {**self.connection_config, "temp_directory": str(own)}
        connection = _when_free(self.lock_timeout)(
            duckdb.connect, database, read_only=read_only, config=config
        )
        connection.execute(sql.macros())
        return connection

    def _attach(self, connection: duckdb.DuckDBPyConnection, *, read_only: bool) -> None:
        mode = " (READ_ONLY)" if read_only else ""
        _when_free(self.lock_timeout)(
            connection.execute, f"ATTACH {_quoted(self.path)} AS warehouse{mode}"
        )


class Staging:
    """New rows of a table on their way; see `Warehouse.stage`."""

    def __init__(
        self,
        warehouse: Warehouse,
        connection: duckdb.DuckDBPyConnection,
        table: sql.Table,
        partition: dict[str, str],
        lock: _Lock,
    ) -> None:
        self.connection = connection
        self.table = table
        self._warehouse = warehouse
        self._partition = partition
        self._lock = lock

    def insert(self, query: str, parameters: Mapping[str, Any]) -> None:
        """Add a query's rows, matched by column name.

        Raises:
            WarehouseError: a column is missing or too many.
        """
        values = sql.named_parameters(query, parameters)
        described = self.connection.execute(
            f"SELECT * FROM ({query}\n) LIMIT 0", values
        ).description
        self._check_columns([column[0] for column in described or ()])
        self.connection.execute(
            f"INSERT INTO staging.{self.table.name} BY NAME ({query}\n)", values
        )

    def insert_arrow(self, rows: pa.Table) -> None:
        """Add rows held in Arrow, matched by column name; raises as `insert` does."""
        self._check_columns(rows.column_names)
        self.connection.register("arrow_rows", rows)
        self.connection.execute(
            f"INSERT INTO staging.{self.table.name} BY NAME SELECT * FROM arrow_rows"
        )
        self.connection.unregister("arrow_rows")

    def audit(self, parameters: Mapping[str, Any]) -> None:
        """Run the table's rules on the new rows.

        Raises:
            WarehouseError: a rule found offending rows; the message shows some.
        """
        for column, value in self._partition.items():
            others = self._scalar(
                f"SELECT count(*) FROM staging.{self.table.name} WHERE {column} <> $value", value
            )
            if others:
                raise WarehouseError(f"{self._label}: {others} new rows are of another {column}")
        for rule in rules_of(self.table.name):
            query = sql.read_sql("checks", rule)
            offending = self.connection.execute(
                query, sql.named_parameters(query, parameters)
            ).fetchmany(4)
            if offending:
                shown = "; ".join(str(row)[:200] for row in offending[:3]) + (
                    "; …" if len(offending) > 3 else ""
                )
                raise WarehouseError(
                    f"{self._label}: the rule sql/checks/{rule}.sql found {shown}; "
                    f"the old rows stay"
                )

    def publish(self, parameters: Mapping[str, Any], *, may_be_empty: bool = True) -> Published:
        """Audit the new rows, then replace the old ones in one transaction.

        Args:
            parameters: what the table's rules may name.
            may_be_empty: whether no rows at all is a result.

        Raises:
            WarehouseError: a rule is broken, or there are no rows where there should be some.
        """
        self.audit(parameters)
        name = self.table.name
        rows, total = self.connection.execute(
            f"SELECT count(*), coalesce(sum(hash(new_row)), 0) FROM staging.{name} AS new_row"
        ).fetchone() or (0, 0)
        if rows == 0 and not may_be_empty:
            raise WarehouseError(
                f"{self._label}: no rows came out, and the old ones stay; is everything upstream "
                f"materialized? `alignment-assets status` shows it"
            )
        self.connection.execute("SET search_path = 'staging.main'")
        self.connection.execute("DETACH warehouse")
        self._lock.free()
        self._lock.take(exclusive=True, purpose=f"replacing {name}")
        self._warehouse._attach(self.connection, read_only=False)
        condition = " AND ".join(f"{column} = ${column}" for column in self._partition) or "true"
        self.connection.begin()
        self.connection.execute(
            f"DELETE FROM warehouse.main.{name} WHERE {condition}", self._partition
        )
        self.connection.execute(
            f"INSERT INTO warehouse.main.{name} BY NAME SELECT * FROM staging.{name}"
        )
        self.connection.commit()
        self.connection.execute("DETACH warehouse")
        self._lock.free()
        return Published(name, rows, f"{rows}-{total:x}")

    @property
    def _label(self) -> str:
        place = f"[{', '.join(self._partition.values())}]" if self._partition else ""
        return f"{self.table.name}{place}"

    def _check_columns(self, found: list[str]) -> None:
        wanted = [column.name for column in self.table.columns]
        missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
        if missing or extra:
            raise WarehouseError(
                f"{self.table.name}: new rows lack the columns {missing} and have {extra} too "
                f"many; make sql/schema/{self.table.name}.sql and the query agree"
            )

    def _scalar(self, query: str, value: str) -> Any:
        row = self.connection.execute(query, {"value": value}).fetchone()
        return row[0] if row else None


class _Lock:
    """The file's lock, which a stage frees and takes again on its way from reading to writing."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._held: Any = None

    def take(self, *, exclusive: bool, purpose: str) -> None:
        self._held = locked(self._path, exclusive=exclusive, timeout=self._timeout, purpose=purpose)
        waited = self._held.__enter__()
        if waited > 1:
            logger.warning("waited %.1f s for %s", waited, self._path)

    def free(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            held.__exit__(None, None, None)


def rules_of(table: str) -> list[str]:
    """Return the names of a table's rules in ``sql/checks`` (``completions/keys``)."""
    return [name for name in sql.sql_names("checks") if name.startswith(f"{table}/")]


def _when_free(timeout: float) -> Retrying:
    """Retry while somebody outside this product (a CLI, a notebook) has the file open."""
    return Retrying(
        retry=retry_if_exception(_is_lock_conflict),
        wait=wait_random_exponential(multiplier=0.05, max=2.0),
        stop=stop_after_delay(timeout),
        before_sleep=before_sleep_log(logger, logging.INFO),
        reraise=True,
    )


def _is_lock_conflict(error: BaseException) -> bool:
    return isinstance(error, duckdb.IOException) and "could not set lock" in str(error).lower()


def _quoted(path: Path) -> str:
    """ATTACH takes no parameter, so the file's name is quoted here."""
    return "'" + str(path).replace("'", "''") + "'"


def _remove_leftovers(folder: Path) -> None:
    """Remove staging and spill files whose process has died."""
    for path in [*folder.glob("*-*.duckdb*"), *folder.glob("*-*.spill")]:
        owner = path.name.split("-", 1)[0]
        if not owner.isdigit() or psutil.pid_exists(int(owner)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
