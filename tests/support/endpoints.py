"""A whole small OpenAI-compatible server that behaves as badly as a request tells it to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Job
from alignment_assets.inference.backends.openai.backend import OpenAIInference
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import REQUEST_SCHEMA, Request
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe

KEY = "sk-very-secret-0123456789"
TOP = [("7", -0.5), (" 7", -1.5), ("\u01207", -2.5), ("8", -3.0), ("seven", -4.0)]


class Server:
    """An endpoint in a thread; ``stop`` is a death, connections and all, ``start`` a return.

    What it does with a request stands before the ``#`` of its text; see `_behaviours`.

    Attributes:
        bodies: every request to the chat or classify API, in order.
        seen: how often each text came.
        broken: whether every request gets 500 at once.
        most: requests in hand at once, at most.
        room: with more in hand than these it answers `full`, 429 or 503.
        refused: how often it did.
    """

    def __init__(self, name: str = "mock", key: str | None = None, vllm: bool = False) -> None:
        self.name, self.key, self.vllm = name, key, vllm
        self.bodies: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self.most = self.in_hand = 0
        self.port = 0
        self.release = threading.Event()
        self.broken = False
        self.room, self.full, self.refused = 10**9, 429, 0
        # Whether its chat template has no place for system messages.
        self.drops_system = False
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()

    def start(self) -> None:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(middlewares=[self._guard])
        application.router.add_get("/v1/models", self._models)
        application.router.add_get("/health", self._health)
        application.router.add_post("/v1/chat/completions", self._answer)
        if self.vllm:
            application.router.add_get("/version", self._version)
            application.router.add_post("/tokenize", self._tokenize)
            application.router.add_post("/detokenize", self._detokenize)
            application.router.add_post("/classify", self._classify)
        runner = web.AppRunner(application, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        started.set()
        await self._over.wait()
        assert runner.server
        for connection in list(runner.server.connections):
            if connection.transport:
                connection.transport.abort()
        await runner.cleanup()
        self.in_hand = 0

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization")
        if self.key is not None and given != f"Bearer {self.key}":
            # As some servers do: the wrong key is repeated.
            said = {"error": {"message": f"Incorrect API key provided: {given}"}}
            return web.json_response(said, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        owner = "vllm" if self.vllm else "somebody"
        listed = {"data": [{"id": self.name, "owned_by": owner}]}
        return web.json_response(listed, headers={"Server": "mock/1"})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "9.9"})

    async def _tokenize(self, request: web.Request) -> web.Response:
        # A token is a character's code, after one for the space before a word.
        body = await request.json()
        if "messages" in body:
            shown = [m for m in body["messages"] if m["role"] != "system" or not self.drops_system]
            return web.json_response({"tokens": [ord(c) for m in shown for c in m["content"]]})
        text = body["prompt"]
        return web.json_response({"tokens": [32, *map(ord, text)]})

    async def _detokenize(self, request: web.Request) -> web.Response:
        tokens = (await request.json())["tokens"]
        return web.json_response({"prompt": "".join(map(chr, tokens))})

    async def _classify(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        value = float(len(body["messages"][-1]["content"]))
        return web.json_response({"data": [{"probs": [-value]}], "usage": {"prompt_tokens": 3}})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][-1]["content"]
        if self.in_hand >= self.room:
            self.refused += 1
            return web.Response(status=self.full, headers={"Retry-After": "0"})
        self.bodies.append(body)
        self.seen[text] += 1
        self.in_hand += 1
        self.most = max(self.most, self.in_hand)
        try:
            return await self._behave(request, body, text)
        finally:
            self.in_hand -= 1

    async def _behave(
        self, request: web.Request, body: dict[str, Any], text: str
    ) -> web.StreamResponse:
        behaviour = text.split("#")[0].strip()
        first = self.seen[text] == 1
        if behaviour.startswith("always "):
            behaviour, first = behaviour.removeprefix("always "), True
        handler = _behaviours.get(behaviour)
        if self.broken:
            return web.Response(status=500)
        if handler is not None and first:
            return await handler(self, request)
        return self.good(body)

    def good(self, body: dict[str, Any]) -> web.Response:
        choice: dict[str, Any] = {"message": {"content": "fine"}, "finish_reason": "stop"}
        if wanted := body.get("logprob_token_ids"):
            top = [(f"token_id:{token}", -1.0 - float(n)) for n, token in enumerate(wanted)]
            choice["logprobs"] = logprobs([*top, ("token_id:99", -0.1)])
        elif body.get("logprobs"):
            choice["logprobs"] = logprobs(TOP)
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return web.json_response({"choices": [choice], "usage": usage})


def logprobs(top: list[tuple[str, float]]) -> dict[str, Any]:
    entries = [{"token": token, "logprob": logprob} for token, logprob in top]
    return {"content": [{**entries[0], "top_logprobs": entries}]}


Behaviour = Callable[[Server, web.Request], Awaitable[web.StreamResponse]]


def _says(status: int, message: str, **headers: str) -> Behaviour:
    async def answer(_: Server, __: web.Request) -> web.StreamResponse:
        said = {"error": {"message": message}}
        return web.json_response(said, status=status, headers=headers)

    return answer


async def _cut(_: Server, request: web.Request) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def _cut_short(_: Server, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport
    request.transport.close()
    return response


async def _garbage(_: Server, __: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>busy</html>")


async def _endless(_: Server, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(40):
        await response.write(b" " * (1 << 20))
    return response


async def _nothing(_: Server, __: web.Request) -> web.StreamResponse:
    return web.json_response({"choices": [], "usage": None})


def _saying(**message: Any) -> Behaviour:
    """Answer with such a message."""

    async def answer(_: Server, __: web.Request) -> web.StreamResponse:
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    return answer


async def _half(_: Server, __: web.Request) -> web.StreamResponse:
    choice = {"message": {"content": "half a \ud83d"}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice]})


async def _odd(_: Server, __: web.Request) -> web.StreamResponse:
    choice = {"message": {"content": "fine"}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 1 << 40}})


async def _filtered(_: Server, __: web.Request) -> web.StreamResponse:
    choice = {"message": {"content": ""}, "finish_reason": "content_filter"}
    return web.json_response({"choices": [choice]})


async def _shorter(_: Server, __: web.Request) -> web.StreamResponse:
    choice = {"message": {"content": "fi"}, "finish_reason": "length"}
    return web.json_response({"choices": [choice], "usage": {"completion_tokens": 7}})


async def _silent(_: Server, __: web.Request) -> web.StreamResponse:
    choice = {"message": {"content": "7"}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice]})


async def _unlikely(_: Server, __: web.Request) -> web.StreamResponse:
    choice = {
        "message": {"content": "x"},
        "finish_reason": "length",
        "logprobs": logprobs([("x", -0.1), ("maximum context length", -0.2)]),
    }
    return web.json_response({"choices": [choice]})


async def _waits(server: Server, request: web.Request) -> web.StreamResponse:
    """Until the test lets it go on, or an hour: as long as nobody waits."""
    await asyncio.to_thread(server.release.wait, 20)
    return server.good(await request.json())


async def _slow(server: Server, request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.02)
    return server.good(await request.json())


async def _eight(server: Server, request: web.Request) -> web.StreamResponse:
    """Until eight requests are in hand, or 20 seconds."""
    for _ in range(4000):
        if server.most >= 8:
            break
        await asyncio.sleep(0.005)
    return server.good(await request.json())


async def _hangs(_: Server, __: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    raise AssertionError


_TOO_LONG = "This model's maximum context length is 1024 tokens. However, you requested 2000 tokens"
_behaviours: dict[str, Behaviour] = {
    "500": _says(500, "out of order"),
    "408": _says(408, "too slow"),
    "429": _says(429, "too many", **{"Retry-After": "1"}),
    "429 at once": _says(429, "too many", **{"Retry-After": "0"}),
    "503": _says(503, "loading", **{"Retry-After": "0"}),
    "too long": _says(400, _TOO_LONG),
    "refused": _says(422, "no such role \udcff" + "x" * 5000),
    "forbidden": _says(403, f"the key {KEY} may not do that"),
    "template": _says(400, "--trust-request-chat-template is not set"),
    "moved": _says(307, "", Location="http://elsewhere.example/v1"),
    "cut": _cut,
    "cut short": _cut_short,
    "garbage": _garbage,
    "endless": _endless,
    "nothing": _nothing,
    "null": _saying(content=None),
    "thought alone": _saying(content=None, reasoning_content="Let me see. " * 100),
    "refuses": _saying(content=None, refusal="I will not."),
    "no content": _saying(role="assistant"),
    "tools": _saying(content="", tool_calls=[{"function": {"name": "search", "arguments": "{}"}}]),
    "thought apart": _saying(content="fine", reasoning_content="Let me see."),
    "half": _half,
    "odd": _odd,
    "filtered": _filtered,
    "shorter": _shorter,
    "silent": _silent,
    "unlikely": _unlikely,
    "waits": _waits,
    "slow": _slow,
    "eight": _eight,
    "hangs": _hangs,
}


def recipe_for(*servers: Server, attempts: int = 3, **settings: Any) -> Recipe:
    """Return a recipe whose model ``served`` is answered by these servers."""
    models = changed_recipe().model_dump(mode="json")["models"]
    urls = [server.url for server in servers]
    models["served"] = {
        "weights": "served:mock",
        "billions": 1.0,
        "backend": {"openai": {"urls": urls, **settings}},
    }
    return changed_recipe({"models": models, "inference": {"attempts": attempts}})


def asking(*texts: str) -> list[Request]:
    """Return requests to generate; a text is its request's id."""
    sampling = {"temperature": 1.0, "top_k": 0, "max_tokens": 8}
    return [
        Request(t, "generate", "generate", [{"role": "user", "content": t}], sampling)
        for t in texts
    ]


class Asked:
    """One job of the recipe's model ``served``."""

    def __init__(self, recipe: Recipe, requests: Sequence[Request], home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.spool = home / "spool"
        work = home / f"{len(list(home.iterdir()))}.parquet"
        rows = [{**vars(request), "sampling": json.dumps(request.sampling)} for request in requests]
        pq.write_table(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA), work)
        self.progress = Progress("test", len(requests))
        run, kind = Run(recipe, home), requests[0].kind
        self.job = Job(run, "served", kind, work, self.spool, GpuPool(), self.progress)

    def answer(self, report: Callable[[Progress], None] = lambda _: None) -> Asked:
        OpenAIInference().answer(replace(self.job, report=report))
        return self

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the answers on disk, of which there is one for each request at most."""
        files = sorted(self.spool.glob("*.parquet"))
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        answers = {row["request_id"]: row for row in rows}
        assert len(answers) == len(rows)
        return answers
