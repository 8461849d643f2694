"""Answers that cannot be: never final, whichever engine gives them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from alignment_assets.inference import spool
from alignment_assets.inference.backends.openai.http import EndpointHttp
from alignment_assets.inference.backends.openai.protocol import (
    ServedModel,
    UnusableResponse,
    chat_body,
    read_answer,
)
from alignment_assets.inference.spool import SpoolWriter, read_final, view_answers
from alignment_assets.inference.types import Answer, AnsweredBy, Kind, Request
from tests.support.ids import named, uid

ENGINE = AnsweredBy("fake", "1", "{}")


def request(kind: Kind) -> Request:
    labels = ["1", "2"] if kind == "weigh" else None
    return Request("r", kind, kind, [{"role": "user", "content": "x"}], labels=labels)


def weighed(*logprobs: Any) -> dict[str, Any]:
    top = [{"token": str(label), "logprob": value} for label, value in enumerate(logprobs, 1)]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


def said(content: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": "stop", "message": {"content": content}}]}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("weigh", weighed(0.5, -3.0)),
        ("weigh", weighed(1e300)),
        ("weigh", weighed(10**400)),
        ("weigh", weighed(math.nan)),
        ("weigh", weighed(math.inf)),
        ("weigh", weighed("-0.5")),
        ("weigh", weighed(True)),
        ("weigh", weighed(-0.1, -0.1)),  # 1.8 in all
        ("classify", {"data": [{"probs": [math.nan]}]}),
        ("classify", {"data": [{"probs": [math.inf]}]}),
        ("classify", {"data": [{"probs": ["1"]}]}),
        ("classify", {"data": [{"probs": [False]}]}),
        ("generate", said(0)),
        ("generate", said([])),
        ("generate", said({"text": "fine"})),
        ("generate", {**said("fine"), "usage": {"completion_tokens": -1}}),
        ("generate", {**said("fine"), "usage": 3}),
        ("generate", []),
        ("generate", None),
    ],
)
def test_a_response_that_cannot_be_is_unusable(kind: Kind, body: Any) -> None:
    with pytest.raises(UnusableResponse):
        read_answer(request(kind), json.dumps(body).encode(), 0.1)


@pytest.mark.parametrize("depth", [101, 900, 200_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_response_that_is_nested_too_deep_is_unusable(opening: str, depth: int) -> None:
    closing = "]" if opening == "[" else "}"
    for nested in (opening * depth, opening * depth + "1" + closing * depth):
        with pytest.raises(UnusableResponse):
            read_answer(request("generate"), nested.encode(), 0.1)
    inside = json.dumps(said("fine"))[:-1] + f', "more": {opening * depth}1{closing * depth}}}'
    with pytest.raises(UnusableResponse):
        read_answer(request("generate"), inside.encode(), 0.1)


THOUGHTS = [
    ["<think>", "\n", "1", "?", "</think>", "\n\n", "2", "<|im_end|>"],
    ["no", " 1", "</", "think", ">", " ", "2"],
    ["</think>2", "2"],  # the label has to be a token of its own
]


@pytest.mark.parametrize("tokens", THOUGHTS)
def test_the_label_of_a_judge_that_thinks_is_read_after_its_thoughts(tokens: list[str]) -> None:
    place = tokens.index("2")
    top = [
        [{"token": "1", "logprob": -0.5}, {"token": "2", "logprob": -1.0 if n == place else -3.0}]
        for n in range(len(tokens))
    ]
    content = [
        {"token": token, "top_logprobs": some} for token, some in zip(tokens, top, strict=True)
    ]
    body = {"choices": [{"finish_reason": "length", "logprobs": {"content": content}}]}
    asked = replace(request("weigh"), sampling={"thinking_tokens": 100})
    assert chat_body(asked, ServedModel("judge"))["max_tokens"] == 100
    answer = read_answer(asked, json.dumps(body).encode(), 0.1)
    assert answer.label_logprobs == {"1": -0.5, "2": -1.0}

    del content[place:]
    endless = read_answer(asked, json.dumps(body).encode(), 0.1)
    assert endless.finish_reason == "rejected"
    assert "no label after </think> within 100 tokens; raise thinking_tokens" in str(endless.error)
    # Without the option the first token counts, as ever.
    plain = read_answer(request("weigh"), json.dumps(body).encode(), 0.1)
    assert plain.label_logprobs == {"1": -0.5, "2": -3.0 if place else -1.0}


def test_what_can_be_is_read_to_the_end() -> None:
    assert read_answer(request("weigh"), json.dumps(weighed(0.0)).encode(), 0.1).label_logprobs == {
        "1": 0.0
    }
    rounded = weighed(math.log(0.5), math.log(0.5) + 5e-7, -math.inf)
    answer = read_answer(request("weigh"), json.dumps(rounded).encode(), 0.1)
    assert answer.finish_reason == "stop" and set(answer.label_logprobs or ()) == {"1", "2"}
    # Many brackets side by side are not deep.
    wide = {**said("[" * 5000), "more": [[] for _ in range(5000)]}
    assert read_answer(request("generate"), json.dumps(wide).encode(), 0.1).text == "[" * 5000


IMPOSSIBLE = [
    Answer(uid("r"), "rate", "stop", label_logprobs={"1": 0.5}),
    Answer(uid("r"), "rate", "stop", label_logprobs={"1": 1e300, "2": -1.0}),
    Answer(uid("r"), "rate", "stop", label_logprobs={"1": math.nan}),
    Answer(uid("r"), "rate", "stop", label_logprobs={"1": -0.1, "2": -0.1}),
    Answer(uid("r"), "classify", "stop", value=math.nan),
    Answer(uid("r"), "classify", "stop", value=-math.inf),
]


@pytest.mark.parametrize("answer", IMPOSSIBLE)
def test_no_engine_can_make_an_impossible_answer_final(answer: Answer, tmp_path: Path) -> None:
    with SpoolWriter(tmp_path, ENGINE) as writer:
        kept = writer.add(answer)
        possible = Answer(uid("s"), "rate", "stop", label_logprobs={"1": -0.5})
        assert writer.add(possible) is possible
    assert kept.finish_reason == "failed" and "cannot be" in (kept.error or "")
    assert final(tmp_path) == {"s"}


@pytest.mark.parametrize("answer", IMPOSSIBLE)
def test_an_impossible_answer_of_an_earlier_version_is_asked_again(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "accepted", lambda answer: answer)
    with SpoolWriter(tmp_path, ENGINE) as writer:
        writer.add(answer)
    assert final(tmp_path) == set()
    assert counting(tmp_path) == []

    with SpoolWriter(tmp_path, ENGINE) as writer:
        writer.add(Answer(uid("r"), "rate", "stop", value=1.0))
    assert final(tmp_path) == {"r"}
    assert counting(tmp_path) == [("r", 1.0)]


def final(folder: Path) -> set[str]:
    """Return the requests that need not be asked again."""
    with duckdb.connect() as connection:
        read_final(connection, folder, ["{}"])
        return {named(str(name)) for (name,) in connection.execute("FROM final").fetchall()}


def counting(folder: Path) -> list[tuple[Any, ...]]:
    """Return the answers that rows are made of."""
    with duckdb.connect() as connection:
        view_answers(connection, folder, ["{}"])
        found = connection.execute("SELECT request_id::VARCHAR, value FROM answers").fetchall()
    return [(named(name), value) for name, value in found]


def test_what_servers_say_is_shown_without_the_key_and_control_characters() -> None:
    from alignment_assets.inference.backends.openai.settings import OpenAISettings

    settings = OpenAISettings(urls=["http://127.0.0.1:1/v1"])
    http = EndpointHttp(None, settings, "models.m", "secret")  # type: ignore[arg-type]
    assert http.clean("a secret\x1b[31m\x00 b\nc") == "a ***?[31m? b\nc"
