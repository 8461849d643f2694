"""New rows of a table on their way: built apart, audited, and put in place of the old ones.

Here belongs what happens to rows between a query and their place; how they are put there is told
for a DuckDB file by `file_staging` and for a DuckLake by `lake_staging`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import duckdb

from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Input, TablePart, lineage_rows
from alignment_assets.warehouse.rewrite import (
    Rows,
)
from alignment_assets.warehouse.row_records import (
    Records,
    content_of,
    standing_version,
    write_records,
)
from alignment_assets.warehouse.schema import WarehouseError, check_columns, check_types

if TYPE_CHECKING:
    import pyarrow as pa

# A disk or the memory is full.
_FULL = (duckdb.IOException, duckdb.OutOfMemoryException)


@dataclass(frozen=True)
class Published:
    """What a replacement put in place.

    Attributes:
        table: the table.
        rows: how many it has, of the partition.
        data_version: tells their content from another's.
        changed: whether they are other rows than before, or made of others.
    """

    table: str
    rows: int
    data_version: str
    changed: bool


class Attaching(Protocol):
    """Attaches the database to a connection as ``warehouse`` when it is our turn."""

    def __call__(
        self, connection: duckdb.DuckDBPyConnection, *, exclusive: bool, purpose: str
    ) -> AbstractContextManager[None]:
        """Return what holds the database while it is entered."""


class Staging(ABC):
    """New rows of a table on their way; see `Database.stage`.

    They wait in memory, if they have no long texts. What another kind of database does in its own
    way stands at the end.

    Args:
        connection: to nothing yet.
        table: whose rows they are.
        partition: the partition's column and value, or nothing.
        attach: attaches the database.
        straight: whether the rows have long texts, which do not wait in memory.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: sql_files.Table,
        partition: dict[str, str],
        attach: Attaching,
        straight: bool,
    ) -> None:
        self.connection = connection
        self.table = table
        self.partition = partition
        self._attach = attach
        self._straight = straight
        self._reading: ExitStack | None = None
        self._writing: ExitStack | None = None
        self._takes_rows, self._inserted, self._published = "staging", 0, False
        self._audited = False
        # In memory: what does not fit goes to the spill folder, and nothing is written twice.
        connection.execute("ATTACH ':memory:' AS staging")
        connection.execute("SET search_path = 'staging.main'")

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Let the database go; say of a disk or memory that is full what became of the rows."""
        self.close()
        if isinstance(error, _FULL) and not self._published:
            raise self._not_replaced(error) from error

    def insert(self, query: str, parameters: Mapping[str, Any]) -> None:
        """Add a query's rows, matched by column name.

        Raises:
            WarehouseError: a column is missing or too many, or its type is another.
        """
        values = sql_files.named_parameters(query, parameters)
        described = self.connection.execute(
            f"SELECT * FROM ({query}\n) LIMIT 0", values
        ).description
        names = [column[0] for column in described or ()]
        check_columns(self.table, names)
        check_types(self.connection, self.table, query, values, names)
        self._insert(f"({query}\n)", values)

    def insert_arrow(self, rows: pa.Table) -> None:
        """Add rows held in Arrow, matched by column name; raises as `insert` does."""
        check_columns(self.table, rows.column_names)
        self.connection.register("arrow_rows", rows)
        try:
            check_types(
                self.connection, self.table, "SELECT * FROM arrow_rows", {}, rows.column_names
            )
            self._insert("FROM arrow_rows", {})
        finally:
            self.connection.unregister("arrow_rows")

    def _insert(self, rows: str, values: Mapping[str, Any]) -> None:
        self._audited = False
        self._inserted += self._add(rows, values)

    def audit(self, parameters: Mapping[str, Any]) -> None:
        """Run the table's rules on the new rows.

        Raises:
            WarehouseError: a rule found offending rows; the message shows some.
        """
        self.open()
        ours, values = self._old_rows[self.table.name]
        there, own = self.connection.execute(
            f"SELECT count(*), count(*) FILTER ({ours}) FROM staging.{self.table.name}", values
        ).fetchone() or (0, 0)
        # Straight rows of others are out of sight: they are in the table itself.
        others = max(there, self._inserted) - own
        if others:
            column = ", ".join(self.partition)
            raise WarehouseError(f"{self.label}: {others} new rows are of another {column}")
        for rule in rules_of(self.table.name):
            query = sql_files.read_sql("checks", rule)
            offending = self.connection.execute(
                query, sql_files.named_parameters(query, parameters)
            ).fetchmany(4)
            if offending:
                more = "; …" if len(offending) > 3 else ""
                shown = "; ".join(shown_row(row)[:200] for row in offending[:3]) + more
                raise WarehouseError(
                    f"{self.label}: the rule sql/checks/{rule}.sql found {shown}; the old rows stay"
                )
        self._audited = True

    @property
    def reads(self) -> str:
        """The name by which the database with all other rows is attached while it is open."""
        return "warehouse"

    @property
    def part(self) -> TablePart:
        """What is replaced."""
        return TablePart(self.table.name, next(iter(self.partition.values()), None))

    def publish(
        self,
        parameters: Mapping[str, Any],
        *,
        may_be_empty: bool = True,
        inputs: Sequence[Input] | None = None,
        losses: pa.Table | None = None,
        shown: pa.Table | None = None,
    ) -> Published:
        """Audit the new rows, then replace the old ones in one transaction.

        Old rows that are the same, made of the same, stay as they are, and their making keeps its
        version. Rows that went straight are written by then; so are those whose texts are shown.

        Args:
            parameters: what the table's rules may name.
            may_be_empty: whether no rows at all is a result.
            inputs: what they were made of; without it nothing is built from them by an asset.
            losses: rows of the table ``losses``: what was lost when they were made.
            shown: rows to add to the table ``shown_texts``: whose texts the run shows.

        Raises:
            WarehouseError: a rule is broken, there are no rows where there should be some, or the
                database does not take them.
            OSError: the disk has no room for them.
            LockTimeout: the database's file stayed with somebody else.
        """
        if not self._audited:
            self.audit(parameters)
        name = self.table.name
        rows, content = self._content(self.connection, f"staging.{name}", {})
        if rows == 0 and not may_be_empty:
            raise WarehouseError(
                f"{self.label}: no rows came out, and the old ones stay; is everything upstream "
                f"materialized? `{proposed('status')}` shows it"
            )
        made = None if inputs is None else lineage_rows(self.part, rows, content, inputs)
        records = {"lineage": made, "losses": losses, "shown_texts": shown}
        version = None if made is None else self._standing_version(content, records)
        if version and inputs is not None:
            if shown is None and not self._straight:
                return Published(name, rows, content, changed=False)
            records["lineage"] = lineage_rows(self.part, rows, content, inputs, version)
        try:
            if self._writing is None:
                self._put_in_place()
            write_records(self.connection, self._takes_rows, self.part, records)
            writing, self._writing = self._writing, None
            assert writing
            writing.close()
        except duckdb.Error as error:
            raise self._not_replaced(error) from error
        finally:
            self.close()
        self._published = True
        return Published(name, rows, content, changed=version is None)

    def open(self) -> None:
        """Attach the database to read; it stays so until the rows are published."""
        if self._reading is None and self._writing is None:
            purpose = f"reading for {self.label}"
            with ExitStack() as reading:
                reading.enter_context(
                    self._attach(self.connection, exclusive=False, purpose=purpose)
                )
                self._search("warehouse")
                self._reading = reading.pop_all()

    def created_at(self) -> str:
        """Return when the database was created, which tells it from others of its name."""
        self.open()
        return str(self._scalar("SELECT created_at FROM warehouse.main.database_info"))

    def close(self) -> None:
        """Let the database go; what was written to it and not published is undone."""
        if self._reading is not None:
            reading, self._reading = self._reading, None
            reading.close()
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.__exit__(_Abandoned, _Abandoned(), None)

    def _search(self, database: str) -> None:
        self.connection.execute(f"SET search_path = 'staging.main,{database}.main'")

    def _standing_version(self, content: str, records: Records) -> str | None:
        """Return the old rows' version if they are the new ones, and no hand has changed them."""
        condition, values = self._old_rows[self.table.name]
        place = f"warehouse.main.{self.table.name} WHERE {condition}"
        # In a transaction of its own, which sees old rows that ours has taken away.
        with closing(self.connection.cursor()) as before:
            version = standing_version(before, "warehouse", self.part, records)
            if version and self._content(before, place, values)[1] == content:
                return version
        return None

    def _content(
        self, connection: duckdb.DuckDBPyConnection, place: str, values: Mapping[str, Any]
    ) -> tuple[int, str]:
        return content_of(connection, self.table, place, values, texts=not self._straight)

    def _not_replaced(self, error: duckdb.Error) -> WarehouseError:
        reason = str(error).splitlines()[0]
        return WarehouseError(f"{self.label}: not replaced, the old rows stay: {reason}")

    @property
    def _old_rows(self) -> Rows:
        named = " AND ".join(f"{column} = ${column}" for column in self.partition)
        return {self.table.name: (named or "true", self.partition)}

    @property
    def label(self) -> str:
        """The table, with its partition in brackets."""
        place = f"[{', '.join(self.partition.values())}]" if self.partition else ""
        return f"{self.table.name}{place}"

    def _scalar(self, query: str, values: Mapping[str, Any] | None = None) -> Any:
        row = self.connection.execute(query, dict(values or {})).fetchone()
        return row[0] if row else None

    # What each kind of database does in its own way.

    @abstractmethod
    def check_room(self) -> None:
        """Raise OSError if the disk has no room for as many rows as there are now."""

    @abstractmethod
    def _add(self, rows: str, values: Mapping[str, Any]) -> int:
        """Take the rows of what follows INSERT INTO; return how many they are."""

    @abstractmethod
    def _put_in_place(self) -> None:
        """Begin the transaction that `_writing` commits, the new rows in it instead of the old."""


class _Abandoned(Exception):
    """Ends what is open to write, so that it is undone."""


def rules_of(table: str) -> list[str]:
    """Return the names of a table's rules in ``sql/checks`` (``completions/keys``)."""
    return [name for name in sql_files.sql_names("checks") if name.startswith(f"{table}/")]


def shown_row(row: Sequence[Any]) -> str:
    """Return an offending row for a message, ids as they are written."""
    return str(tuple(str(value) if isinstance(value, UUID) else value for value in row))
