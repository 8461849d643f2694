"""What a robots.txt says: product tokens, groups, paths, signals, and what is none at all."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protego import Protego

from alignment_assets.recipe.load import load_recipe
from alignment_assets.sources.robots import Robots, read_robots, tokens_of

AGENTS = load_recipe("apertus").consent.agents
ROOT, PAGE = "https://reef.example/", "https://reef.example/page"
NOBODY: Sequence[str] = ()


def read(content: bytes | str) -> Robots:
    robots = read_robots(content)
    assert robots is not None
    return robots


def blocked(content: bytes | str, agents: Sequence[str] = AGENTS) -> list[str]:
    robots = read(content)
    return [agent for agent in agents if robots.forbids(agent, ROOT, PAGE)]


# -- product tokens --------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_alone_is_kept_out_in_any_case(agent: str) -> None:
    assert agent in blocked(f"User-agent: {agent.upper()}\nDisallow: /\n")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("Bytespider/2.4", ["Bytespider"]),
        ("ccbot/9", ["CCBot", "CCBot/2.0", "CCBot/1.0"]),
        ("CCBot 2.0", ["CCBot", "CCBot/2.0", "CCBot/1.0"]),
        ("Diffbot,PanguBot", ["Diffbot", "PanguBot"]),
        ("Diffbot , PanguBot/1, Yeti", ["Diffbot", "PanguBot"]),
        ("Diffbot PanguBot", ["Diffbot", "PanguBot"]),
        ("AI2Bot (https://allenai.example/crawler)", ["AI2Bot"]),
        ("ClaudeBot(+mail@claude.example)", ["ClaudeBot"]),
        ("ClaudeBot (of GPTBot's kind", ["ClaudeBot"]),
        ("Mozilla/5.0 (compatible; GPTBot/1.2; +https://gpt.example)", ["GPTBot"]),
        ("Mozilla/5.0 (compatible; GPTBot; +https://gpt.example)", ["GPTBot"]),
        ("/GPTBot", ["GPTBot"]),
        ("GPTBot # the one of gpt.example", ["GPTBot"]),
        ("GPTBot\t", ["GPTBot"]),
        ("GPTBot%2F1.1", ["GPTBot"]),
        ("GPTBot;", ["GPTBot"]),
        ("GPTBot2.1", ["GPTBot"]),
        ("GPTBot*", ["GPTBot"]),
        ('"GPTBot"', ["GPTBot"]),
        ("\ufeffGPTBot", ["GPTBot"]),
        ("Google\u2011Extended", ["Google-Extended"]),
        ("*", list(AGENTS)),
        ("**", list(AGENTS)),
        ("Yeti, *", list(AGENTS)),
        ("*/*", list(AGENTS)),
        ("Google", NOBODY),
        ("Googlebot", NOBODY),
        ("Google-Extended-News", NOBODY),
        ("Applebot", NOBODY),
        ("Applebot_Extended", NOBODY),
        ("Meta", NOBODY),
        ("Meta-External", NOBODY),
        ("AI", NOBODY),
        ("AI2", NOBODY),
        ("bot", NOBODY),
        ("notGPTBot", NOBODY),
        ("GPTBot-User", NOBODY),
        ("cohere", NOBODY),
        ("", list(AGENTS)),
    ],
)
def test_a_line_means_exactly_the_agents_that_it_names(line: str, meant: list[str]) -> None:
    assert blocked(f"User-agent: {line}\nDisallow: /\n") == list(meant)


def plain_tokens(line: str) -> list[str]:
    """Products with commas between them, each cut where its token ends."""
    return [re.split(r"[/ (]", product.strip())[0].lower() for product in line.split(",")]


PRODUCT = st.text(string.ascii_letters + "-_", min_size=1, max_size=12).filter(
    lambda name: not name.lower().startswith("mozilla")
)
REST = st.sampled_from(["", "/1.1", "/0.9-beta", " (+https://a.example/b)", " (x; y)", "/2 (z)"])


@given(st.lists(st.tuples(PRODUCT, REST), min_size=1, max_size=4))
def test_tokens_are_those_of_a_plain_reading(products: list[tuple[str, str]]) -> None:
    line = ", ".join(name + rest for name, rest in products)
    assert tokens_of(line) == list(dict.fromkeys(plain_tokens(line)))


@given(PRODUCT, PRODUCT)
def test_a_group_counts_for_its_own_token_alone(named: str, asked: str) -> None:
    robots = f"User-agent: {named}\nDisallow: /\n"
    assert blocked(robots, [asked]) == ([asked] if named.lower() == asked.lower() else [])


# -- groups and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n", "\r\r", "\u2028", "\v"])
@pytest.mark.parametrize(
    "lines",
    [
        ["User-agent: Yeti", "User-agent: Diffbot", "Disallow: /"],
        ["User-agent: Yeti", "# and", "User-agent: Diffbot", "# both", "Disallow: /"],
        ["User-agent: Diffbot", "Sitemap: https://reef.example/s.xml", "Disallow: /"],
        ["User-agent: Diffbot", "Crawl-delay: 5", "User-agent: Yeti", "Disallow: /"],
        ["User-agent: Diffbot", "Allow: /", "", "User-agent: Diffbot/3", "Disallow: /page"],
        ["User-agent: Diffbot", "Disallow: /a", "User-agent: DIFFBOT", "Disallow: /"],
        ["User-agent : Diffbot", "Disallow : /"],
        ["  user-agent:Diffbot", "\tdisallow:/"],
        ["User Agent: Diffbot", "Dissallow: /"],
        ["User_agent: Diffbot", "Disallow: *"],
        ["User-agent Diffbot", "Disallow /"],
        ["User-agent: Diffbot", "Disallow: https://reef.example/"],
        ["User-agent: Diffbot", "Disallow: page"],
        ["User-agent: Diffbot", "Disallow: %2F"],
        ["User-agents: Yeti, Diffbot", "Disallow: /"],
        ["Disallow: /"],
        ["User-agent: Diffbot", "Disallow: /p%61ge"],
        ["User-agent: Diffbot", "Disallow: /*ge$"],
        ["Some words before", "User-agent: Diffbot", "More words", "Disallow: /"],
    ],
)
def test_a_group_keeps_its_agent_out_however_it_is_written(lines: list[str], end: str) -> None:
    assert "Diffbot" in blocked(end.join([*lines, ""]))


@pytest.mark.parametrize(
    "robots",
    [
        "",
        "# nothing here\n",
        "User-agent: *\nDisallow:\n",
        "User-agent: *\nDisallow: /admin/\n",
        "User-agent: Yeti\nDisallow: /\n",
        "User-agent: *\nDisallow: /\nAllow: /\n",
        "Disallow: /\n\nUser-agent: *\nAllow: /\n",
        "User-agent: *\nAllow: /\n\nUser-agent: Yeti\nUser-agent: Seal\nDisallow: /\n",
        "Sitemap: https://reef.example/sitemap.xml\n",
    ],
)
def test_who_is_not_meant_is_let_in(robots: str) -> None:
    assert blocked(robots) == []


def test_an_agent_with_a_group_of_its_own_does_not_follow_the_others() -> None:
    robots = "User-agent: *\nDisallow: /\n\nUser-agent: GPTBot\nAllow: /\n"
    assert blocked(robots) == [agent for agent in AGENTS if agent != "GPTBot"]
    named_without_rules = "User-agent: *\nDisallow: /page\n\nUser-agent: CCBot\n"
    assert blocked(named_without_rules, ["CCBot/2.0", "GPTBot"]) == ["GPTBot"]


AGENT = st.sampled_from(["Alpha", "Beta-Bot", "gamma_bot", "*"])
PATH = st.sampled_from(["", "/", "/page", "/p", "/*ge", "/page$", "/other", "/?x", "/P", "/%70age"])
RULE = st.tuples(st.sampled_from(["Allow", "Disallow"]), PATH)
GROUP = st.tuples(st.lists(AGENT, min_size=1, max_size=3), st.lists(RULE, min_size=1, max_size=4))


@given(st.lists(GROUP, min_size=1, max_size=4))
def test_plain_groups_are_read_as_protego_reads_them(
    groups: list[tuple[list[str], list[tuple[str, str]]]],
) -> None:
    lines = [
        line
        for agents, rules in groups
        for line in (
            *(f"User-agent: {agent}" for agent in agents),
            *(f"{name}: {path}" for name, path in rules),
        )
    ]
    text = "\n".join(lines)
    judge = Protego.parse(text)
    for agent in ("Alpha", "Beta-Bot", "gamma_bot", "Delta"):
        for url in (ROOT, PAGE):
            assert read(text).forbids(agent, url) == (not judge.can_fetch(url, agent))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)), st.sampled_from(AGENTS))
def test_anything_can_be_read(content: bytes | str, agent: str) -> None:
    for start in (b"", b"User-agent: ", b"User-agent: *\nDisallow: ", b"Content-Signal: "):
        given_content = start + (content if isinstance(content, bytes) else content.encode())
        if robots := read_robots(given_content):
            robots.forbids(agent, ROOT, PAGE)
            robots.refusal(agent, ROOT, PAGE)


# -- what is no robots.txt, and what only looks as if it were none ---------------------------------


RULES = "User-agent: *\nDisallow: /\n"


@pytest.mark.parametrize(
    "content",
    [
        RULES.encode("utf-8-sig"),
        RULES.encode("utf-16"),
        "\ufeff".encode("utf-16-be") + RULES.encode("utf-16-be"),
        RULES.encode("utf-32"),
        b"# caf\xe9\n" + RULES.encode(),
        ("<!-- crawlers -->\n" + RULES).encode(),
        ("\u200b\ufeff" + RULES).encode(),
        (RULES + "<html></html>").encode(),
        RULES.encode("utf-16") + b"\x00",
    ],
)
def test_a_robots_txt_is_read_in_any_encoding_that_it_tells(content: bytes) -> None:
    assert blocked(content) == list(AGENTS)


@pytest.mark.parametrize(
    "content",
    [
        b"<html><body>Not here</body></html>",
        b"\n\n<!doctype HTML>\n<title>User-agent: *</title>\nUser-agent: *\nAllow: /\n",
        b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>",
        b"<!-- page -->\n<p>Hello</p>",
        b"Not Found",
        b"Host: reef.example\n",
        b"405 Method Not Allowed\nAllow: GET, HEAD\n",
        b"<urlset><url>https://reef.example/</url></urlset>",
        b'{"error": "User-agent: *"}',
        RULES.encode("utf-16-le"),
        RULES.encode("utf-16-be"),
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b"\x1f\x8b\x08\xff\xfe\xfd",
        None,
        b"Access denied.\nUser-agent: Mozilla/5.0\nRay ID: 1",
        b"Welcome!\nSitemap: /map.html",
        b"<pre>\nAllow: /\n</pre>",
        b"x\n<!DOCTYPE html>\nUser-agent: *\nAllow: /",
    ],
)
def test_what_is_no_robots_txt_is_not_read_as_one(content: bytes | None) -> None:
    assert read_robots(content) is None


def test_the_type_of_an_answer_decides_where_its_content_says_nothing() -> None:
    assert read_robots(b"", "text/plain; charset=utf-8") is not None
    assert read_robots(b"", "text/html") is None
    assert read_robots(RULES.encode(), "text/html") is not None


# -- signals and licences --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("robots", "signal"),
    [
        ("User-agent: *\nContent-Signal: ai-train=no\n", "ai-train=no"),
        ("User-agent: *\nContent-signal: search=yes,ai-train=no,ai-input=yes\n", "ai-train=no"),
        ("User-agent: *\nContent-Signal: AI-Train = No\nAllow: /\n", "ai-train=no"),
        ("user-agent: *\ncontent-usage: search=y, train-ai=n\n", "train-ai=n"),
        ("User-agent: *\nContent-Usage: train-ai=?0\n", "train-ai=0"),
        ("User-agent: *\nContent-Usage: train-genai=n\n", "train-genai=n"),
        ("User-agent: *\nContent-Usage: bots=n\n", "bots=n"),
        ("User-agent: *\nContent-Usage: bots=n, train-ai=y\n", None),
        ("Content-Usage: train-ai=n\nUser-agent: Yeti\nAllow: /\n", "train-ai=n"),
        ("User-agent: Yeti\nAllow: /\n\nContent-Signal: ai-train=no\n", "ai-train=no"),
        ("User-agent: Yeti\nContent-Signal: ai-train=no\nAllow: /\n", None),
        ("User-agent: Yeti\nUser-agent: Diffbot\nContent-Signal: ai-train=no\n", "ai-train=no"),
        ("User-agent: *\nContent-Usage: / train-ai=n\n", "train-ai=n"),
        ("User-agent: *\nContent-Usage: /page train-ai=n\n", "train-ai=n"),
        ("User-agent: *\nContent-Usage: /elsewhere train-ai=n\n", None),
        ("User-agent: *\nContent-Signal: ai-train=yes\n", None),
        ("User-agent: *\nContent-Usage: train-ai=y\n", None),
        ("User-agent: *\nContent-Signal: search=no, ai-input=no\n", None),
        (
            "User-agent: *\nContent-Signal: ai-train=yes\nContent-Signal: ai-train=no\n",
            "ai-train=no",
        ),
        ("# Content-Signal: ai-train=no\nUser-agent: *\nAllow: /\n", None),
        ("User-agent: *\nContent-Usage: ai=n\nAllow: /", "ai=n"),
        ("User-agent: *\nContent-Usage: ai=n, train-ai=y\nAllow: /", None),
        ("User-agent: *\nContent-Signal: ai_train=deny\nAllow: /", "ai-train=deny"),
        ("User-agent: *\nAllow: /\nDisallowAITraining: /", "ai-train=no"),
        ("tdm-reservation: 1\nUser-agent: *\nAllow: /", "ai-train=no"),
        ("tdm-reservation: 0\nUser-agent: *\nAllow: /", None),
        ("User-agent: *\nContent-Signal: " + "a-" * 100_000 + "\nAllow: /", "ai-train=no"),
    ],
)
def test_a_signal_refuses_training_where_it_holds(robots: str, signal: str | None) -> None:
    found = {read(robots).refusal(agent, ROOT, PAGE) for agent in AGENTS}
    assert found - {None} == ({signal} if signal else set())


def test_a_signal_of_one_agents_group_holds_for_that_agent() -> None:
    robots = read("User-agent: Diffbot\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /\n")
    assert [a for a in AGENTS if robots.refusal(a, ROOT)] == ["Diffbot"]


def test_a_licence_is_found_wherever_it_stands() -> None:
    lines = ["User-agent: *", "Allow: /", "License: https://reef.example/rsl.xml"]
    for start in range(3):
        robots = read("\n".join([*lines[start:], *lines[:start]]))
        assert robots.licence == "https://reef.example/rsl.xml"
    assert read("User-agent: *\nAllow: /\nLicense:\n").licence is None
