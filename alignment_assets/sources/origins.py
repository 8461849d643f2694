"""Where a row says that its prompt came from: pages and hosts, read from what people write there.

Pure functions over one value. What a site says to crawlers is `alignment_assets.sources.consent`.
"""

from __future__ import annotations

import ast
import importlib.metadata
import ipaddress
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote, unquote

import idna
from publicsuffixlist import PublicSuffixList

# What people write where they know nothing, in lower case.
UNKNOWN = frozenset(
    ("", "-", "--", "n/a", "na", "#n/a", "nan", "nil", "none", "null", "undefined", "unknown")
)
PORTS = 65536
MAX_HOST = 253
MAX_DEPTH = 4

_INVISIBLE = re.compile("[\ufeff\u200b-\u200f\u2060\u00ad]")
_SCHEME = re.compile(r"(https?|ftps?|wss?):[/\\]*|[/\\]{2,}", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:(?!\d+(?:[/\\?#]|$))", re.IGNORECASE)
_AUTHORITY = re.compile(r"[^/\\?#]*")
_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{0,5}))?")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# Several in one text: on lines of their own, or each with its scheme, or after a comma and a blank.
_BETWEEN = re.compile(
    r"[\r\n\t]+|(?<![\s,;|])[\s,;|]+(?=[<\"']?(?:https?:)?//)|[,;|]\s+", re.IGNORECASE
)
_LISTED = re.compile(r"[,;|]")
_SAFE = "/%?#[]@!$&'()*+,;=:~-._"
_PAIRS = {"<": ">", '"': '"', "'": "'", "`": "`"}


@dataclass(frozen=True)
class Page:
    """A page that an origin names: its URL, and the host in it as registries write it."""

    url: str
    host: str


@dataclass(frozen=True)
class Origin:
    """What a row says about where its prompt came from.

    Attributes:
        written: as the row has it, a list as JSON; None where it says nothing.
        pages: the pages that could be understood.
        unreadable: whether something of it could not.
    """

    written: str | None
    pages: tuple[Page, ...] = ()
    unreadable: bool = False


def read_origin(value: Any) -> Origin:
    """Return the origin that a value of a row stands for.

    Read are URLs, bare hosts with or without a path, ``//host``, ``<…>``, other letter case, ports,
    user names, international hosts in letters or in punycode, and lists of these, also as text.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    pieces = list(_pieces(value))
    if not pieces:
        return Origin(None)
    pages: dict[Page, None] = {}
    unreadable = False
    for piece in pieces:
        found = _pages(piece)
        unreadable = unreadable or not found
        pages.update(dict.fromkeys(found))
    return Origin(_written(value), tuple(pages), unreadable)


def host_of(text: str) -> str | None:
    """Return the host that a text names, as registries write it; None if it names none.

    Letters are lower case, international names are in punycode, a dot at the end is dropped, and an
    address of IP version 6 has no brackets.
    """
    pages = _pages(text.strip())
    return pages[0].host if len(pages) == 1 else None


def site_of(host: str) -> str:
    """Return the registrable domain of a host: the part that somebody can own.

    The public suffix list tells, its private section included: ``a.github.io`` and ``b.github.io``
    are two sites. An address, and a host that is itself a public suffix, stands for itself.
    """
    return host if _address(host) else _suffixes().privatesuffix(host) or host


def suffix_list_version() -> str:
    """Return which public suffix list decides what a site is."""
    return f"publicsuffixlist {importlib.metadata.version('publicsuffixlist')}"


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=True, only_icann=False)


def _written(value: Any) -> str:
    try:
        text = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        )
    except (ValueError, RecursionError):
        text = f"{type(value).__name__} that cannot be written"
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")


def _pieces(value: Any, depth: int = 0) -> Iterator[str]:
    """Yield each text of a value that may name a page; none where the value says nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return
    if isinstance(value, (list, tuple)) and depth < MAX_DEPTH:
        for entry in value:
            yield from _pieces(entry, depth + 1)
        return
    if not isinstance(value, str):
        yield _written(value)
        return
    text = _unwrapped(_INVISIBLE.sub("", _written(value)))
    if text.casefold() in UNKNOWN:
        return
    listed = _as_list(text)
    if listed is not None:
        yield from _pieces(listed, depth)
        return
    for piece in _BETWEEN.split(text):
        if _unwrapped(piece).casefold() not in UNKNOWN:
            yield _unwrapped(piece)


def _as_list(text: str) -> list[Any] | None:
    """Return the list that a text spells in JSON or in Python; None if it spells none."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return None


def _unwrapped(text: str) -> str:
    """Return a text without the blanks, brackets and quotes around it (RFC 3986, appendix C)."""
    text = text.strip()
    for _ in range(MAX_DEPTH):
        if len(text) < 2 or _PAIRS.get(text[0]) != text[-1]:
            break
        text = text[1:-1].strip()
        if text[:4].lower() == "url:":
            text = text[4:].strip()
    return text


def _pages(text: str) -> tuple[Page, ...]:
    """Return the pages of a text that is one URL or host, or several with commas between them."""
    page = _page(text)
    if page is not None:
        return (page,)
    pages = [_page(_unwrapped(part)) for part in _LISTED.split(text) if part.strip()]
    known = tuple(page for page in pages if page is not None)
    return known if len(known) == len(pages) > 1 else ()


def _page(text: str) -> Page | None:
    """Return the page that a URL or bare host names; None where it cannot be told."""
    scheme = _SCHEME.match(text)
    if scheme is None and _OTHER_SCHEME.match(text) and not _is_bare_address(text):
        return None
    rest = text[scheme.end() :] if scheme else text
    authority = _AUTHORITY.match(rest)
    named = authority.group() if authority else ""
    if scheme is None and "@" in named:  # a mail address, more likely than a user's page
        return None
    parts = _PORT.fullmatch(named.rpartition("@")[2])
    if parts is None or int(parts["port"] or 0) >= PORTS:
        return None
    host = _host(parts["host"])
    if host is None or (scheme is None and "." not in host and ":" not in host):
        return None
    if host in ("http", "https"):  # a scheme written twice
        return None
    port = f":{int(parts['port'])}" if parts["port"] else ""
    shown = f"[{host}]" if ":" in host else host
    path = quote(rest[len(named) :].strip().replace("\\", "/"), _SAFE, errors="replace")
    path = path if path.startswith("/") else f"/{path}"
    return Page(f"{_scheme_name(scheme)}://{shown}{port}{path}", host)


def _scheme_name(scheme: re.Match[str] | None) -> str:
    return (scheme[1] if scheme and scheme[1] else "https").lower()


def _is_bare_address(text: str) -> bool:
    return text.startswith("[") or _address(text.partition("/")[0]) is not None


def _host(text: str) -> str | None:
    """Return a host as registries write it; None if it can be none."""
    if text.startswith("[") and text.endswith("]"):
        return _address(text[1:-1])
    host = _in_punycode(unquote(text).rstrip(".。"))
    if host is None or any(letter.isspace() for letter in host):
        return None
    host = host.lower().rstrip(".")
    if len(host) > MAX_HOST:
        return None
    labels = host.split(".")
    if labels[-1].isdigit():
        return _address(host)
    return host if all(_LABEL.fullmatch(label) for label in labels) else None


def _in_punycode(host: str) -> str | None:
    """Return a host in ASCII, as browsers write it; by the older rules where those know no way."""
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        pass
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return None


def _address(text: str) -> str | None:
    """Return an IP address in its usual form; None if it is none."""
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None
