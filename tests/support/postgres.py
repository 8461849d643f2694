"""A real PostgreSQL server for tests: a cluster of its own in a folder of its own.

It refuses to run as root, so there it runs as the user ``postgres`` of Debian's package.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0


def programs() -> Path | None:
    """Return the folder of the newest server's programs, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _version(initdb: Path) -> int:
    return int(initdb.parts[-3]) if initdb.parts[-3].isdigit() else 0


@dataclass(frozen=True)
class PostgresServer:
    """A server that answers on 127.0.0.1; who connects needs the password.

    Attributes:
        port: where.
        password: of the user ``postgres``; in the environment it is PGPASSWORD.
        folder: its data.
    """

    port: int
    password: str
    folder: Path

    def conninfo(self, database: str = "postgres") -> str:
        """Return how a client names a database, without the password."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def create(self, database: str) -> str:
        """Make a database; return how a client names it."""
        self.execute(f'CREATE DATABASE "{database}"')
        return self.conninfo(database)

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run a statement with psql; return what it prints, without headings."""
        folder = programs()
        assert folder
        done = subprocess.run(
            [folder / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(database)],
            input=statement,
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Run a server until the block ends.

    Args:
        durable: whether a commit waits for the disk, as it does in earnest; no test stops the
            machine.
    """
    folder = programs()
    assert folder, "no PostgreSQL on this machine"
    become: list[str | Path] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not below pytest's folders, which no other user may enter; short, as a socket's path must be.
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    password = secrets.token_urlsafe(24)
    (home / "password").write_text(password)
    if become:
        for path in (home, home / "password"):
            shutil.chown(path, "postgres")
    data, log = home / "data", home / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = subprocess.run(
        [
            *(*become, folder / "initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256"),
            *("--pwfile", home / "password", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ],
        capture_output=True,
        text=True,
        cwd="/tmp",
    )
    assert made.returncode == 0, made.stderr
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": home,
        "max_connections": 300,
        "fsync": "on" if durable else "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*become, folder / "postgres", "-D", data, *options],
            stdout=output,
            stderr=output,
            cwd="/tmp",
            start_new_session=True,
        )
    try:
        found = PostgresServer(port, password, home)
        _wait(server, folder, found, log)
        yield found
    finally:
        os.killpg(server.pid, signal.SIGQUIT)
        server.wait(PATIENCE)
        shutil.rmtree(home, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], folder: Path, found: PostgresServer, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(
        [folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(found.port)]
    ).returncode:
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
