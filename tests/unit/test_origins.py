"""Where rows say that they come from, in the many ways that people write it."""

from __future__ import annotations

import json
import string
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_assets.sources.origins import host_of, read_origin, site_of

REEF = "https://reef.example/a"


@pytest.mark.parametrize(
    ("written", "pages"),
    [
        (REEF, [REEF]),
        ("http://reef.example/a?b=c#d", ["http://reef.example/a?b=c#d"]),
        ("HTTPS://Reef.EXAMPLE/a", [REEF]),
        ("reef.example/a", [REEF]),
        ("reef.example", ["https://reef.example/"]),
        ("reef.example.", ["https://reef.example/"]),
        ("www.reef.example?x", ["https://www.reef.example/?x"]),
        ("//reef.example/a", [REEF]),
        ("https:/reef.example/a", [REEF]),
        ("https:reef.example/a", [REEF]),
        ("https:////reef.example/a", [REEF]),
        ("https:\\\\reef.example\\a", [REEF]),
        ("reef.example:8080/a", ["https://reef.example:8080/a"]),
        ("https://reef.example:/a", [REEF]),
        ("https://me:word@reef.example:443/a", ["https://reef.example:443/a"]),
        ("ftp://reef.example/a", ["ftp://reef.example/a"]),
        ("<https://reef.example/a>", [REEF]),
        ("< reef.example/a >", [REEF]),
        ("<URL:https://reef.example/a>", [REEF]),
        ('"https://reef.example/a"', [REEF]),
        ("  https://reef.example/a\n", [REEF]),
        ("\ufeffhttps://reef.example/a\u200b", [REEF]),
        ("https://reef.example/my page", ["https://reef.example/my%20page"]),
        ("https://reef.example/50%25?q=%C3%A9", ["https://reef.example/50%25?q=%C3%A9"]),
        ("https://reef%2Eexample/a", [REEF]),
        ("https://zürich.example/ä", ["https://xn--zrich-kva.example/%C3%A4"]),
        ("Zu\u0308rich.example", ["https://xn--zrich-kva.example/"]),
        ("XN--ZRICH-KVA.example", ["https://xn--zrich-kva.example/"]),
        ("https://reef。example/a", [REEF]),
        ("https://straße.example/", ["https://xn--strae-oqa.example/"]),
        ("☕.example", ["https://xn--53h.example/"]),
        ("192.0.2.7/a", ["https://192.0.2.7/a"]),
        ("http://[2001:DB8::7]:80/a", ["http://[2001:db8::7]:80/a"]),
        ("[2001:db8::7]", ["https://[2001:db8::7]/"]),
        ("http://localhost/a", ["http://localhost/a"]),
        (REEF.encode(), [REEF]),
        ([REEF], [REEF]),
        ((REEF, None, "n/a"), [REEF]),
        ([REEF, "atoll.example"], [REEF, "https://atoll.example/"]),
        ([[REEF], REEF], [REEF]),
        ('["https://reef.example/a"]', [REEF]),
        ("['reef.example/a', 'atoll.example']", [REEF, "https://atoll.example/"]),
        (f"{REEF} https://atoll.example/", [REEF, "https://atoll.example/"]),
        (f"{REEF},https://atoll.example/", [REEF, "https://atoll.example/"]),
        (f"{REEF}; //atoll.example/", [REEF, "https://atoll.example/"]),
        ("reef.example/a\natoll.example", [REEF, "https://atoll.example/"]),
        ("reef.example,atoll.example", ["https://reef.example/", "https://atoll.example/"]),
        ("https://reef.example/a,b", ["https://reef.example/a,b"]),
    ],
)
def test_pages_are_understood_however_they_are_written(written: Any, pages: list[str]) -> None:
    origin = read_origin(written)
    assert ([page.url for page in origin.pages], origin.unreadable) == (pages, False)


@pytest.mark.parametrize(
    "written",
    [
        *(None, "", " ", "N/A", "n/a", "None", "NULL", "nan", "-", "Unknown", "<>", "\u200b"),
        *([], [None, ""], float("nan"), "[]", "[null]", '"None"', "['N/A']"),
    ],
)
def test_nothing_known_is_no_origin(written: Any) -> None:
    origin = read_origin(written)
    assert (origin.written, origin.pages, origin.unreadable) == (None, (), False)


