"""JSON of endpoints: what a faster reader and writer refuse is read and written all the same."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from alignment_assets.inference.backends.openai.json_text import read_json, write_json


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "é \u2028 \x00 \U0001f600"}], "seed": 1 << 63},
        {"seed": 1 << 70},
        {"half": "\ud83d"},
        {"none": None, "text": "null", "temperature": 0.1},
        {"temperature": math.inf, "top_p": -0.0},
    ],
)
def test_what_is_written_says_what_pythons_own_writer_says(value: Any) -> None:
    assert json.loads(write_json(value)) == value


def test_a_number_that_is_none_is_no_default() -> None:
    assert write_json({"temperature": math.nan}) == b'{"temperature": NaN}'


@pytest.mark.parametrize(
    "text",
    [b"[-Infinity, 1e999, 0.1]", b'"half \\ud83d"', b'{"a": 1, "a": 2}', b'\xef\xbb\xbf{"a": 1}'],
)
def test_what_python_takes_for_json_is_read(text: bytes) -> None:
    assert read_json(text) == json.loads(text)


@pytest.mark.parametrize("text", [b"", b"{", b"<html>", b'"\xff"', b"{} {}"])
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)
