"""The normal form of texts: in Python and in SQL the same, and what it takes for one text."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_assets.host.shown import ascii_controls
from alignment_assets.sources.texts import normal_text
from tests.support.tables import new_warehouse
from tests.support.texts import plain_normal, plain_normal_hash

# What the form is about comes often.
ODD = (
    "a\u00e9e\u0301 \t\n\r\x0b\x1c\x85\u00a0\u2003\u3000"
    "\u200b\u200d\ufeff\u00ad\x00\x07\u2800\ufe0f"
)
texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=("Cs",))))


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the product's macros."""
    with new_warehouse(tmp_path_factory.mktemp("texts")).read() as connection:
        yield connection


@given(texts)
def test_the_normal_form_is_the_plain_one(text: str) -> None:
    assert normal_text(text) == plain_normal(text)
    assert normal_text(normal_text(text)) == normal_text(text)


def test_sql_has_the_same_normal_form_for_every_character(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    characters = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    around = [f"e{one} {one}x" for one in characters]
    (found,) = connection.execute(
        "SELECT list(normal_text(text)) FROM (SELECT unnest($texts) AS text)", {"texts": around}
    ).fetchone() or ([],)
    assert found == [plain_normal(text) for text in around]
    assert found == [normal_text(text) for text in around]


@given(st.lists(texts, min_size=1, max_size=20))
def test_sql_has_the_same_normal_form_and_hash(
    connection: duckdb.DuckDBPyConnection, some: list[str]
) -> None:
    some = [text.replace("\x00", "") for text in some]
    (forms, hashes) = connection.execute(
        "SELECT list(normal_text(text)), list(normal_hash(text)) "
        "FROM (SELECT unnest($texts) AS text)",
        {"texts": some},
    ).fetchone() or ([], [])
    assert forms == [plain_normal(text) for text in some]
    assert hashes == [plain_normal_hash(text) for text in some]


@pytest.mark.parametrize(
    "text", ["", " ", "\n\n", "\t\r\n", "\u200b", " \u200b\u2060\n", "\ufeff", "\u00ad", "\x00\x07"]
)
def test_what_shows_nothing_is_empty(text: str) -> None:
    assert normal_text(text) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Seven.", "Seven.\n"),
        ("Seven is odd.", "  Seven \t is\u00a0odd. "),
        ("Seven\n\nis odd.", "Seven is odd."),
        ("caf\u00e9", "cafe\u0301"),
        ("soft", "so\u00adft"),
        ("join", "jo\u200din"),
        ("e\u200b\u0301", "\u00e9"),
        ("bell", "be\x07ll"),
    ],
)
def test_texts_that_look_alike_are_one(one: str, other: str) -> None:
    assert normal_text(one) == normal_text(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Seven", "seven"), ("a b", "ab"), ("ﬁ", "fi"), ("7", "７"), ("a-b", "a–b")]
)
def test_texts_that_look_otherwise_are_two(one: str, other: str) -> None:
    assert normal_text(one) != normal_text(other)


def test_controls_are_shown_as_escapes() -> None:
    assert ascii_controls("a\x1b[2J\n\u202eb\ud83d é") == "a\\x1b[2J\\n\\u202eb\\ud83d é"
