"""The forms in which people keep conversations: each is read as the same prompt, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_assets.recipe.datasets import PromptSource
from alignment_assets.sources.conversations import prompt_of_conversation, prompt_of_text
from alignment_assets.sources.files import Row, SourceError
from alignment_assets.sources.hints import fitting_entries
from alignment_assets.sources.readers import read_rows
from alignment_assets.sources.rows import source_prompt_row
from alignment_assets.sources.texts import Malformed
from tests.conftest import Graph, changed_recipe
from tests.support.prompt_sources import entry

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Why is it dark at night?"},
    {"role": "assistant", "content": "The sun is below."},
    {"role": "user", "content": "And at noon?\n"},
]
CHAT = [*ASKED, {"role": "assistant", "content": "It is above."}]
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
PLAIN = "list of {role, content}"
Form = Callable[[list[dict[str, str]]], Any]


def plain(chat: list[dict[str, str]]) -> Any:
    return chat


def other_order(chat: list[dict[str, str]]) -> Any:
    return [{"weight": 1, "content": one["content"], "role": one["role"]} for one in chat]


def in_lists(chat: list[dict[str, str]]) -> Any:
    return {key: [one[key] for one in chat] for key in ("content", "role")}


def sharegpt(chat: list[dict[str, str]]) -> Any:
    return [{"from": SPEAKERS[one["role"]], "value": one["content"]} for one in chat]


def sharegpt_in_lists(chat: list[dict[str, str]]) -> Any:
    return {key: [one[key] for one in sharegpt(chat)] for key in ("from", "value")}


def with_parts(chat: list[dict[str, str]]) -> Any:
    return [
        {"role": one["role"], "content": [{"type": "text", "text": one["content"]}]} for one in chat
    ]


def with_unused_keys(chat: list[dict[str, str]]) -> Any:
    return [{**one, "from": None, "value": None, "tool_calls": None} for one in chat]


FORMS: dict[Form, str] = {
    plain: "list of {role, content}",
    other_order: "list of {role, content}",
    with_unused_keys: "list of {role, content}",
    in_lists: "lists in {role, content}",
    sharegpt: "list of {from, value}",
    sharegpt_in_lists: "lists in {from, value}",
    with_parts: "list of {role, content} with parts",
}
every_form = pytest.mark.parametrize(
    ("form", "name"), FORMS.items(), ids=[form.__name__ for form in FORMS]
)


@every_form
def test_a_form_is_read_and_named(form: Form, name: str) -> None:
    assert prompt_of_conversation(form(CHAT)) == (ASKED, name)


@every_form
def test_so_is_its_json_text(form: Form, name: str) -> None:
    text = " " + json.dumps(form(CHAT), indent=1)
    assert prompt_of_conversation(text) == (ASKED, f"JSON text: {name}")


@every_form
def test_so_is_it_in_parquet(tmp_path: Path, form: Form, name: str) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist([{"chosen": form(CHAT), "id": "a"}]), path)
    made = rows_made_of(path)
    assert [(row["messages"], row["read_as"]) for row in made] == [(ASKED, name)]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.map_(pa.string(), pa.string())),
        pa.large_list(
            pa.struct({"content": pa.large_string(), "role": pa.dictionary(pa.int8(), pa.string())})
        ),
        pa.list_(pa.struct({"role": pa.string_view(), "content": pa.string_view()})),
        pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}), len(CHAT)),
    ],
    ids=str,
)
def test_so_are_other_types_of_arrow(tmp_path: Path, kind: pa.DataType) -> None:
    rows = [one.items() if pa.types.is_map(kind.value_type) else one for one in CHAT]
    chosen = pa.array([[list(one) if not isinstance(one, dict) else one for one in rows]], kind)
    pq.write_table(pa.table({"chosen": chosen, "id": ["a"]}), tmp_path / "rows.parquet")
    assert rows_made_of(tmp_path / "rows.parquet")[0]["messages"] == ASKED


def test_so_is_a_saved_dataset_of_objects_in_a_sequence(tmp_path: Path) -> None:
    import datasets

    objects = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    features = datasets.Features(
        {"chosen": datasets.Sequence(objects), "id": datasets.Value("string")}
    )
    rows = [{"chosen": in_lists(CHAT), "id": "a"}]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    assert rows_made_of(tmp_path / "saved")[0]["messages"] == ASKED


@pytest.mark.parametrize(
    ("before", "conversation", "asked", "name"),
    [
        ("Why?", "Because.", [("user", "Why?")], "prompt (text) and text"),
        (
            "Why?",
            [CHAT[-1]],
            [("user", "Why?")],
            "prompt (text) and list of {role, content}",
        ),
        (
            ASKED,
            [CHAT[-1]],
            None,
            "prompt (list of {role, content}) and list of {role, content}",
        ),
        (
            json.dumps(ASKED),
            "It is above.",
            None,
            "prompt (JSON text: list of {role, content}) and text",
        ),
        ("[sic] Why?", "Because.", [("user", "[sic] Why?")], "prompt (text) and text"),
        (
            [{"role": "user", "content": "Why?"}],
            [CHAT[2], {"role": "user", "content": "And then?"}, CHAT[-1]],
            [("user", "Why?"), ("assistant", "The sun is below."), ("user", "And then?")],
            "prompt (list of {role, content}) and list of {role, content}",
        ),
        (
            [{"role": "user", "content": "Why?"}, CHAT[2]],
            [{"role": "user", "content": "And then?"}, CHAT[-1]],
            [("user", "Why?"), ("assistant", "The sun is below."), ("user", "And then?")],
            "prompt (list of {role, content}) and list of {role, content}",
        ),
        # Only the prompt has the system message.
        (ASKED[:2], CHAT[1:3], [(m["role"], m["content"]) for m in ASKED[:2]], PLAIN),
        ("Why?", "[Your name], because.", [("user", "Why?")], "prompt (text) and text"),
        ("Why?", '{"because": 1}', [("user", "Why?")], "prompt (text) and text"),
        # The conversation has the prompt, too.
        ("And at noon?\n", CHAT, None, "list of {role, content}"),
        (ASKED, CHAT, None, "list of {role, content}"),
    ],
)
def test_a_prompt_apart_from_its_answer_comes_before_it(
    before: Any, conversation: Any, asked: list[tuple[str, str]] | None, name: str
) -> None:
    wanted = ASKED if asked is None else [{"role": r, "content": c} for r, c in asked]
    assert prompt_of_conversation(conversation, before) == (wanted, name)


roles = st.sampled_from(("system", "user", "assistant"))
words = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zs")), min_size=1).map("x{}".format)
chats = st.lists(st.builds(lambda r, c: {"role": r, "content": c}, roles, words), max_size=6)


@given(chats)
def test_every_form_gives_the_prompt_that_the_plain_list_gives(chat: list[dict[str, str]]) -> None:
    wanted: Any
    try:
        wanted = [one for one, _ in [prompt_of_conversation(chat)]]
    except Malformed as malformed:
        wanted = malformed.reason
    for form in FORMS:
        if not chat and form in (in_lists, sharegpt_in_lists):
            continue
        for value in (form(chat), json.dumps(form(chat))):
            found: Any
            try:
                found = [one for one, _ in [prompt_of_conversation(value)]]
            except Malformed as malformed:
                found = malformed.reason
            assert found == wanted, form.__name__


@pytest.mark.parametrize(
    ("conversation", "reason"),
    [
        ("Human: hi", "a text, not a conversation"),
        ("[1, 2", "a conversation's JSON text is broken"),
        (5, "not a list of messages"),
        ([[{"role": "user", "content": "x"}], CHAT], "no assistant turn"),
        (
            [{"from": "human", "value": "x"}, {"from": "function", "value": "y"}],
            "no assistant turn",
        ),
        (
            [{"from": "tool", "value": "x"}, {"from": "human", "value": "x"}, *sharegpt(CHAT[-1:])],
            "an unknown role",
        ),
        ([{"role": "user", "content": []}, CHAT[-1]], "no text"),
        (
            [{"role": "user", "content": [{"type": "audio"}]}, CHAT[-1]],
            "a part of a message is no text",
        ),
        ([{"role": "user", "content": " \u200b\n"}, CHAT[-1]], "an empty text"),
        ([{"role": "user", "content": "EMPTY STRING"}, CHAT[-1]], "a placeholder"),
        ([CHAT[0], {"role": "user", "content": "EMPTY STRING"}, CHAT[-1]], "a placeholder"),
    ],
)
def test_what_is_none_of_them_has_its_reason(conversation: Any, reason: str) -> None:
    with pytest.raises(Malformed) as caught:
        prompt_of_conversation(conversation, placeholders=("EMPTY STRING",))
    assert caught.value.reason == reason


def test_a_placeholder_is_no_prompt_but_may_answer_a_question() -> None:
    given = changed_recipe().placeholders
    for text in ("EMPTY STRING", "n/a", " None\n", "NULL", "-"):
        with pytest.raises(Malformed, match="a placeholder"):
            prompt_of_text(text, given)
    for text in ("- a list", "None of them?", "null and void", "--"):
        assert prompt_of_text(text, given)[0]["content"] == text
    later = [*CHAT, {"role": "user", "content": "None"}, CHAT[-1]]
    assert prompt_of_conversation(later, placeholders=given)[0][-1]["content"] == "None"


# -- a source of which nothing can be read ---------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "entries"),
    [
        ({"id": "a", "messages": CHAT}, ["form: conversation, columns: {conversation: messages}"]),
        (
            {"prompt": "Why?", "chosen": [CHAT[-1]], "score": 1},
            ["form: conversation, columns: {prompt: prompt, conversation: chosen}"],
        ),
        ({"id": "a1", "question": "Why?"}, ["form: text, columns: {prompt: question}"]),
        ({"number": 5}, []),
    ],
)
def test_a_row_tells_which_entry_would_fit(row: dict[str, Any], entries: list[str]) -> None:
    assert fitting_entries(row) == entries


def test_a_source_of_which_nothing_can_be_read_stops_and_the_old_rows_stay(
    graph: Graph, tmp_path: Path
) -> None:
    path = tmp_path / "mix.jsonl"
    good, bad = {"id": "a", "chosen": CHAT}, {"id": "a", "chosen": "x\x1b[2J", "chat": CHAT}
    mine = {**entry("preference_mix"), "name": "mine", "dataset": str(path), "columns": {
        "conversation": "chosen", "upstream_id": "id"}}  # fmt: skip
    graph = graph.with_recipe(changed_recipe({"prompts": [mine]}))
    path.write_text(json.dumps(good) + "\n")
    graph.materialize("key:source_prompts")
    path.write_text((json.dumps(bad) + "\n") * 3)
    with pytest.raises(SourceError) as caught:
        graph.materialize("key:source_prompts")
    message = str(caught.value)
    assert message.startswith(f"prompts.mine ({path}): none of its 3 rows can be read as form")
    assert "3 × a text, not a conversation" in message
    assert "The first row is {id: a, chosen: x\\x1b[2J, chat: [{'role': 'system'" in message
    assert "What fits it: form: conversation, columns: {conversation: chat}" in message
    assert graph.query("SELECT count(*), count(messages) FROM source_prompts") == [(1, 1)]


def rows_made_of(path: Path) -> list[dict[str, Any]]:
    columns = {"conversation": "chosen", "upstream_id": "id"}
    source = PromptSource(
        name="mix", dataset=str(path), form="conversation", track="standard", columns=columns
    )
    rows = read_rows("prompts.mix", source, changed_recipe())
    return [source_prompt_row(source, number, row) for number, row in enumerate(rows)]


def test_a_prompt_that_its_conversation_contradicts_is_malformed() -> None:
    with pytest.raises(Malformed, match="contradicts"):
        prompt_of_conversation([{"role": "user", "content": "Who?"}, CHAT[-1]], "Why?")


@pytest.mark.parametrize("empty", ["", " \n", None])
def test_an_empty_system_message_is_none(empty: str | None) -> None:
    chat = [{"from": "system", "value": empty}, *sharegpt(CHAT[1:])]
    assert prompt_of_conversation(chat)[0] == ASKED[1:]


@pytest.mark.parametrize(
    ("columns", "configs", "origin", "told", "language"),
    [
        ({"language": "lang"}, (), "file", "de", "de"),
        ({"language": "lang"}, (), "file", " pt-BR ", "pt-BR"),
        ({"language": "lang"}, ("wildchat-de",), "wildchat-de", None, "und"),
        ({"language": "lang"}, (), "file", "", "und"),
        ({}, ("wildchat-de",), "wildchat-de", None, "de"),
        ({}, ("conversations",), "conversations", None, "und"),
        ({}, ("split-all",), "split-all", None, "und"),
        ({}, (), "chats-de", None, "und"),  # a file's name says nothing
    ],
)
def test_a_prompts_language_is_what_its_source_says(
    columns: dict[str, str], configs: tuple[str, ...], origin: str, told: Any, language: str
) -> None:
    source = PromptSource(
        name="mix",
        dataset="hf:owner/name",
        configs=configs,
        form="text",
        track="standard",
        columns={"prompt": "prompt", **columns},
    )
    row = source_prompt_row(source, 0, Row({"prompt": "Warum?", "language": told}, origin))
    assert (row["language"], row["extra"]) == (language, None)
