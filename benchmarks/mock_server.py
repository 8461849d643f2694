"""A mock endpoint's server, which benchmarks run in a process of its own.

On uvloop, so that what is measured is the client and not the server.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import uvloop
from aiohttp import web

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def serve(answer: Answer, pipe: Connection, ports: int = 1) -> None:
    """Answer requests on free ports of this host until the process ends; send each port."""

    async def run() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        for _ in range(ports):
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        for address in runner.addresses:
            pipe.send(address[1])
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@contextmanager
def served(run: Callable[..., None], *arguments: object, ports: int = 1) -> Iterator[list[str]]:
    """Run ``run(pipe, ports, *arguments)``, which serves, in a process; give its urls."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs, ports, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield [f"http://127.0.0.1:{ours.recv()}/v1" for _ in range(ports)]
    finally:
        process.kill()
        process.join()
