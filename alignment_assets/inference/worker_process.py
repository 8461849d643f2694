"""The parent's side of a worker process: start it, talk to it, end it."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from alignment_assets.inference.backend import BackendError

LOG_LINES = 20
_CAUSE = re.compile(r"(^|[\] ])([A-Za-z_]+\.)*[A-Za-z_]*(Error|Exception): ")


class WorkerError(BackendError):
    """The worker failed or died; the message ends with the last lines of its log."""


class WorkerProcess:
    """A running worker; see `alignment_assets.inference.worker_channel` for its side.

    Attributes:
        module: what it runs.
        called: what messages call it.
        log: the file that its output and the engine's goes to.
    """

    module: ClassVar[str]
    called: ClassVar[str]

    def __init__(self, name: str, logs: Path, environment: Mapping[str, str]) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.log = logs / f"{name}-{stamp}-{os.getpid()}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
                text=True,
            )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._end_group_with_worker, daemon=True).start()
        threading.Thread(target=self._read_lines, daemon=True).start()

    def _end_group_with_worker(self) -> None:
        """When the worker dies, end what it started, which may hold the pipe that we read."""
        self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _read_lines(self) -> None:
        assert self._process.stdout
        with suppress(ValueError):  # closed while we read
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def ask(
        self, command: Mapping[str, Any], until: str, silence: float
    ) -> Iterator[dict[str, Any]]:
        """Send a command and yield the worker's reports, the last one being the event ``until``.

        Args:
            command: what to do.
            until: the event that ends it.
            silence: seconds without a report after which the worker counts as dead.

        Raises:
            WorkerError: it reports a failure, hangs or dies.
        """
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._explain("is dead")) from None
        while (line := self._next_line(silence)) is not None:
            report: dict[str, Any] = json.loads(line)
            if report["event"] == "failed":
                raise WorkerError(self._explain(f"failed: {report['error']}"))
            yield report
            if report["event"] == until:
                return
        code = self._process.wait()
        raise WorkerError(self._explain(f"ended with exit code {code}"))

    def _next_line(self, silence: float) -> str | None:
        try:
            return self._lines.get(timeout=silence)
        except queue.Empty:
            raise WorkerError(self._explain(f"has said nothing for {silence:.0f} s")) from None

    def close(self) -> None:
        """End the worker and every process it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()

    def _explain(self, what: str) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        causes = [line for line in lines if _CAUSE.search(line)]
        cause = f"\nfirst error: {causes[0].strip()}" if causes else ""
        tail = "\n".join(lines[-LOG_LINES:])
        return f"{self.called} {what}{cause}\nthe last lines of {self.log}:\n{tail}"
