"""HTTP to endpoints: one pooled session, bounded responses, and what their statuses mean.

Here belong single calls and the check of a server. Which request goes where, and how often, is
`client`'s part. Loads aiohttp, so it is imported when endpoints are used, not before.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp

from alignment_assets.inference.backend import BackendError
from alignment_assets.inference.backends.openai.endpoint import retry_after
from alignment_assets.inference.backends.openai.json_text import read_json, write_json
from alignment_assets.inference.backends.openai.protocol import as_text, error_message
from alignment_assets.inference.backends.openai.settings import OpenAISettings
from alignment_assets.inference.types import ERROR_CHARACTERS
from alignment_assets.recipe.environment import from_environment

# More than the text of any answer: a million tokens are about a third of it.
RESPONSE_BYTES = 16 << 20
CONNECT_SECONDS = 10.0
CHECK_SECONDS = 10.0
# Shorter than servers keep idle connections (uvicorn: 5 s), or one closes as a request begins.
KEEP_ALIVE_SECONDS = 4.0
# Files that a process has open besides its connections: Dagster's, the database, the spool.
OTHER_FILES = 512
# A server on which the recipe's settings do not fit; trying again changes nothing.
_MISCONFIGURED = {401, 402, 403, 404, 405, 501}


class EndpointError(BackendError):
    """Endpoints that cannot answer under the recipe's settings, or are all gone.

    The message has the url, what the server said and what to do, never the key.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Refusal(Exception):
    """The server will not answer this request (400, 413, 422)."""


class Failure(Exception):
    """The server failed; the same request may succeed."""


class TimedOut(Failure):
    """The server gave no answer in time, which may be long because it has too much to do."""


class Unreachable(Exception):
    """There is no connection to the server, so it never saw the request."""


class Throttled(Exception):
    """The server has too many requests (429, 503); ``seconds`` are those of its Retry-After."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class Server:
    """What answers at a url."""

    version: str
    vllm: bool


class EndpointHttp:
    """Calls to the endpoints of one model.

    Args:
        session: the connections.
        settings: the recipe's.
        where: the place of the settings, for messages.
        key: what ``settings.api_key`` stands for; it leaves this object in a header alone.
    """

    def __init__(
        self, session: aiohttp.ClientSession, settings: OpenAISettings, where: str, key: str | None
    ) -> None:
        self._session = session
        self.settings = settings
        self.where = where
        self._key = key
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    async def post(self, url: str, body: dict[str, Any]) -> bytes:
        """Post JSON and return the content of the answer, which has status 200.

        Raises:
            Refusal, Failure, Throttled, Unreachable: what became of it instead.
            EndpointError: the recipe's settings do not fit the server.
        """
        content, _ = await self._call("POST", url, write_json(body), self.settings.timeout)
        return content

    async def alive(self, url: str) -> bool:
        """Return whether a server is in health: by ``/health`` at its root, else its models."""
        for place in (f"{url.removesuffix('/v1')}/health", f"{url}/models"):
            try:
                await self._get(place)
                return True
            except EndpointError:
                continue
            except (Failure, Refusal, Throttled, Unreachable):
                return False
        return True  # it answers, if not as it should

    async def _get(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        return await self._call("GET", url, None, CHECK_SECONDS)

    async def check(self, url: str, name: str) -> Server:
        """Return what answers at a url, if it serves the model.

        Raises:
            EndpointError: it does not serve the model, or refuses the key.
            Failure, Throttled, Unreachable: it does not answer now.
        """
        place = f"{url}/models"
        try:
            content, headers = await self._get(place)
            listed = read_json(content)["data"]
            owners = {str(model["id"]): model.get("owned_by") for model in listed}
        except Refusal as error:
            raise Failure(str(error)) from None
        except (AttributeError, KeyError, TypeError, ValueError):
            raise EndpointError(
                f"{self.where}.urls: {place} is no list of models; a url ends where OpenAI's API "
                f"begins, mostly with /v1"
            ) from None
        if name not in owners:
            raise EndpointError(
                f"{self.where}: {url} serves {sorted(owners)[:20]} and not {name!r}; set "
                f"{self.where}.name to what it serves"
            )
        if owners[name] != "vllm":
            return Server(headers.get("Server", "unknown")[:100], vllm=False)
        try:
            content, _ = await self._get(f"{url.removesuffix('/v1')}/version")
            version = as_text(str(read_json(content)["version"]))
        except (EndpointError, Failure, Refusal, KeyError, TypeError, ValueError):
            version = "unknown"
        return Server(f"vllm {version}"[:100], vllm=True)

    async def _call(
        self, method: str, url: str, data: bytes | None, seconds: float
    ) -> tuple[bytes, Mapping[str, str]]:
        try:
            async with self._session.request(
                method,
                url,
                data=data,
                headers=self._headers,
                timeout=_timeout(seconds),
                allow_redirects=False,
            ) as response:
                content = await _read_bounded(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"{url}: no connection ({error})") from None
        except TimeoutError:
            raise TimedOut(f"{url}: no answer within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            raise Failure(self.clean(f"{url}: the connection was cut ({said})")) from None
        if response.status == 200:
            return content, response.headers
        raise self._reason(url, response, content)

    def clean(self, text: str) -> str:
        """Return a server's text without the key, should it repeat that, and control characters."""
        shown = text.replace(self._key, "***") if self._key else text
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)[:ERROR_CHARACTERS]

    def _reason(self, url: str, response: aiohttp.ClientResponse, content: bytes) -> Exception:
        status = response.status
        message = self.clean(error_message(content))
        if status in (400, 413, 422) and "--trust-request-chat-template" not in message:
            return Refusal(message)
        said = f"{url} answers {status}: {message}"
        if status in (429, 503):
            seconds = retry_after(response.headers.get("Retry-After"), time.time())
            return Throttled(said, seconds)
        if status in _MISCONFIGURED or 300 <= status < 400 or status == 400:
            return EndpointError(f"{self.where}: {said}; {self._hint(status, response)}", status)
        return Failure(said)

    def _hint(self, status: int, response: aiohttp.ClientResponse) -> str:
        key = self.settings.api_key
        if status in (401, 402, 403):
            if key is None:
                return f"it wants a key: set {self.where}.api_key to env:NAME"
            return f"set the environment variable {key.removeprefix('env:')} to a key it accepts"
        if 300 <= status < 400:
            place = self.clean(as_text(str(response.headers.get("Location"))))
            return f"it redirects to {place}: set {self.where}.urls"
        if status == 400:
            return "start the server with models' chat_template, or with that option"
        return (
            f"set {self.where}.urls to where OpenAI's API begins (mostly /v1), and "
            f"{self.where}.name to the model it serves"
        )


