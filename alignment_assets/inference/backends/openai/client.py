"""Requests through endpoints: who gets the next one, what is tried again, and who is taken out.

Reads requests as there is room for them and hands on each answer as it comes; nothing is kept of
those that are done. What is sent is `protocol`'s part, how it is sent `http`'s, how much an
endpoint takes `endpoint`'s, and which requests it takes `dealing`'s.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from alignment_assets.inference.backends.openai.dealing import Dealer
from alignment_assets.inference.backends.openai.endpoint import Endpoint
from alignment_assets.inference.backends.openai.http import (
    EndpointError,
    EndpointHttp,
    Failure,
    Refusal,
    Throttled,
    TimedOut,
    Unreachable,
)
from alignment_assets.inference.backends.openai.json_text import read_json
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
        # Requests on their way, and the most that these and those to be asked again may be.
        self._in_flight = 0
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
        self._dealer = dealer = Dealer(self.endpoints, requests)
        self._start(self._keep_beating())
        for endpoint in self.endpoints:
            dealer.offer(endpoint, self._now())
            if not endpoint.available:
                self._start(self._revive(endpoint))
        try:
            while True:
                exhausted = self._dispatch(dealer)
                if self._error is not None:
                    raise self._error
                if exhausted and not self._waiting and not self._in_flight:
                    return
                await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _dispatch(self, dealer: Dealer) -> bool:
        """Give the endpoints what they have room for; return whether all requests are taken."""
        now = self._now()
        while True:
            asked, endpoint = self._next_again(dealer, now)
            if asked is None:
                if len(self._waiting) + self._in_flight >= self._capacity:
                    return False
                endpoint = dealer.next_endpoint(now)
                if endpoint is None:
                    return False
                request = dealer.take(endpoint)
                if request is None:
                    return True
                asked = _Asked(request)
            assert endpoint
            endpoint.started()
            self._in_flight += 1
            self._start(self._ask(asked, endpoint, now))

    def _next_again(self, dealer: Dealer, now: float) -> tuple[_Asked | None, Endpoint | None]:
        """Return a request to be asked again and who is asked: not who failed it, if it can be."""
        if not self._waiting or self._waiting[0][0] > now:
            return None, None
        failed_at = self._waiting[0][2].failed_at
        others = any(e.available for e in self.endpoints if e is not failed_at)
        endpoint = dealer.next_endpoint(now, apart_from=failed_at if others else None)
        return (heapq.heappop(self._waiting)[2] if endpoint else None), endpoint

    async def _ask(self, asked: _Asked, endpoint: Endpoint, started: float) -> None:
        await self._try(asked, endpoint, started)
        self._in_flight -= 1
        self._dealer.offer(endpoint, self._now())

    async def _try(self, asked: _Asked, endpoint: Endpoint, started: float) -> None:
        request = asked.request
        try:
            answer = await self._answer(request, endpoint, started)
        except Refusal as refusal:
            answer = refused(request, str(refusal))
        except Throttled as error:
            endpoint.unanswered()
            self._throttled(endpoint, started, error)
            self._ask_again(asked, self._now())
            return
        except Unreachable as error:
            endpoint.unanswered()
            self._take_out(endpoint, str(error))
            self._ask_again(asked, self._now())
            return
        except (Failure, UnusableResponse) as error:
            alive = await self._look(endpoint)
            endpoint.unanswered()
            if isinstance(error, TimedOut):
                endpoint.late(started, self._now())
            self._failed(asked, endpoint, self._http.clean(str(error)), alive)
            return
        endpoint.answered()
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
        self._wake_at(endpoint.paused_until, endpoint)
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
        self._wake_at(endpoint.paused_until, endpoint)
        if reason is not None:
            self._take_out(endpoint, f"{reason}: {error}")

    def _ask_again(self, asked: _Asked, not_before: float) -> None:
        heapq.heappush(self._waiting, (not_before, next(self._numbers), asked))
        self._wake_at(not_before)

    def _take_out(self, endpoint: Endpoint, reason: str) -> None:
        if endpoint.available:
            self._log(f"{endpoint.url} is taken out: {reason}")
            endpoint.take_out(reason, self._now())
            self._dealer.give_back(endpoint)
            self._start(self._revive(endpoint))

    async def _revive(self, endpoint: Endpoint) -> None:
        """Look at an endpoint that was taken out until it is back."""
        while not endpoint.available:
            await asyncio.sleep(endpoint.next_probe())
            if await self._http.alive(endpoint.url):
                await self._check(endpoint)
        self._dealer.offer(endpoint, self._now())
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
            return read_json(await self._http.post(url, body))[field]
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

    def _wake_at(self, moment: float, endpoint: Endpoint | None = None) -> None:
        """Have room looked for again then, which an endpoint may have."""
        if (left := moment - self._now()) > 0:  # also where a timer, which rounds, was early
            asyncio.get_running_loop().call_later(left, self._wake_at, moment, endpoint)
            return
        if endpoint is not None:
            self._dealer.offer(endpoint, self._now())
        self._wake.set()

    def _now(self) -> float:
        # Not the loop's time, which uvloop has in milliseconds.
        return time.monotonic()
