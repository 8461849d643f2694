"""What a snapshot of robots.txt says about an origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment_assets.recipe.load import load_recipe
from alignment_assets.sources.consent import domain_of, origin_consent

AGENTS = load_recipe("apertus").consent.agents


def status(robots: bytes, tmp_path: Path, url: str = "https://a.example/page") -> dict[str, Any]:
    (tmp_path / "a.example.txt").write_bytes(robots)
    return origin_consent(url, domain_of(url) or "", AGENTS, tmp_path)


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_alone_puts_an_origin_out(tmp_path: Path, agent: str) -> None:
    found = status(f"User-agent: {agent.upper()}\nDisallow: /\n".encode(), tmp_path)
    assert found["status"] == "blocked"
    assert agent in found["blocked_agents"]


@pytest.mark.parametrize(
    ("robots", "blocked"),
    [
        (b"", False),
        (b"User-agent: *\nDisallow:\n", False),
        (b"User-agent: Googlebot\nDisallow: /\n", False),
        (b"User-agent: *\nDisallow: /admin/\n", False),
        (b"User-agent: *\nDisallow: /page\n", True),
        (b"User-agent: *\nDisallow: /\nAllow: /page\n", True),
        (b"User-agent: GPTBot\nDisallow: /page\n", True),
        (b"User-agent: *\nDisallow: /\n\nUser-agent: GPTBot\nAllow: /\n", True),
        (b"user-agent: gptbot\r\ndisallow: /\r\n", True),
        (b"\xef\xbb\xbfUser-agent: *\nDisallow: /\n", True),
        (b"# \xff\xfe\nUser-agent: *\nDisallow: /\n", True),
        (b"<html>404</html>", False),
    ],
)
def test_a_snapshot_blocks_by_the_sites_root_or_by_the_page(
    tmp_path: Path, robots: bytes, blocked: bool
) -> None:
    assert status(robots, tmp_path)["status"] == ("blocked" if blocked else "admitted")


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://User:pw@News.Example.:8443/a?b#c", "news.example"),
        ("//a.example/page", "a.example"),
        ("not a url", None),
        ("mailto:somebody@a.example", None),
        ("http://[::1/", None),
        ("", None),
        (None, None),
    ],
)
def test_the_domain_of_an_origin(url: str | None, domain: str | None) -> None:
    assert domain_of(url) == domain


@pytest.mark.parametrize(
    "domain", ["../secret", "..", ".hidden", "a/b", "a" * 300 + ".example", "ü" * 140]
)
def test_an_odd_domain_reads_no_file_and_breaks_nothing(tmp_path: Path, domain: str) -> None:
    (tmp_path / "robots").mkdir()
    (tmp_path / "secret.txt").write_text("User-agent: *\nDisallow: /\n")
    (tmp_path / "robots" / ".hidden.txt").write_text("User-agent: *\nDisallow: /\n")
    found = origin_consent(f"https://{domain}/", domain, AGENTS, tmp_path / "robots")
    assert (found["status"], found["blocked_agents"]) == ("no_snapshot", [])
