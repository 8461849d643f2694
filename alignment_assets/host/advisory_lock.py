"""Locks between machines: PostgreSQL's advisory locks, each of a session of its own.

The server frees the lock of a process that dies at once, and that of a machine that is gone as soon
as it misses it. Here belongs the lock alone; what it guards is elsewhere, and locks of one host are
`alignment_assets.host.locking`'s part.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import REPORT_SECONDS, LockTimeout

if TYPE_CHECKING:
    import psycopg

# A wait is told when it is so old, and then every `REPORT_SECONDS`.
FIRST_REPORT_SECONDS = 1.0
# A server that does not answer is given up.
CONNECT_SECONDS = 10
# PostgreSQL keeps so many bytes of what a session calls itself.
NAME_BYTES = 63
# What a role or database may have set would end a session that waits, or that holds and is silent.
# A machine that is gone is missed after 10 + 3 * 5 seconds without an answer.
_SETTINGS = {
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
# The same from our side, so that we miss the server.
_KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_SET = """
SELECT set_config(name, %s::json ->> name, false) FROM pg_settings WHERE name = ANY (%s)
"""
# Whoever may not see the other session sees its user alone. Its last statement took the lock.
_HOLDER = """
SELECT coalesce(nullif(application_name, ''), 'a session of the user ' || usename), state_change
FROM pg_locks
JOIN pg_stat_activity USING (pid)
WHERE
    locktype = 'advisory' AND granted AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = ((%(key)s::BIGINT >> 32) & 4294967295)::OID
    AND objid = (%(key)s::BIGINT & 4294967295)::OID
"""


class LockServerError(Expected):
    """The server of the locks cannot be asked; the message says which, why and what to do."""


@dataclass(frozen=True)
class AdvisoryLock:
    """A lock that every machine with access to one PostgreSQL database shares.

    Attributes:
        conninfo: the database, as libpq takes it, without a password: libpq finds that in
            ``PGPASSWORD`` or a password file.
        name: what is locked; those who say the same name exclude each other.
    """

    conninfo: str = field(repr=False)
    name: str

    @property
    def key(self) -> int:
        """The name as PostgreSQL takes it: 64 bits with a sign."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    @contextmanager
    def held(self, purpose: str, timeout: float, log: Callable[[str], None]) -> Iterator[float]:
        """Hold the lock and yield the seconds it took to get.

        The connection lives as long as the block. If it is lost, so is the lock, which nobody is
        told: what the lock guards must bear two holders.

        Args:
            purpose: what the holder does, told to those who wait.
            timeout: seconds to wait at most.
            log: told who is waited for, and since when they have the lock.

        Raises:
            LockTimeout: the wait ended without the lock.
            LockServerError: there is no psycopg, or the server cannot be asked.
        """
        start = time.monotonic()
        connection = self._connect(purpose)
        try:
            try:
                self._take(connection, purpose, start, timeout, log)
            except _psycopg().Error as error:
                raise self._unasked(error) from error
            yield time.monotonic() - start
        finally:
            connection.close()

    def _take(
        self,
        connection: psycopg.Connection[Any],
        purpose: str,
        start: float,
        timeout: float,
        log: Callable[[str], None],
    ) -> None:
        wait = min(FIRST_REPORT_SECONDS, timeout)
        while not self._taken_within(connection, wait):
            waited = time.monotonic() - start
            holder = self._describe_holder(connection)
            if waited >= timeout:
                raise LockTimeout(
                    f"{self.name}: still held after {waited:.0f} s, by {holder}; let it finish or "
                    f"end it, then run again"
                )
            log(f"{purpose}: waiting {waited:.0f} s for {self.name}, held by {holder}")
            wait = min(REPORT_SECONDS, timeout - waited)

    def _taken_within(self, connection: psycopg.Connection[Any], seconds: float) -> bool:
        """Wait for the lock in the server, which gives it at once when it is free."""
        # 0 would be for ever.
        milliseconds = max(1, round(seconds * 1000))
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [str(milliseconds)])
        try:
            connection.execute("SELECT pg_advisory_lock(%s::BIGINT)", [self.key])
        except _psycopg().errors.LockNotAvailable:
            return False
        return True

    def _describe_holder(self, connection: psycopg.Connection[Any]) -> str:
        found = connection.execute(_HOLDER, {"key": self.key}).fetchone()
        if found is None:
            return "a session that has ended meanwhile"
        who, since = found
        return str(who) if since is None else f"{who} since {since.isoformat(timespec='seconds')}"

    def _connect(self, purpose: str) -> psycopg.Connection[Any]:
        psycopg = _psycopg()
        try:
            said = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        except psycopg.Error:  # its message quotes what may be a password
            raise LockServerError(
                "the connection to PostgreSQL is no list of names and values; write it as libpq "
                "takes it: host=… port=… dbname=… user=…"
            ) from None
        if said.pop("password", None) is not None:
            raise LockServerError(
                "the connection to PostgreSQL has a password in it; take it out, and set "
                "PGPASSWORD or write ~/.pgpass"
            )
        try:
            connection = psycopg.connect(
                autocommit=True,
                **{
                    "connect_timeout": CONNECT_SECONDS,
                    **_KEEPALIVES,
                    **said,
                    "application_name": _session_name(purpose),
                },
            )
        except psycopg.Error as error:
            raise self._unasked(error) from error
        try:
            connection.execute(_SET, [psycopg.types.json.Json(_SETTINGS), [*_SETTINGS]])
        except psycopg.Error as error:
            connection.close()
            raise self._unasked(error) from error
        return connection

    def _unasked(self, error: Exception) -> LockServerError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return LockServerError(
            f"{self.name}: the PostgreSQL server of its lock cannot be asked ({reason}); see that "
            f"it runs and lets you in, then run this again"
        )


def _session_name(purpose: str) -> str:
    """Return what our session calls itself: it is shown to those who wait."""
    host = socket.gethostname().partition(".")[0]
    name = f"process {os.getpid()} on {host} {purpose}".encode()[:NAME_BYTES]
    return name.decode(errors="ignore")


def _psycopg() -> Any:
    """Return psycopg, which only those need who share a database.

    Raises:
        LockServerError: it is missing.
    """
    try:
        import psycopg
        import psycopg.conninfo
        import psycopg.types.json
    except ImportError as error:
        raise LockServerError(
            f"locks between machines need psycopg ({error}): make lake, or outside a checkout "
            f"pip install 'alignment-assets[lake]'"
        ) from error
    return psycopg
