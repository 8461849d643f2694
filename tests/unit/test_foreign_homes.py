"""Homes that this user cannot write, or that hold something else: a line, or what can be read."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import pytest

from alignment_assets.commands.app import main
from tests.conftest import Graph
from tests.support.processes import other

COUNT = ("query", "exclusions_by_rule", "--format", "csv")


def as_other_users() -> None:
    """Take from root what lets it write everywhere (its capabilities)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capset(header, none) == 0


def call(pipe: Connection, home: str, *arguments: str, records: str = "") -> None:
    """Call the command with the rights of any user; hand over status, output and errors."""
    os.environ["ALIGNMENT_HOME"] = home
    os.environ["DAGSTER_HOME"] = records
    as_other_users()
    sys.argv = ["alignment-assets", *arguments]
    said, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    pipe.send((status, said.getvalue(), errors.getvalue()))


def called(home: Path, *arguments: str) -> tuple[int, str, str]:
    with other(call, str(home), *arguments) as process:
        status, said, errors = process.hear()
    return status, said, errors


@pytest.fixture
def archive(materialized: Callable[..., Graph]) -> Iterator[Path]:
    """A finished home that its reader cannot write."""
    home = materialized().home
    assert called(home, "status")[0] == 0  # gives the database its recipe's name
    shutil.rmtree(home / "alignment.duckdb.queue")
    paths = [path for path in (home, *home.rglob("*")) if not path.is_symlink()]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield home
    for path in paths:
        path.chmod(0o755)


def call_with_records(pipe: Connection, home: str, records: str, *arguments: str) -> None:
    call(pipe, home, *arguments, records=records)


def everything(home: Path) -> list[str]:
    return sorted(str(path) for path in home.rglob("*"))


@pytest.mark.parametrize(
    "arguments",
    [COUNT, ("status",), ("spool", "list", "--format", "csv"), ("spool", "verify")],
    ids=" ".join,
)
def test_an_archive_that_cannot_be_written_can_be_asked(
    archive: Path, arguments: tuple[str, ...]
) -> None:
    before = everything(archive)
    status, said, errors = called(archive, *arguments)
    assert (status, errors) == (0, "") and said
    assert everything(archive) == before


@pytest.mark.parametrize(
    "arguments",
    [("materialize",), ("dev",), ("forecast",), ("tidy", "--apply"), ("snapshot",)],
    ids=" ".join,
)
def test_what_would_write_an_archive_is_refused_in_a_line(
    archive: Path, arguments: tuple[str, ...]
) -> None:
    before = everything(archive)
    status, _, errors = called(archive, *arguments)
    assert status == 1 and errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert str(archive) in errors
    assert everything(archive) == before


def test_doctor_tells_that_a_home_can_be_read_only(archive: Path) -> None:
    status, said, errors = called(archive, "doctor")
    assert (status, errors) == (1, "")
    assert f"home: {archive} can be read only" in said and "free to read" in said


def test_tables_that_must_be_brought_forward_are_told_of_who_cannot(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("key:source_prompts")
    with graph.warehouse.get_connection() as connection:
        connection.execute("DROP TABLE personas")
    shutil.rmtree(graph.home / "alignment.duckdb.queue")
    graph.home.chmod(0o555)
    status, _, errors = called(graph.home, *COUNT)
    graph.home.chmod(0o755)
    assert status == 1 and errors.count("\n") == 1
    assert "has to be written (preparing the tables)" in errors


def test_a_writer_is_waited_for_by_who_cannot_queue(archive: Path) -> None:
    database = archive / "alignment.duckdb"
    database.chmod(0o644)
    with ExitStack() as held:
        with duckdb.connect(str(database)):
            process = held.enter_context(other(call, str(archive), *COUNT))
            assert not process.pipe.poll(10)
        status, said, _ = process.hear()
    assert status == 0 and said


def put_folder(path: Path) -> None:
    path.mkdir()


def put_text(path: Path) -> None:
    path.write_text("no database, and longer than a header\n" * 400)


@pytest.mark.parametrize("put", [put_folder, put_text])
@pytest.mark.parametrize(
    "arguments", [COUNT, ("status",), ("materialize",), ("snapshot",), ("forecast",)], ids=" ".join
)
def test_what_is_no_database_is_told_in_a_line(
    tmp_path: Path, put: Callable[[Path], None], arguments: tuple[str, ...]
) -> None:
    put(tmp_path / "alignment.duckdb")
    status, _, errors = called(tmp_path, *arguments)
    assert status == 1 and errors.startswith("error: "), errors
    assert errors.count("\n") == 1 and "alignment.duckdb" in errors


@pytest.mark.parametrize("name", ["spool", "staging", "dagster", "."])
def test_a_file_where_a_folder_belongs_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).resolve().write_text("")
    status, _, errors = called(home, "materialize")
    assert status == 1 and errors.count("\n") == 1
    assert f"{(home / name).resolve()} is no folder" in errors


# A home that two users share


@pytest.fixture
def shared(materialized: Callable[..., Graph]) -> Path:
    """A home that a user may write, but for the files of Dagster's records, which are another's."""
    home = materialized("+key:completion_requests").home
    assert called(home, "status")[0] == 0
    for path in (home / "dagster").rglob("*.db"):
        path.chmod(0o444)
    return home


@pytest.mark.parametrize(
    "arguments", [("materialize", "--select", "key:wordings"), ("dev",)], ids=" ".join
)
def test_who_may_not_write_dagsters_records_is_told_to_have_others(
    shared: Path, arguments: tuple[str, ...]
) -> None:
    status, _, errors = called(shared, *arguments)
    assert status == 1 and errors.count("\n") == 1, errors
    assert f"error: {shared / 'dagster' / 'history'}" in errors and " belongs to " in errors
    assert "set DAGSTER_HOME to a folder of your own" in errors


def test_who_may_not_write_dagsters_records_can_ask(shared: Path) -> None:
    status, said, errors = called(shared, "status")
    assert (status, errors) == (0, "") and "completions" in said


def test_with_records_of_ones_own_a_shared_home_is_written(shared: Path, tmp_path: Path) -> None:
    wanted = "materialize", "--select", "key:wordings"
    with other(call_with_records, str(shared), str(tmp_path / "mine"), *wanted) as process:
        status, _, errors = process.hear()
    assert (status, errors) == (0, "")
    assert (tmp_path / "mine" / "dagster.yaml").is_symlink()  # one slot for engines, as elsewhere


@pytest.mark.parametrize("command", ["status", "materialize"])
def test_records_that_nobody_can_read_are_told_in_a_line(shared: Path, command: str) -> None:
    for path in (shared / "dagster").rglob("*.db"):
        path.chmod(0)
    status, _, errors = called(shared, command)
    assert status == 1 and errors.count("\n") == 1 and "set DAGSTER_HOME" in errors, errors
