"""The consent rule of the report's Appendix B: what the sites of an origin say to AI crawlers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from alignment_assets.recipe.model import Recipe
from alignment_assets.sources.evidence import (
    BlockedDomains,
    Snapshot,
    read_blocked_domains,
    read_snapshots,
)
from alignment_assets.sources.origins import Page, read_origin, site_of

# Every status, the strictest first: of several that hold for an origin the first counts. The first
# three refuse, the last alone admits; what lies between decides nothing.
STATUSES = (
    "blocked",
    "refused_by_signal",
    "on_blocked_list",
    "unreadable_origin",
    "licence_to_look_at",
    "not_robots_txt",
    "no_snapshot",
    "admitted",
)
SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Verdict:
    """What one piece of evidence says about an origin; a part of a row of ``origin_consent``."""

    status: str
    reason: str
    site: str | None = None
    blocked_agents: tuple[str, ...] = ()
    snapshot: Snapshot | None = None


@dataclass(frozen=True)
class Evidence:
    """What is at hand about sites, and how far it reaches.

    Attributes:
        agents: user agents in the recipe's order; ``*`` stands for any agent not named.
        snapshots: of robots.txt, by host.
        blocked_domains: lists of domains that are kept out.
        by_domain: whether a page follows all hosts under its registrable domain, not its own alone.
    """

    agents: tuple[str, ...]
    snapshots: dict[str, list[Snapshot]] = field(default_factory=dict)
    blocked_domains: Sequence[BlockedDomains] = ()
    by_domain: bool = True

    @classmethod
    def of(cls, recipe: Recipe, origins: Iterable[str]) -> Evidence:
        """Read the evidence that a recipe names about some origins as rows write them.

        Raises:
            SourceError: it is not there, or cannot be read; the message has the place.
        """
        rule = recipe.consent
        sites = {site_of(page.host) for written in origins for page in read_origin(written).pages}
        return cls(
            rule.agents,
            read_snapshots(recipe, sites),
            read_blocked_domains(recipe),
            rule.scope == "domain",
        )

    def about(self, host: str) -> list[Snapshot]:
        """Return the snapshots that a page of a host follows, the host's own first."""
        own = self.snapshots.get(host, [])
        if not self.by_domain:
            return own
        others = self._by_site.get(site_of(host), [])
        return [*own, *(snapshot for snapshot in others if snapshot.host != host)]

    def listed(self, host: str) -> tuple[BlockedDomains, str] | None:
        """Return a list that keeps a host out, and the domain on it."""
        parts = host.split(".")
        above = {".".join(parts[start:]) for start in range(len(parts))}
        for listed, sites in zip(self.blocked_domains, self._listed_sites, strict=True):
            found = sorted(above & listed.domains, key=len)
            if not found and self.by_domain:
                found = sorted(sites.get(site_of(host), ()))
            if found:
                return listed, found[-1]
        return None

    @cached_property
    def _by_site(self) -> dict[str, list[Snapshot]]:
        found: dict[str, list[Snapshot]] = {}
        for host in sorted(self.snapshots):
            found.setdefault(site_of(host), []).extend(self.snapshots[host])
        return found

    @cached_property
    def _listed_sites(self) -> list[dict[str, set[str]]]:
        sites: list[dict[str, set[str]]] = []
        for listed in self.blocked_domains if self.by_domain else ():
            of_list: dict[str, set[str]] = {}
            for domain in listed.domains:
                of_list.setdefault(site_of(domain), set()).add(domain)
            sites.append(of_list)
        return sites or [{} for _ in self.blocked_domains]


def origin_consent(written: str, evidence: Evidence) -> dict[str, Any]:
    """Return a row of ``origin_consent`` for one origin as a row writes it.

    An agent is blocked if it may not fetch the site's root, or not the page itself. One blocked
    agent puts the origin out. Of several pages and several sites the strictest counts.
    """
    origin = read_origin(written)
    verdicts = [verdict for page in origin.pages for verdict in _verdicts(page, evidence)]
    if origin.unreadable or not origin.pages:
        shown = written if len(written) <= SHOWN_CHARACTERS else written[:SHOWN_CHARACTERS] + "…"
        verdicts.append(Verdict("unreadable_origin", f"the origin {shown!r} cannot be read"))
    verdict = min(verdicts, key=lambda verdict: STATUSES.index(verdict.status))
    return {
        "origin_url": written,
        "origin_domain": origin.pages[0].host if origin.pages else None,
        "status": verdict.status,
        "reason": verdict.reason,
        "blocked_agents": list(verdict.blocked_agents),
        "site": verdict.site,
        "fetched_at": verdict.snapshot.fetched_at if verdict.snapshot else None,
        "snapshot_hash": verdict.snapshot.hash if verdict.snapshot else None,
    }


def _verdicts(page: Page, evidence: Evidence) -> list[Verdict]:
    verdicts = [_said(snapshot, page, evidence.agents) for snapshot in evidence.about(page.host)]
    if listed := evidence.listed(page.host):
        names, domain = listed
        reason = f"{domain} is on the list {names.name} of {names.date}"
        verdicts.append(Verdict("on_blocked_list", reason, domain))
    return verdicts or [Verdict("no_snapshot", f"no robots.txt of {page.host} is at hand")]


def _said(snapshot: Snapshot, page: Page, agents: tuple[str, ...]) -> Verdict:
    """Return what a site's snapshot says about a page (RFC 9309, 2.3.1 for other answers)."""
    site, code, robots = snapshot.host, snapshot.http_status, snapshot.robots

    def verdict(status: str, reason: str, blocked: Sequence[str] = ()) -> Verdict:
        return Verdict(status, reason, site, tuple(blocked), snapshot)

    if code is None and snapshot.body is None:
        reason = f"{site} gave no answer for its robots.txt, which forbids all"
        return verdict("blocked", reason, agents)
    if code is not None and 500 <= code < 600:
        reason = f"{site} answered {code} for its robots.txt, which forbids all"
        return verdict("blocked", reason, agents)
    if code is not None and 400 <= code < 500:
        return verdict("admitted", f"{site} answered {code}: it has no robots.txt")
    if robots is None or (code is not None and not 200 <= code < 300):
        return verdict("not_robots_txt", f"what {site} answered is no robots.txt")
    urls = (f"https://{site}/", page.url)
    if blocked := [agent for agent in agents if robots.forbids(agent, *urls)]:
        return verdict("blocked", f"{site} blocks {', '.join(blocked)}", blocked)
    signals = {agent: robots.refusal(agent, *urls) for agent in agents}
    if refused := {agent: signal for agent, signal in signals.items() if signal}:
        said = ", ".join(sorted(set(refused.values())))
        return verdict("refused_by_signal", f"{site} signals {said}", list(refused))
    if robots.licence:
        return verdict("licence_to_look_at", f"{site} names a licence, {robots.licence}")
    return verdict("admitted", f"{site} blocks none of the agents")
