"""Two states of a training set against each other: snapshots, the database now, or exports.

Here belongs finding and opening them. What became of each pair, and why, is told by the SELECTs of
``sql/compare``: those of `database` and `export` read a side, `compared.sql` puts the sides
together, and `answers` has what a user is shown.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from alignment_assets.host.expected import Expected
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.access import closing
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lake import Lake
from alignment_assets.warehouse.query import Rows, check_there, fetch, pandas_left_out
from alignment_assets.warehouse.schema import product_version
from alignment_assets.warehouse.settings import duckdb_settings
from alignment_assets.warehouse.snapshots import (
    COPY_SUFFIX,
    NOTE_SUFFIX,
    all_snapshots,
    snapshot_to_read,
    snapshots_folder,
)

# Names the database as it is.
NOW = "now"
SNAPSHOTS_TOLD = 5
# What DuckDB raises where a table, a column or a type is another.
_OTHER_TABLES = (duckdb.BinderException, duckdb.CatalogException, duckdb.ConversionException)


class ComparisonError(Expected):
    """What cannot be compared; the message says why and what to do."""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: as it is shown.
        path: the file of a snapshot, the home of the database itself, or an export's folder.
        as_of: of a DuckLake, the number of a snapshot, or a moment; then ``path`` is its home.
        policy: of an export, the policy that it is for; a database has all.
        recipe: of an export, the name of the recipe that made it.
        fingerprint: and that recipe's.
    """

    name: str
    path: Path
    as_of: str | None = None
    policy: str | None = None
    recipe: str | None = None
    fingerprint: str | None = None

    @property
    def files(self) -> list[str]:
        """The files with an export's pairs."""
        return sorted(str(file.absolute()) for file in (self.path / "dpo").glob("*.parquet"))


def find_side(database: Database, named: str | None) -> Side:
    """Return what a user names.

    Args:
        database: the recipe's.
        named: a snapshot's file or its name in the recipe's home, ``now``, or the folder of an
            export; by default the last snapshot.

    Raises:
        ComparisonError: there is no such thing, or it is of another kind.
        QueryError: there is no database now.
        WarehouseError: there is no last snapshot.
    """
    if named is None:
        last = snapshot_to_read(database.home)
        return Side(last.stem, last)
    if named == NOW:
        check_there(database)
        return Side(NOW, database.home)
    if Path(named).is_dir():
        return _export(named, Path(named))
    folder = snapshots_folder(database.home)
    kinds = [folder / f"{named}{suffix}" for suffix in (COPY_SUFFIX, NOTE_SUFFIX)]
    for path in (Path(named), folder / named, *kinds):
        if path.is_file():
            return Side(named, _checked_file(path))
    if named[:1].isdigit() and isinstance(database, Lake):
        check_there(database)
        return Side(named, database.home, as_of=str(database.version_of(named)))
    newest = sorted((path.stem for path in all_snapshots(database.home)), reverse=True)
    more = ", …" if len(newest) > SNAPSHOTS_TOLD else ""
    there = f"has {', '.join(newest[:SNAPSHOTS_TOLD])}{more}" if newest else "has none"
    raise ComparisonError(f"no snapshot, database or export {named}; {folder} {there}")


def _checked_file(path: Path) -> Path:
    if path.suffix == NOTE_SUFFIX:
        return path
    with path.open("rb") as file:
        if file.read(12)[8:] != b"DUCK":
            raise ComparisonError(f"{path} is no database; name a snapshot, or an export's folder")
    return path


def _export(named: str, folder: Path) -> Side:
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        policy, recipe = manifest["policy"], manifest["recipe"]
        side = Side(named, folder, None, policy["name"], recipe["name"], recipe["fingerprint"])
    except FileNotFoundError as error:
        raise ComparisonError(
            f"{named} is no export: it has no manifest.json; of a home name a snapshot or `{NOW}`"
        ) from error
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ComparisonError(
            f"{named} is no export of alignment-assets: its manifest.json names no recipe and "
            f"policy; name another folder"
        ) from error
    if not side.files:
        raise ComparisonError(f"{named} has no pairs in dpo/*.parquet; export the format dpo, too")
    return side


def compare(database: Database, a: Side, b: Side, answers: Sequence[str]) -> dict[str, Rows]:
    """Compare the pairs of two sides.

    Each side is opened read-only, and no other file is; of the database now, who writes waits until
    this is done. Rows of policies that left the recipe do not count: in a snapshot those that its
    own recipe does not have.

    Args:
        database: the recipe's, whose limits hold.
        a: the first.
        b: the second.
        answers: names of files in ``sql/compare/answers``.

    Returns:
        The rows of each answer.

    Raises:
        ComparisonError: they are the same, of two policies, or one of them cannot be read.
        WarehouseError: the tables of the database now differ from ``sql/schema``.
        LockTimeout: the database stayed with somebody else.
    """
    if (a.path.resolve(), a.as_of) == (b.path.resolve(), b.as_of):
        raise ComparisonError(f"A and B are both {b.name}; name two to compare")
    exported = sorted({side.policy for side in (a, b) if side.policy is not None})
    if len(exported) > 1:
        raise ComparisonError(
            f"{a.name} is of the policy {a.policy} and {b.name} of {b.policy}, which have no pair "
            f"in common; name two exports of one policy"
        )
    try:
        return _answers(database, a, b, answers, exported)
    except duckdb.Error as error:  # no memory, or no room on the disk
        raise ComparisonError(f"comparing {a.name} with {b.name}: {error}") from error


