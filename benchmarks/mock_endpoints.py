"""Mock endpoints for the benchmark of the client: what they answer, how late, and what they cache.

Their latency depends on the request alone: lognormal (median 0.1 s, sigma 0.8, at most 3 s), that
of `PREFIX_SECONDS`, or none.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import re
from collections import OrderedDict
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web

from benchmarks.mock_server import serve

TEXT = "An answer of about the length that a short one has. " * 8
# vLLM keeps prefixes in blocks of 16 tokens, about so many characters.
BLOCK_CHARACTERS = 64
# What an endpoint keeps: 131,072 characters, a few times what it has in flight.
BLOCKS = 2048
PREFIX_SECONDS = 0.02

_NUMBER = re.compile(rb"#(\d+)")
_MODELS = json.dumps({"data": [{"id": "mock", "owned_by": "benchmark"}]}).encode()
_USAGE = {"prompt_tokens": 90, "completion_tokens": 100}
_GENERATED = json.dumps(
    {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": TEXT},
                "logprobs": None,
            }
        ],
        "usage": _USAGE,
    }
).encode()


def _weighed() -> bytes:
    tokens = [*map(str, range(1, 10)), *(f" word{number}" for number in range(11))]
    top = [
        {"token": token, "logprob": -3.0 - number / 7, "bytes": list(token.encode())}
        for number, token in enumerate(tokens)
    ]
    choice = {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": "1"},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    return json.dumps({"id": "chatcmpl-0", "choices": [choice], "usage": _USAGE}).encode()


_WEIGHED = _weighed()


def latency(number: int) -> float:
    """Return the seconds that a slow endpoint takes for a request, the same in any process."""
    return min(3.0, random.Random(f"2025/{number}").lognormvariate(-2.302585, 0.8))


def ideal_rate(requests: int, slots: int) -> float:
    """Return requests a second if each slot takes the next one as it gets free."""
    free = [0.0] * slots
    for number in range(requests):
        heapq.heapreplace(free, free[0] + latency(number))
    return requests / max(free)


def run_plain(pipe: Connection, ports: int, slow: bool) -> None:
    """Serve endpoints that answer at once, or slowly."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.Response(body=_MODELS, content_type="application/json")
        content = await request.read()
        if slow and (found := _NUMBER.search(content)):
            await asyncio.sleep(latency(int(found[1])))
        body = _WEIGHED if b'"logprobs"' in content else _GENERATED
        return web.Response(body=body, content_type="application/json")

    serve(answer, pipe, ports)


class PrefixCache:
    """What an endpoint has computed: blocks of text, each with all before it, the latest used.

    Attributes:
        asked: blocks that came.
        hits: those of them that were there, with all before them.
        requests: how many came.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.asked = self.hits = self.requests = 0

    def compute(self, messages: list[dict[str, str]]) -> None:
        """Look a conversation's blocks up, and keep them."""
        text = "".join(f"<{one['role']}>{one['content']}" for one in messages)
        self.requests += 1
        chain, there = 0, True
        for start in range(0, len(text) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
            chain = hash((chain, text[start : start + BLOCK_CHARACTERS]))
            there = there and chain in self._blocks
            self.asked += 1
            self.hits += there
            self._blocks[chain] = None
            self._blocks.move_to_end(chain)
            if len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)


def run_caching(pipe: Connection, ports: int) -> None:
    """Serve endpoints with a prefix cache each; any other path than the API's gives the counts."""
    caches: dict[int, PrefixCache] = {}

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport
        port: int = request.transport.get_extra_info("sockname")[1]
        cache = caches.setdefault(port, PrefixCache())
        if request.method == "GET":
            counts: dict[str, Any] = {k: v for k, v in vars(cache).items() if k != "_blocks"}
            body = json.dumps(counts).encode() if request.path == "/counts" else _MODELS
            return web.Response(body=body, content_type="application/json")
        cache.compute(json.loads(await request.read())["messages"])
        await asyncio.sleep(PREFIX_SECONDS)
        return web.Response(body=_GENERATED, content_type="application/json")

    serve(answer, pipe, ports)
