"""Requests through endpoints: who gets the next one, what is tried again, and who is taken out.

Reads requests as there is room for them and hands on each answer as it comes; nothing is kept of
those that are done. What is sent is `chat_api`'s part, how it is sent `endpoint_http`'s, and how
much an endpoint takes `endpoint`'s.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from alignment_assets.inference.backends.openai.endpoint import Endpoint
from alignment_assets.inference.backends.openai.http import (
    EndpointError,
    EndpointHttp,
    Failure,
    Refusal,
    Throttled,
    Unreachable,
)
from alignment_assets.inference.backends.openai.protocol import (
    ServedModel,
    UnusableResponse,
    chat_body,
    classify_body,
    read_answer,
    refused,
    rejected,
)
from alignment_assets.inference.progress import PROGRESS_SECONDS
from alignment_assets.inference.retries import backoff
from alignment_assets.inference.types import PROBES, SYSTEM_LEFT_OUT, Answer, Request

T = TypeVar("T")

# With all endpoints gone for so long, the run ends.
ALL_LOST_SECONDS = 300.0
RETRY_SECONDS = (1.0, 60.0)


@dataclass
class _Asked:
    """A request on its way to an answer, and how often an endpoint has failed it."""

    request: Request
    failures: int = 0
    failed_at: Endpoint | None = None


class EndpointClient:
    """Has the endpoints of one model answer requests.

    Args:
        http: calls to them.
        model: what each request carries.
        attempts: how often a request is asked that endpoints fail.
        emit: takes each answer, and the endpoint that gave it.
        beat: called about every second.
        log: told of endpoints that go and come back.

    Attributes:
        endpoints: those of the recipe, all alike.
    """

    def __init__(
        self,
        http: EndpointHttp,
        model: ServedModel,
        attempts: int,
        emit: Callable[[Answer, Endpoint], None],
        beat: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        settings = http.settings
        self.endpoints = [Endpoint(url, settings.concurrency) for url in settings.urls]
        # Requests held at once, at most: those on their way and those to be asked again.
        self._capacity = settings.concurrency * len(settings.urls)
        self._http = http
        self._models = {vllm: replace(model, vllm=vllm) for vllm in (True, False)}
        self._attempts = attempts
        self._emit = emit
        self._beat = beat
        self._log = log
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, _Asked]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._looks: dict[str, asyncio.Task[bool]] = {}
        self._label_tokens: dict[tuple[str, ...], dict[str, int] | str | None] = {}
        self._labels_lock = asyncio.Lock()
        self._system_left_out: bool | None = None
        self._wake = asyncio.Event()
        self._error: BaseException | None = None

    @property
    def in_flight(self) -> int:
        """Requests on their way."""
        return sum(endpoint.in_flight for endpoint in self.endpoints)

    async def check(self) -> None:
        """Look at all endpoints; those that do not answer are taken out until they do.

        Raises:
            EndpointError: one does not fit the recipe's settings, or none answers.
        """
        await asyncio.gather(*(self._check(endpoint) for endpoint in self.endpoints))
        if not any(endpoint.available for endpoint in self.endpoints):
            raise EndpointError(
                f"{self._http.where}: no endpoint answers: {self._reasons()}; start the servers, "
                f"or set {self._http.where}.urls"
            )

    async def run(self, requests: Iterator[Request]) -> None:
        """Answer all requests, after `check`.

        Raises:
            EndpointError: one does not fit the recipe's settings, or all have been lost for
                `ALL_LOST_SECONDS`.
        """
        self._start(self._keep_beating())
        for endpoint in self.endpoints:
            if not endpoint.available:
                self._start(self._revive(endpoint))
        try:
            while True:
                exhausted = self._dispatch(requests)
                if self._error is not None:
                    raise self._error
                if exhausted and not self._waiting and not self.in_flight:
                    return
                await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _dispatch(self, requests: Iterator[Request]) -> bool:
        """Give the endpoints what they have room for; return whether all requests are read."""
        now = self._now()
        while True:
            asked, endpoint = self._next_again(now)
            if asked is None:
                endpoint = self._roomiest(self.endpoints, now)
                if endpoint is None or len(self._waiting) + self.in_flight >= self._capacity:
                    return False
                request = next(requests, None)
                if request is None:
                    return True
                asked = _Asked(request)
            assert endpoint
            number = next(self._numbers)
            endpoint.started(number, now)
            self._start(self._ask(asked, endpoint, number, now))

    def _next_again(self, now: float) -> tuple[_Asked | None, Endpoint | None]:
        """Return a request to be asked again and who is asked: not who failed it, if it can be."""
        if not self._waiting or self._waiting[0][0] > now:
            return None, None
        failed_at = self._waiting[0][2].failed_at
        others = [e for e in self.endpoints if e is not failed_at and e.available]
        endpoint = self._roomiest(others or self.endpoints, now)
        return (heapq.heappop(self._waiting)[2] if endpoint else None), endpoint

    def _roomiest(self, endpoints: list[Endpoint], now: float) -> Endpoint | None:
        endpoint = max(endpoints, key=lambda endpoint: endpoint.room(now))
        return endpoint if endpoint.room(now) else None

    async def _ask(self, asked: _Asked, endpoint: Endpoint, number: int, started: float) -> None:
        request = asked.request
        try:
            answer = await self._answer(request, endpoint, started)
        except Refusal as refusal:
            answer = refused(request, str(refusal))
        except Throttled as error:
            endpoint.unanswered(number)
            self._throttled(endpoint, started, error)
            self._ask_again(asked, self._now())
            return
        except Unreachable as error:
            endpoint.unanswered(number)
            self._take_out(endpoint, str(error))
            self._ask_again(asked, self._now())
            return
        except (Failure, UnusableResponse) as error:
            alive = await self._look(endpoint)
            endpoint.unanswered(number)
            self._failed(asked, endpoint, self._http.clean(str(error)), alive)
            return
        endpoint.answered(number, self._now())
        self._emit(answer, endpoint)

    async def _answer(self, request: Request, endpoint: Endpoint, started: float) -> Answer:
        model = self._models[endpoint.vllm]
        if request.kind == "classify":
            url, body = f"{endpoint.root}/classify", classify_body(request, model)
            content = await self._http.post(url, body)
            return read_answer(request, content, self._now() - started)
        told = endpoint.vllm and request.messages[0]["role"] == "system"
        if told and await self._is_system_left_out(endpoint):
            return rejected(request, SYSTEM_LEFT_OUT)
        tokens = await self._tokens_of(request, endpoint)
        if isinstance(tokens, str):
            return rejected(request, tokens)
        body = chat_body(request, model, tokens)
        content = await self._http.post(f"{endpoint.url}/chat/completions", body)
        return read_answer(request, content, self._now() - started, tokens)

    def _failed(self, asked: _Asked, endpoint: Endpoint, reason: str, alive: bool) -> None:
        """An endpoint failed a request: that counts, if it is not dead."""
        now = self._now()
        if not alive:
            self._take_out(endpoint, reason)
            self._ask_again(asked, now)
            return
        others = any(other.available for other in self.endpoints if other is not endpoint)
        endpoint.failed(now, spared=others)
        self._wake_at(endpoint.paused_until)
        asked.failures += 1
        asked.failed_at = endpoint
        if asked.failures < self._attempts:
            self._ask_again(asked, now + backoff(asked.failures, *RETRY_SECONDS))
            return
        request = asked.request
        error = f"failed {asked.failures} times, at last: {reason}"
        self._emit(Answer(request.request_id, request.task, "failed", error=error), endpoint)

    def _throttled(self, endpoint: Endpoint, started: float, error: Throttled) -> None:
        reason = endpoint.throttled(started, self._now(), error.seconds)
        self._wake_at(endpoint.paused_until)
        if reason is not None:
            self._take_out(endpoint, f"{reason}: {error}")

    def _ask_again(self, asked: _Asked, not_before: float) -> None:
        heapq.heappush(self._waiting, (not_before, next(self._numbers), asked))
        self._wake_at(not_before)

    def _take_out(self, endpoint: Endpoint, reason: str) -> None:
        if endpoint.available:
            self._log(f"{endpoint.url} is taken out: {reason}")
            endpoint.take_out(reason, self._now())
            self._start(self._revive(endpoint))

    async def _revive(self, endpoint: Endpoint) -> None:
        """Look at an endpoint that was taken out until it is back."""
        while not endpoint.available:
            await asyncio.sleep(endpoint.next_probe())
            if await self._http.alive(endpoint.url):
                await self._check(endpoint)
        self._log(f"{endpoint.url} is back")

    async def _check(self, endpoint: Endpoint) -> None:
        try:
            server = await self._http.check(endpoint.url, self._models[False].name)
        except (Failure, Throttled, Unreachable) as error:
            endpoint.take_out(str(error), self._now())
            return
        endpoint.version, endpoint.vllm = server.version, server.vllm
        if not endpoint.available:
            endpoint.bring_back()

    async def _look(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint is in health; one look for all that ask at the same time."""
        look = self._looks.get(endpoint.url)
        if look is None:
            look = self._looks[endpoint.url] = self._start(self._http.alive(endpoint.url))
            look.add_done_callback(lambda _: self._looks.pop(endpoint.url))
        return await asyncio.shield(look)

    async def _tokens_of(self, request: Request, endpoint: Endpoint) -> dict[str, int] | str | None:
        """Return the token of each label, where the server says so; or why there is none."""
        if request.labels is None or not endpoint.vllm or "thinking_tokens" in request.sampling:
            return None  # to skip its thoughts, tokens are read as texts
        labels = tuple(request.labels)
        if labels in self._label_tokens:
            return self._label_tokens[labels]
        async with self._labels_lock:
            if labels not in self._label_tokens:
                self._label_tokens[labels] = await self._ask_tokens(labels, endpoint)
        return self._label_tokens[labels]

    async def _is_system_left_out(self, endpoint: Endpoint) -> bool:
        """Return whether a conversation has the same tokens with a system message and without."""
        async with self._labels_lock:
            if self._system_left_out is None:
                body = {"add_generation_prompt": True, **self._models[True].template_fields()}
                body["model"] = self._models[True].name
                url = f"{endpoint.root}/tokenize"
                try:
                    without, told = [
                        await self._post_json(url, {**body, "messages": probe}, "tokens")
                        for probe in PROBES
                    ]
                    self._system_left_out = told == without
                except (Failure, Refusal) as error:
                    self._system_left_out = False
                    self._log(f"whether system prompts are taken cannot be seen: {error}")
        return self._system_left_out

    async def _ask_tokens(
        self, labels: tuple[str, ...], endpoint: Endpoint
    ) -> dict[str, int] | str | None:
        name = self._models[True].name
        found = {}
        try:
            for label in labels:
                body = {"model": name, "prompt": label, "add_special_tokens": False}
                tokens = await self._post_json(f"{endpoint.root}/tokenize", body, "tokens")
                if len(tokens) != 1:  # one more, where a tokenizer writes a space before a word
                    tokens = [t for t in tokens if await self._spells(t, endpoint)]
                if len(tokens) != 1:
                    return f"the label {label!r} is {len(tokens)} tokens of this model, not one"
                found[label] = int(tokens[0])
        except EndpointError as error:
            self._log(f"labels are read from the likeliest tokens alone: {error}")
            return None
        return found

    async def _spells(self, token: int, endpoint: Endpoint) -> bool:
        body = {"model": self._models[True].name, "tokens": [token]}
        text = await self._post_json(f"{endpoint.root}/detokenize", body, "prompt")
        return bool(str(text).strip())

    async def _post_json(self, url: str, body: dict[str, Any], field: str) -> Any:
        try:
            return json.loads(await self._http.post(url, body))[field]
        except (KeyError, TypeError, ValueError):
            raise Failure(f"{url}: an unusable response") from None

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._beat()
            if all(e.lost_for(self._now()) > ALL_LOST_SECONDS for e in self.endpoints):
                raise EndpointError(
                    f"{self._http.where}: no endpoint has answered for {ALL_LOST_SECONDS:.0f} s: "
                    f"{self._reasons()}; what was answered is kept, so start the servers and run "
                    f"it again"
                )

    def _reasons(self) -> str:
        return "; ".join(endpoint.reason for endpoint in self.endpoints)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
        self._wake.set()

    def _wake_at(self, moment: float) -> None:
        """Have room looked for again then."""
        if moment > self._now():
            asyncio.get_running_loop().call_at(moment, self._wake.set)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
