"""Other processes for tests: cheap to start, told when to go on, and killed at the end."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

# A server that has the product imported forks each process: no engine, thread or lock of the test's
# own process comes along.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["alignment_assets.warehouse.resource", "tests.support.eight_gpus", "tests.support.tables"]
)
PATIENCE = 60.0


class Other:
    """A process that runs a function; the function's first argument is its end of a pipe."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self.process: BaseProcess = _CONTEXT.Process(
            target=_run, args=(function, dict(os.environ), theirs, *arguments)
        )
        self.process.start()
        theirs.close()

    def hear(self) -> Any:
        """Return the next thing it says."""
        assert self.pipe.poll(PATIENCE), "the other process says nothing"
        return self.pipe.recv()

    def tell(self, message: Any = "go on") -> None:
        self.pipe.send(message)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def end(self) -> int | None:
        """Wait for its end and return its exit code."""
        self.process.join(PATIENCE)
        return self.process.exitcode


def _run(function: Callable[..., None], environment: dict[str, str], *arguments: Any) -> None:
    # Else it would be that of whichever test first started the server that forks.
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)


@contextmanager
def other(function: Callable[..., None], *arguments: Any) -> Iterator[Other]:
    """Run a function in a process that does not outlive the block."""
    started = Other(function, *arguments)
    try:
        yield started
    finally:
        started.kill()


def wait_for_word(pipe: Connection) -> Any:
    """Return what the test tells this process."""
    assert pipe.poll(PATIENCE)
    return pipe.recv()
