"""A mock endpoint's server, which benchmarks run in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

from aiohttp import web


def serve(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], pipe: Connection
) -> None:
    """Answer requests on a free port of this host until the process ends; send the port."""

    async def run() -> None:
        runner = web.ServerRunner(web.Server(answer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())