@pytest.mark.parametrize(
    "written",
    [
        "https://reef .example/a",
        "https://reef.example /a",
        "https:// reef.example/a",
        "reef.example or so",
        "see the reef",
        "Wikipedia",
        "somebody@reef.example",
        "mailto:somebody@reef.example",
        "urn:isbn:9780000000000",
        "file:///home/me/a.txt",
        "C:\\texts\\a.txt",
        "/a/b",
        "https://",
        "https:///",
        "https://reef..example/",
        "https://.example/",
        "https://-reef.example/",
        "https://reef!.example/",
        "https://reef.example:port/",
        "https://reef.example:70000/",
        "http://[::1/",
        "http://[reef.example]/",
        "https://1.2.3/",
        "https://reef.example:" + "1" * 9999,
        "https://" + "r" * 64 + ".example/",
        "https://" + "reef." * 60 + "example/",
        42,
        True,
        {"url": REEF},
        "{'url': 'reef'}",
        ["see the reef"],
    ],
)
def test_what_cannot_be_read_is_said_to_be_so_and_kept(written: Any) -> None:
    origin = read_origin(written)
    assert (origin.pages, origin.unreadable) == ((), True)
    assert origin.written == (written if isinstance(written, str) else json.dumps(written))


def test_of_a_list_what_can_be_read_counts_beside_what_cannot() -> None:
    origin = read_origin([REEF, "the other one"])
    assert ([page.url for page in origin.pages], origin.unreadable) == ([REEF], True)
    assert origin.written == f'["{REEF}", "the other one"]'
    assert read_origin(origin.written).pages == origin.pages


def nested(depth: int, value: Any) -> Any:
    return value if depth == 0 else [nested(depth - 1, value)]


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "written",
    [
        "[" * 100_000 + "]" * 100_000,
        "<" * 100_000 + ">" * 100_000,
        "a" + " " * 200_000 + "b",
        "a" + ", " * 100_000 + "b",
        "https://" + "a." * 100_000,
        "https://" + "ü" * 20_000 + ".example",
        nested(400, REEF),
        json.dumps(nested(900, REEF)),
    ],
    ids=["brackets", "angles", "blanks", "commas", "labels", "letters", "lists", "json"],
)
def test_what_is_made_to_be_slow_is_unreadable_at_once(written: Any) -> None:
    assert read_origin(written).unreadable


def test_what_no_column_can_hold_is_kept_as_near_as_can_be() -> None:
    assert read_origin("half \ud83d\x00").written == "half ?"
    (page,) = read_origin("https://reef.example/\ud83d").pages
    assert page.url == "https://reef.example/?"


LABEL = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "example"]))
PATH = st.text(string.ascii_letters + "/-_.~", max_size=12)
PORT = st.sampled_from(["", ":80", ":8443"])


@given(HOST, PATH, PORT)
def test_hosts_are_those_of_the_standard_library(host: str, path: str, port: str) -> None:
    url = f"https://{host}{port}/{path}"
    expected = urlsplit(url).hostname
    for written in (url, url.upper(), f"<{url}>", url[6:], url[8:], [url], json.dumps([url])):
        (page,) = read_origin(written).pages
        assert page.host == expected
        assert urlsplit(page.url).hostname == expected
    assert host_of(host) == expected


ODD = st.text(st.characters(categories=["Cs", "L", "P", "Z"]), max_size=20)
LISTED = st.lists(st.text(max_size=10), max_size=3)


@given(st.one_of(ODD, ODD.map("https://{}.example/a".format), st.text(max_size=40), LISTED))
def test_anything_is_read_as_it_is_read_again(written: Any) -> None:
    origin = read_origin(written)
    assert (origin.written is None) == (not origin.pages and not origin.unreadable)
    for page in origin.pages:
        assert host_of(page.url) == page.host
        assert f".{page.host}".endswith(f".{site_of(page.host)}")
    if origin.written is not None:
        again = read_origin(origin.written)
        assert (again.pages, again.unreadable) == (origin.pages, origin.unreadable)


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("www.reef.example", "reef.example"),
        ("reef.example", "reef.example"),
        ("a.b.reef.co.uk", "reef.co.uk"),
        ("coral.github.io", "coral.github.io"),
        ("www.coral.github.io", "coral.github.io"),
        ("github.io", "github.io"),
        ("localhost", "localhost"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("www.xn--zrich-kva.example", "xn--zrich-kva.example"),
    ],
)
def test_a_site_is_what_somebody_can_own(host: str, site: str) -> None:
    assert site_of(host) == site


@pytest.mark.parametrize("url", ["https://https://a.example/x", "http://https://a.example"])
def test_a_scheme_written_twice_is_unreadable(url: str) -> None:
    origin = read_origin(url)
    assert (origin.pages, origin.unreadable) == ((), True)
