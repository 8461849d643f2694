"""Which grade a grader's reply gives: that of the last object in it, after all thinking."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from alignment_assets.warehouse import sql_files
from tests.support.ids import uid
from tests.support.tables import new_warehouse


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """A connection with the product's macros."""
    folder: Path = tmp_path_factory.mktemp("grades")
    with new_warehouse(folder).read() as connection:
        yield connection


def graded(connection: duckdb.DuckDBPyConnection, *replies: str | None) -> tuple[object, ...]:
    """Return the grade, how it was read, the reasoning and the attempts of one prompt's replies."""
    asked = [
        {"prompt_id": uid("prompt"), "request_id": uid(str(n)), "attempt": n}
        for n in range(len(replies))
    ]
    said = [
        {"request_id": row["request_id"], "text": reply, "finish_reason": "stop"}
        for row, reply in zip(asked, replies, strict=True)
    ]
    for name, rows, taken in (
        ("requests", asked, "FROM given"),
        ("answers", said, "SELECT * REPLACE (text::VARCHAR AS text) FROM given"),
    ):
        connection.register("given", pa.Table.from_pylist(rows))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {taken}")
        connection.unregister("given")
    query = sql_files.read_sql("assets", "controversy_labels")
    (row,) = connection.execute(
        f"SELECT grade, parsed_as, reasoning, attempts FROM ({query})",
        {"controversy_threshold": 2, "controversy_model": "grader"},
    ).fetchall()
    return row


ONE = '{"reasoning": "Sums have one result.", "classification": "0"}'
OTHER = '{"reasoning": "A draft.", "classification": "3"}'


@pytest.mark.parametrize(
    ("reply", "grade", "parsed_as"),
    [
        (ONE, 0, "json"),
        (f"  \r\n{ONE}\n", 0, "json"),
        ('{"classification": 1, "reasoning": "A number."}', 1, "json"),
        (f"```json\n{ONE}\n```", 0, "last_object"),
        (f"Such as {OTHER}. Mine: {ONE} That is all.", 0, "last_object"),
        (f"{OTHER}\n{ONE}", 0, "last_object"),
        (f'{ONE}\n{{"note": "no grade in here"}}', 0, "last_object"),
        (f'{ONE} {{"reasoning": "Five?", "classification": "5"}}', 0, "last_object"),
        (f"[{OTHER}, {ONE}]", 0, "last_object"),
        (f'{{"answer": {ONE}}}', 0, "last_object"),
        (
            '{"reasoning": "Of {braces}, \\"quotes\\" and }.", "classification": "2"} Done',
            2,
            "last_object",
        ),
        (f'A brace {{ and a "quote, then {ONE}', 0, "last_object"),
        (f"<think>\n{OTHER}? No.\n</think>\n\n{ONE}", 0, "json_after_thinking"),
        (f"{OTHER}? No.</think>{ONE}", 0, "json_after_thinking"),
        (f"<think>{OTHER}</think>So: {ONE}.", 0, "last_object_after_thinking"),
        (f"<think>a</think>{OTHER}<think>b</think>{ONE}", 0, "json_after_thinking"),
        (f"{ONE} <think>{OTHER}", 0, "json_after_thinking"),
        (f'{{"more": {{"a": [{{}}]}}, {ONE[1:]}', 0, "json"),
        (f'So: {{"more": {{"a": {{"b": 1}}}}, {ONE[1:]} Done.', 0, "last_object"),
        (f'So: {ONE[:-1]}, "others": [{OTHER}]}} Done.', 0, "last_object"),
        (f'{ONE} (not {{"classification": "3"}})', 0, "last_object"),
    ],
)
def test_the_last_object_after_all_thinking_gives_the_grade(
    connection: duckdb.DuckDBPyConnection, reply: str, grade: int, parsed_as: str
) -> None:
    assert graded(connection, reply)[:2] == (grade, parsed_as)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        "",
        "2",
        '"2"',
        '{"reasoning": "cut off in the mid',
        '{"reasoning": "No brace after it.", "classification": "2"',
        '"classification": "2"}',
        '{"reasoning": "No such grade.", "classification": "4"}',
        '{"reasoning": "A list.", "classification": ["2"]}',
        '{"reasoning": ["two"], "classification": "2"}',
        "{'reasoning': 'Not JSON.', 'classification': '2'}",
        '{"classification": "2"}',
        '{"reasoning": "x", "draft": {"classification": "0"}, "classification": "3',
        f"<think>{OTHER}",
        f"{OTHER}</think>",
        f"{OTHER}</think> I cannot tell.",
    ],
)
def test_a_reply_without_such_an_object_gives_none(
    connection: duckdb.DuckDBPyConnection, reply: str | None
) -> None:
    assert graded(connection, reply) == (None, "unparsable", None, 1)


def test_the_first_reply_that_parses_counts(connection: duckdb.DuckDBPyConnection) -> None:
    assert graded(connection, "I cannot tell.", ONE) == (0, "json", "Sums have one result.", 2)
    assert graded(connection, OTHER, ONE)[0] == 3


def test_a_reply_of_many_braces_is_read_in_time(connection: duckdb.DuckDBPyConnection) -> None:
    assert graded(connection, "{" * 20_000 + ONE)[0] == 0