def _answers(
    database: Database, a: Side, b: Side, answers: Sequence[str], exported: Sequence[str]
) -> dict[str, Rows]:
    with ExitStack() as held:
        connection = held.enter_context(closing(_connection(database)))
        sides = [
            held.enter_context(_opened(connection, database, side, letter))
            for side, letter in ((a, "a"), (b, "b"))
        ]
        files = ", ".join(map(sql_files.text_literal, [*a.files, *b.files]))
        connection.execute(f"SET allowed_paths = [{files}]")
        connection.execute("SET enable_external_access = false")
        for side in sides:
            _make(connection, side, f"pairs_{side.letter}", "pairs", exported)
        for side, other in zip(sides, reversed(sides), strict=True):
            for view, letter in (("own", side.letter), ("other", other.letter)):
                connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS FROM pairs_{letter}")
            _make(connection, side, f"absent_from_{side.letter}", "absent", exported)
        _create(connection, "compared", "compared", {})
        given = {"sides": [side.told for side in sides]}
        return {
            name: fetch(connection, sql_files.read_sql("compare", f"answers/{name}"), given)
            for name in answers
        }


@dataclass(frozen=True)
class _Opened:
    """A side that a connection can read.

    Attributes:
        side: what it is.
        letter: ``a`` or ``b``.
        schema: where its tables are.
        recipe: the name of the recipe that made it.
        fingerprint: the recipe's.
        version: of the product that wrote it, if that is known.
        policies: whose pairs count; None if all do.
    """

    side: Side
    letter: str
    schema: str
    recipe: str | None
    fingerprint: str | None
    version: str = "another version"
    policies: Sequence[str] | None = None

    @property
    def told(self) -> dict[str, str | None]:
        """What users are told of it."""
        return {
            "side": self.letter.upper(),
            "name": self.side.name,
            "recipe": self.recipe,
            "fingerprint": self.fingerprint and self.fingerprint[:16],
        }


def _connection(database: Database) -> duckdb.DuckDBPyConnection:
    """Return a connection to nothing, which makes no home where there is none."""
    there = database.spill_folder if database.home.is_dir() else Path(tempfile.gettempdir())
    spill = there / f"{os.getpid()}-compare.spill"
    config = duckdb_settings(database.settings, spill)
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET enable_progress_bar = false")
    database.equip(connection)
    connection.execute("ATTACH ':memory:' AS staging")
    return connection


@contextmanager
def _opened(
    connection: duckdb.DuckDBPyConnection, database: Database, side: Side, letter: str
) -> Iterator[_Opened]:
    if side.policy is not None:
        yield _Opened(side, letter, "staging.main", side.recipe, side.fingerprint)
    elif side.name == NOW and side.path == database.home:
        with database.attach_in_turn(connection, exclusive=False, purpose="comparing"):
            found = _database(connection, side, letter, "warehouse")
            yield replace(found, policies=database.members.get("policy"))
    else:
        snapshot = side.path if side.as_of is None else side.as_of
        try:
            with database.attach_snapshot(connection, snapshot, letter):
                yield _database(connection, side, letter, letter)
        except (duckdb.IOException, duckdb.BinderException) as error:
            raise ComparisonError(
                f"{side.name} cannot be opened: {_first_line(error)}; name a snapshot"
            ) from error


def _database(connection: duckdb.DuckDBPyConnection, side: Side, letter: str, name: str) -> _Opened:
    """Return an attached database with what it says of itself."""
    try:
        recipe, version = connection.execute(
            f"SELECT recipe, product_version FROM {name}.main.database_info LIMIT 1"
        ).fetchone() or (None, None)
    except duckdb.Error as error:
        raise ComparisonError(
            f"{side.name} is no database of alignment-assets; name a snapshot or an export"
        ) from error
    opened = _Opened(side, letter, f"{name}.main", recipe, None, f"alignment-assets {version}")
    tables = connection.execute(
        f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{name}'"
    ).fetchall()
    if ("recipes",) not in tables:  # an older snapshot
        return opened
    for made_by, fingerprint, policies in connection.execute(
        "SELECT name, fingerprint, (settings -> '$.completions.policies')::VARCHAR[] "
        f"FROM {name}.main.recipes"
    ).fetchall():
        opened = replace(opened, recipe=made_by, fingerprint=fingerprint, policies=policies)
    return opened


def _make(
    connection: duckdb.DuckDBPyConnection,
    opened: _Opened,
    table: str,
    file: str,
    exported: Sequence[str],
) -> None:
    """Make a temporary table of a side: of the policy of an export alone, if one is compared."""
    side, policies = opened.side, opened.policies
    if exported:
        policies = [one for one in exported if policies is None or one in policies]
    kind = "database" if side.policy is None else "export"
    values = {"policies": policies, "policy": side.policy, "files": side.files}
    connection.execute(f"SET search_path = '{opened.schema}'")
    try:
        _create(connection, table, f"{kind}/{file}", values)
    except _OTHER_TABLES as error:
        raise ComparisonError(
            f"{side.name} cannot be compared: it was written by {opened.version}, this is "
            f"alignment-assets {product_version()} ({_first_line(error)}); compare with the "
            f"version that wrote it"
        ) from error
    except duckdb.Error as error:
        raise ComparisonError(f"{side.name} cannot be read: {_first_line(error)}") from error


def _create(
    connection: duckdb.DuckDBPyConnection, table: str, file: str, values: Mapping[str, Any]
) -> None:
    text = sql_files.read_sql("compare", file)
    with pandas_left_out():
        connection.execute(
            f"CREATE TEMP TABLE {table} AS {text}", sql_files.named_parameters(text, values)
        )


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]
