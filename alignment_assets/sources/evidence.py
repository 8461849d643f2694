"""What is at hand about sites: snapshots of robots.txt, and lists of blocked domains.

Snapshots stand in a table (Parquet, CSV and what else `readers` reads) or in a folder of
``<host>.txt``. Here belongs reading them; what they mean is `alignment_assets.sources.consent`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from alignment_assets.recipe.datasets import DatasetReference
from alignment_assets.recipe.model import Recipe
from alignment_assets.sources.files import SourceError
from alignment_assets.sources.origins import host_of, site_of
from alignment_assets.sources.readers import read_rows
from alignment_assets.sources.robots import Robots, read_robots

COLUMNS = ("host", "fetched_at", "http_status", "content_type", "body")
SUFFIX = ".txt"
PLACE = "consent.robots"


@dataclass(frozen=True)
class Snapshot:
    """What a host once answered to a request for its robots.txt.

    Attributes:
        host: as registries write it.
        http_status: of the answer; None if there was none.
        body: its content; None if it is not known.
        content_type: as the answer told it; None if it did not.
        fetched_at: when it was fetched, in UTC; None if nobody knows.
    """

    host: str
    http_status: int | None
    body: bytes | None
    content_type: str | None = None
    fetched_at: datetime | None = None

    @cached_property
    def robots(self) -> Robots | None:
        """What it says; None if it is no robots.txt."""
        return read_robots(self.body, self.content_type)

    @cached_property
    def hash(self) -> str | None:
        """The sha256 of its body; None without one."""
        return None if self.body is None else hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True)
class BlockedDomains:
    """A list of domains that somebody keeps out of training, with its name and date."""

    name: str
    date: str
    domains: frozenset[str]


def read_snapshots(recipe: Recipe, sites: Container[str]) -> dict[str, list[Snapshot]]:
    """Return the recipe's snapshots by host: of each the latest, and those without a date.

    Args:
        recipe: which names the evidence.
        sites: the registrable domains that matter; what is known of others is passed over.

    Raises:
        SourceError: nothing there, or a row that cannot be read, with its number.
    """
    place = recipe.consent.robots
    if place is None:
        return {}
    path = recipe.resolve(place)
    if not path.exists():
        raise SourceError(f"{PLACE}: nothing at {path}; name a folder of <host>.txt, or a table")
    found: dict[str, list[Snapshot]] = {}
    for snapshot in _in_folder(path) if _is_folder(path) else _in_table(recipe, place):
        if site_of(snapshot.host) in sites:
            found.setdefault(snapshot.host, []).append(snapshot)
    return {host: _counting(snapshots) for host, snapshots in found.items()}


def read_blocked_domains(recipe: Recipe) -> list[BlockedDomains]:
    """Return the recipe's lists of blocked domains, one domain a line, ``#`` before comments.

    Raises:
        SourceError: no such file, or a line that names no domain, with its number.
    """
    return [
        BlockedDomains(name, listed.date, frozenset(_domains(name, recipe.resolve(listed.file))))
        for name, listed in recipe.consent.blocked_domains.items()
    ]


def _is_folder(path: Path) -> bool:
    """Return whether evidence is a folder of files named for their hosts, and not of tables."""
    if not path.is_dir():
        return False
    tables = sorted([*path.rglob("*.parquet"), *path.rglob("*.csv")])
    if tables and any(path.glob(f"*{SUFFIX}")):
        raise SourceError(
            f"{PLACE}: {path} has tables ({tables[0].name}) and <host>{SUFFIX}; give each a folder"
        )
    return not tables


def _in_folder(folder: Path) -> Iterator[Snapshot]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() == ".md" or not path.is_file():
            continue
        host = _host(path.stem) if path.suffix.lower() == SUFFIX else None
        if host is None or "_" in host.rpartition(".")[2]:
            raise SourceError(
                f"{PLACE}: {path}: its name is no host; name it <host>{SUFFIX}, or put it elsewhere"
            )
        yield Snapshot(host, 200, path.read_bytes())


def _in_table(recipe: Recipe, place: str) -> Iterator[Snapshot]:
    columns = {name: name for name in COLUMNS}
    reference = DatasetReference.model_validate({"dataset": place, "columns": columns})
    for number, row in enumerate(read_rows(PLACE, reference, recipe)):
        label = f"{PLACE} ({place}): row {number}"
        values = {name: _known(value) for name, value in row.values.items()}
        host = _host(values["host"])
        if row.problem or host is None:
            problem = row.problem or f"{values['host']!r:.80} is no host"
            raise SourceError(f"{label}: {problem}")
        body, kind = values["body"], values["content_type"]
        if body is not None and not isinstance(body, bytes):
            body = str(body).encode("utf-8", "surrogateescape")
        yield Snapshot(
            host,
            _http_status(label, values["http_status"]),
            body,
            None if kind is None else str(kind),
            _moment(label, values["fetched_at"]),
        )


def _host(name: Any) -> str | None:
    """Return the host that a file or row is named for, which may have one part alone."""
    return (host_of(name) or host_of(f"//{name}")) if isinstance(name, str) else None


def _known(value: Any) -> Any:
    """Return a value; None where a file has another way to say that there is none (NaN, NaT)."""
    return None if value is None or value == "" or value != value else value


def _http_status(label: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise SourceError(
            f"{label}: http_status is {value!r:.40}, no number; leave it empty where no answer came"
        ) from None


def _moment(label: str, value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        moment: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC)
    except (AttributeError, ValueError, OverflowError):
        raise SourceError(
            f"{label}: fetched_at is {value!r:.40}; write 2026-11-28 or 2026-11-28T10:00:00Z"
        ) from None


def _counting(snapshots: list[Snapshot]) -> list[Snapshot]:
    dates = [snapshot.fetched_at for snapshot in snapshots if snapshot.fetched_at]
    latest = max(dates, default=None)
    return [snapshot for snapshot in snapshots if snapshot.fetched_at in (None, latest)]


def _domains(name: str, path: Path) -> Iterator[str]:
    place = f"consent.blocked_domains.{name}"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{place}: {path} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        bare = entry.removeprefix("*").removeprefix(".")
        domain = host_of(bare if "//" in bare else f"//{bare}")
        if domain is None:
            raise SourceError(f"{place}: {path}, line {number}: {entry!r:.60} is no domain")
        yield domain
