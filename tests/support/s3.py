"""A whole S3 server for tests: moto's, in a process of its own, on 127.0.0.1."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from tests.support.postgres import PATIENCE

_SERVE = """
import sys
said, sys.stdout = sys.stdout, sys.stderr
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0)
server.start()
print(server.get_host_and_port()[1], file=said, flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class S3Server:
    """Object storage that ends with the block.

    Attributes:
        port: where it answers on 127.0.0.1.
    """

    port: int

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment has to say, in the names that all clients of S3 know."""
        return {
            "AWS_ACCESS_KEY_ID": "access-key-of-tests",
            "AWS_SECRET_ACCESS_KEY": "very-secret-key-of-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def create_bucket(self, name: str) -> str:
        """Make a bucket; return its address."""
        self.files.create_dir(name)
        return f"s3://{name}"

    @property
    def files(self) -> fs.S3FileSystem:
        """What is on the server, by bucket and key."""
        said = self.environment
        return fs.S3FileSystem(
            access_key=said["AWS_ACCESS_KEY_ID"],
            secret_key=said["AWS_SECRET_ACCESS_KEY"],
            region=said["AWS_DEFAULT_REGION"],
            endpoint_override=self.url,
            allow_bucket_creation=True,
        )


@contextmanager
def s3_server(log: Path) -> Iterator[S3Server]:
    """Run a server until the block ends; it logs requests to a file."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        )
    try:
        assert server.stdout
        line = server.stdout.readline()
        assert line, log.read_text()
        found = S3Server(int(line))
        _wait(found)
        yield found
    finally:
        server.kill()
        server.communicate()


def _wait(found: S3Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(found.url, timeout=PATIENCE).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.05)
