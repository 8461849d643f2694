"""Locks between machines, on a real PostgreSQL: who has one, who waits, and what frees it."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from alignment_assets.host.advisory_lock import AdvisoryLock, LockServerError
from alignment_assets.host.locking import LockTimeout
from alignment_assets.inference.asking import asking_alone
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import PATIENCE, other, wait_for_word

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.needs("lake")]


@dataclass(frozen=True)
class SharedRun(Run):
    """A run whose machines share a database."""

    conninfo: str = ""

    @property
    def shared_lock(self) -> str:
        return self.conninfo


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as started:
        yield started


@pytest.fixture
def conninfo(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PGPASSWORD", server.password)
    return server.conninfo()


def hold(pipe: Connection, conninfo: str, name: str, purpose: str) -> None:
    """Take a lock and keep it until told."""
    with AdvisoryLock(conninfo, name).held(purpose, PATIENCE, pipe.send):
        pipe.send("held")
        wait_for_word(pipe)


def taken(conninfo: str, name: str) -> float:
    """Take a lock that is free; return the seconds that took."""
    with AdvisoryLock(conninfo, name).held("looks", 0, print) as waited:
        return waited


def test_one_at_a_time_and_other_names_do_not_wait(conninfo: str) -> None:
    with AdvisoryLock(conninfo, "one").held("asks for one", 0, print):
        taken(conninfo, "two")
        with (
            pytest.raises(LockTimeout, match=r"one: still held after \d+ s, by process \d+ on"),
            AdvisoryLock(conninfo, "one").held("waits", 0, print),
        ):
            pass
    taken(conninfo, "one")


def test_whoever_waits_is_told_for_whom_and_gets_it_when_the_holder_is_killed(
    conninfo: str,
) -> None:
    """SIGKILL leaves the holder no word: the server sees its connection end."""
    with other(hold, conninfo, "killed", "asks for completions[one]") as holder:
        assert holder.hear() == "held"
        with other(hold, conninfo, "killed", "waits") as waiter:
            report = waiter.hear()
            assert re.match(r"waits: waiting \d+ s for killed, held by ", report)
            assert f"process {holder.process.pid} on " in report
            assert "asks for completions[one] since 20" in report
            killed = time.monotonic()
            holder.kill()
            assert waiter.hear() == "held"
            assert time.monotonic() - killed < 20  # far below the 30 s of the next report


def test_a_failure_in_the_block_frees_it(conninfo: str) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        AdvisoryLock(conninfo, "failing").held("fails", 0, print),
    ):
        _ = 1 / 0
    assert taken(conninfo, "failing") < 20


def test_two_databases_of_one_server_share_no_locks(conninfo: str, server: PostgresServer) -> None:
    apart = server.create("apart")
    with AdvisoryLock(conninfo, "shared").held("holds", 0, print):
        taken(apart, "shared")


def test_neither_a_wait_nor_a_holder_is_ended_by_what_the_role_has_set(
    conninfo: str, server: PostgresServer
) -> None:
    """Roles of shared databases often have time limits for statements and for silence."""
    server.execute("CREATE DATABASE limited")
    server.execute("ALTER DATABASE limited SET statement_timeout = '100ms'")
    server.execute("ALTER DATABASE limited SET idle_session_timeout = '100ms'")
    limited = server.conninfo("limited")
    with (
        other(hold, limited, "silent", "holds") as holder,
        pytest.raises(LockTimeout, match=r"still held after \d+ s, by process"),
    ):
        assert holder.hear() == "held"
        with AdvisoryLock(limited, "silent").held("waits", 1.0, print):
            pass


def test_a_wait_ends_with_an_error_when_the_server_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[str] = []
    told = threading.Event()

    def wait(conninfo: str) -> None:
        try:
            with AdvisoryLock(conninfo, "one").held("waits", PATIENCE, lambda line: told.set()):
                errors.append("held")
        except LockServerError as error:
            errors.append(str(error))

    with postgres_server() as server:
        monkeypatch.setenv("PGPASSWORD", server.password)
        conninfo = server.conninfo()
        with AdvisoryLock(conninfo, "one").held("holds", 0, print):
            waiting = threading.Thread(target=wait, args=[conninfo])
            waiting.start()
            assert told.wait(PATIENCE)
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE '%waits'"
            )
            waiting.join(PATIENCE)
    assert len(errors) == 1
    assert "one: its PostgreSQL server cannot be asked" in errors[0]
    with (
        pytest.raises(LockServerError, match=r"Connection refused\); see that it runs"),
        AdvisoryLock(conninfo, "one").held("comes late", 0, print),
    ):
        pass


@pytest.mark.parametrize(
    ("conninfo", "message"),
    [
        ("host=127.0.0.1 password=very-secret", "set PGPASSWORD"),
        ("postgresql://user:very-secret@127.0.0.1/base", "set PGPASSWORD"),
        ("host=127.0.0.1 very-secret", "no list of names and values"),
    ],
)
def test_a_password_is_refused_and_never_told(conninfo: str, message: str) -> None:
    lock = AdvisoryLock(conninfo, "one")
    with pytest.raises(LockServerError, match=message) as refused, lock.held("asks", 0, print):
        pass
    assert "very-secret" not in str(refused.value) + repr(lock)
    assert refused.value.__cause__ is None


def test_a_wrong_password_is_not_told(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-and-secret")
    with (
        pytest.raises(LockServerError, match="authentication failed") as refused,
        AdvisoryLock(conninfo, "one").held("asks", 0, print),
    ):
        pass
    assert "wrong-and-secret" not in f"{refused.value} {refused.value.__cause__!r}"


def test_without_psycopg_the_remedy_is_told(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with (
        pytest.raises(LockServerError, match=r"make lake.*alignment-assets\[lake\]"),
        AdvisoryLock(conninfo, "one").held("asks", 0, print),
    ):
        pass


def ask(pipe: Connection, home: Path, conninfo: str, partition: str) -> None:
    """Ask for a partition as a machine with a home of its own does; keep on until told."""
    run = SharedRun(changed_recipe(), home, conninfo=conninfo)
    with asking_alone(run, "completions", partition, pipe.send):
        pipe.send("asks")
        wait_for_word(pipe)


def test_steps_of_two_machines_ask_for_a_partition_one_after_the_other(
    conninfo: str, tmp_path: Path
) -> None:
    """The homes share no folder; when the machine that asks dies, the other asks at once."""
    with other(ask, tmp_path / "one", conninfo, "model") as first:
        assert first.hear() == "asks"
        with other(ask, tmp_path / "two", conninfo, "another") as apart:
            assert apart.hear() == "asks"
        with other(ask, tmp_path / "two", conninfo, "model") as second:
            told = second.hear()
            place = re.escape("completions[model]")
            assert re.match(rf"asks for {place}: waiting \d+ s for {place} of demo, held by ", told)
            assert f"process {first.process.pid} on " in told
            first.kill()
            assert second.hear() == "asks"
