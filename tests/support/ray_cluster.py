"""A Ray cluster of several nodes on this host, each of which can be killed."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from alignment_assets.host.paths import PACKAGE

RAY = Path(sys.executable).parent / "ray"
STARTING_SECONDS = 120


@dataclass
class RayCluster:
    """Nodes, the head first."""

    address: str
    folder: Path
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_node(self, *, gpus: int = 0) -> None:
        """Start one more node with a CPU, or with GPUs that are not there, and a CPU each."""
        host, _, port = self.address.partition(":")
        head = ["--head", "--port", port, "--include-dashboard=false"]
        command = [
            *(str(RAY), "start", "--block", "--node-ip-address", host, "--num-cpus"),
            *(str(gpus or 1), "--num-gpus", str(gpus)),
            *("--object-store-memory", str(100 << 20), "--temp-dir", str(self.folder)),
            *(["--address", self.address] if self.nodes else head),
        ]
        log = self.folder / f"node-{len(self.nodes)}.log"
        with log.open("wb") as file:
            node = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        self.nodes.append(node)
        deadline = time.monotonic() + STARTING_SECONDS
        while "Ray runtime started" not in log.read_text(errors="replace"):
            assert node.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def kill(self, number: int) -> None:
        """Kill a node and all that runs on it, at once."""
        node = self.nodes[number]
        if node.poll() is None:
            processes = [*psutil.Process(node.pid).children(recursive=True)]
            os.killpg(node.pid, signal.SIGKILL)
            for process in processes:
                if process.is_running():
                    process.kill()
        node.wait()


@contextmanager
def ray_cluster(monkeypatch: pytest.MonkeyPatch, *gpus: int) -> Iterator[RayCluster]:
    """Run a cluster of nodes with so many GPUs; this process and its children may join it."""
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Sockets have short paths.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    cluster = RayCluster(f"127.0.0.1:{port}", folder)
    try:
        for count in gpus:
            cluster.add_node(gpus=count)
        yield cluster
    finally:
        for number in reversed(range(len(cluster.nodes))):
            cluster.kill(number)
        shutil.rmtree(folder, ignore_errors=True)
