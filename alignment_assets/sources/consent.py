"""The consent rule of the report's Appendix B: what an origin's robots.txt says to AI crawlers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from protego import Protego

MAX_DOMAIN_BYTES = 250


def domain_of(url: str | None) -> str | None:
    """Return the host of a URL in lower case; None where there is none."""
    try:
        host = urlsplit(url or "").hostname
    except ValueError:
        return None
    return host.rstrip(".") if host else None


def origin_consent(
    url: str, domain: str, agents: Sequence[str], folder: Path | None
) -> dict[str, Any]:
    """Return a row of ``origin_consent`` for one origin.

    An agent is blocked if it may not fetch the site's root, or not the page itself. One blocked
    agent puts the origin out.

    Args:
        url: the page.
        domain: its host.
        agents: user agents in the recipe's order; ``*`` stands for any agent not named.
        folder: robots.txt snapshots, one ``<domain>.txt`` each; None if there are none.
    """
    snapshot = _snapshot(folder, domain)
    row: dict[str, Any] = {
        "origin_url": url,
        "origin_domain": domain,
        "blocked_agents": [],
        "snapshot_hash": None,
    }
    if snapshot is None:
        return {**row, "status": "no_snapshot"}
    robots = Protego.parse(snapshot.decode("utf-8-sig", errors="replace"))
    parts = urlsplit(url)
    root = urlunsplit((parts.scheme, parts.netloc, "/", "", ""))
    blocked = [
        agent
        for agent in agents
        if not (robots.can_fetch(root, agent) and robots.can_fetch(url, agent))
    ]
    return {
        **row,
        "status": "blocked" if blocked else "admitted",
        "blocked_agents": blocked,
        "snapshot_hash": hashlib.sha256(snapshot).hexdigest(),
    }


def _snapshot(folder: Path | None, domain: str) -> bytes | None:
    # The domain comes from data: only a plain name that a disk takes may become a file's name.
    if folder is None or "/" in domain or domain.startswith("."):
        return None
    if len(domain.encode()) > MAX_DOMAIN_BYTES:
        return None
    path = folder / f"{domain}.txt"
    return path.read_bytes() if path.is_file() else None