async def look_at(settings: OpenAISettings, where: str, name: str) -> dict[str, Server | str]:
    """Return what answers at each url, or what is wrong there; raises as `open_http` does."""

    async def look(http: EndpointHttp, url: str) -> Server | str:
        try:
            return await http.check(url, name)
        except (EndpointError, Failure, Throttled, Unreachable) as error:
            return str(error)

    async with open_http(settings, where) as http:
        found = await asyncio.gather(*(look(http, url) for url in settings.urls))
    return dict(zip(settings.urls, found, strict=True))


@asynccontextmanager
async def open_http(settings: OpenAISettings, where: str) -> AsyncIterator[EndpointHttp]:
    """Open the connections to the endpoints of a model.

    Raises:
        UnsetError: the variable with the key is not set.
        EndpointError: it holds no key, or there may not be so many connections.
    """
    key = from_environment(settings.api_key, f"{where}.api_key") if settings.api_key else None
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise EndpointError(
            f"{where}.api_key: the environment variable {str(settings.api_key)[4:]} holds no key: "
            f"there are spaces, line ends or other characters in it that no key has"
        )
    _allow_connections(settings.concurrency * len(settings.urls), where)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
    async with aiohttp.ClientSession(
        connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield EndpointHttp(session, settings, where, key)


def _allow_connections(count: int, where: str) -> None:
    """Let this process open as many connections, beside the files that it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + OTHER_FILES
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise EndpointError(
            f"{where}: {count} connections need {needed} open files, and this machine allows a "
            f"process {hard}: set {where}.concurrency lower, or `ulimit -n` higher"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@cache
def _timeout(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the content of a response; what was compressed counts at full length."""
    length = response.content_length
    if (
        length is not None
        and length <= RESPONSE_BYTES
        and "Content-Encoding" not in response.headers
    ):
        return await response.read()  # as nearly always
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > RESPONSE_BYTES:
            raise Failure(f"{response.url}: a response of more than {RESPONSE_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)
