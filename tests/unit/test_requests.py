"""What engines are asked: which questions share a name, how draws fall, and what a model reads."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.recipe.wordings import read_wordings
from alignment_assets.sources.conversations import Message, as_id, messages_hash, prompt_hash
from tests.support.request_database import (
    ASKED,
    CHATS,
    COOL,
    MODEL,
    POLICY,
    SEVERAL_TURNS,
    Asked,
    Rows,
    one_turn,
)

TRANSCRIPT = "SYSTEM: Be brief.\n\nUSER: May one lie?\n\nASSISTANT: Seldom.\n\nUSER: When?"


def prompt_id(messages: list[Message]) -> str:
    return as_id(prompt_hash(messages))


def changed(before: Rows, after: Rows) -> set[str]:
    """Return the rows in both whose question has another name."""
    return {
        n for n in before.keys() & after.keys() if before[n]["request_id"] != after[n]["request_id"]
    }


def own_wordings(folder: Path, file: str, old: str, new: str) -> str:
    """Copy the package's texts with one changed, and return the folder."""
    copied = shutil.copytree(ASKED.recipe.wordings_folder, folder / "wordings")
    text = (copied / file).read_text("utf-8")
    assert old in text
    (copied / file).write_text(text.replace(old, new), "utf-8")
    return str(copied)


# -- what a request's name depends on --------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"completions.sampling.temperature": 0.9},
        {"completions.sampling.max_tokens": 49},
        {"completions.sampling.min_p": 0.1},
        {f"models.{MODEL}.temperature": 0.7},
        {"template_date": "2025-09-03"},
        {f"models.{MODEL}.chat_template_arguments": {"enable_thinking": False}},
        {f"models.{MODEL}.chat_template": "demo/README.md"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_question_changes_with_the_model_or_its_sampling(changes: dict[str, Any]) -> None:
    before, after = ASKED.requests(), ASKED.having(changes).requests()
    assert before.keys() == after.keys()  # the rows keep their names
    assert changed(before, after) == before.keys()


def test_every_question_changes_with_the_models_revision() -> None:
    before, after = ASKED.requests(), replace(ASKED, revision="commit-2").requests()
    assert before.keys() == after.keys() == changed(before, after)


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "another"},
        {"completions.models": [MODEL, COOL, "smollm2-135m-judge"]},
        {"completions.models": [MODEL], "rewards.comparison_judge": COOL},
        {"completions.policies": ["smollm2-135m-judge", POLICY]},
        {"controversy.reasoning_characters": 99, "controversy.attempts": 9},
        {"models.smollm2-135m.backend": {"vllm": {"max_num_seqs": 8, "gpus": 2}}},
        {"rewards.compared_candidates": 3, "selection.pairs_per_prompt": 2, "limit": 7},
    ],
    ids=str,
)
def test_no_question_changes_with_what_it_does_not_contain(changes: dict[str, Any]) -> None:
    assert ASKED.having(changes).requests() == ASKED.requests()


@pytest.mark.parametrize(
    ("file", "old", "new", "touched"),
    [
        ("persona.txt", "You are the person", "Be the person", "persona"),
        ("charter.md", "Fairness", "Evenness", "charter_persona"),
        ("charter_persona.txt", "lives by", "keeps", "charter_persona"),
        ("principles.yaml", "You are a helpful assistant.", "Help.", "principle/helpful/00"),
    ],
)
def test_a_changed_wording_changes_exactly_its_own_questions(
    tmp_path: Path, file: str, old: str, new: str, touched: str
) -> None:
    chats = [("standard", one_turn(f"question {n}")) for n in range(300)] + [*CHATS]
    before = replace(ASKED, chats=chats)
    wordings = own_wordings(tmp_path, file, old, new)
    after = before.having({"wordings": wordings})
    after = replace(after, chats=chats)
    rows = before.requests()
    wanted = {name for name, row in rows.items() if row["wording_id"] == touched}
    assert wanted
    assert changed(rows, after.requests()) == wanted


@pytest.mark.parametrize("personas", [4, 9, 10])
def test_a_question_changes_exactly_where_the_persona_does(personas: int) -> None:
    before = ASKED.requests()
    texts = [*ASKED.personas[:8], *(f"A sailor of {n} seas." for n in range(2))][:personas]
    after = replace(ASKED, personas=texts).requests()
    moved = {name for name in before if before[name]["messages"] != after[name]["messages"]}
    assert changed(before, after) == moved
    assert 0 < len(moved) <= sum(row["variant"] == "persona" for row in before.values())


def test_white_space_in_a_prompt_changes_its_questions_and_not_its_rows() -> None:
    before = ASKED.requests()
    chats = [(track, one_turn("What is 3 + 3?") if "3 + 3" in str(m) else m) for track, m in CHATS]
    after = replace(ASKED, chats=chats).requests()
    assert before.keys() == after.keys()
    assert {after[name]["messages"][-1]["content"] for name in changed(before, after)} == {
        "What is 3 + 3?"
    }


def test_neither_order_nor_threads_nor_the_other_prompts_matter() -> None:
    before = ASKED.requests()
    turned = replace(ASKED, chats=CHATS[::-1], personas=ASKED.personas[::-1] + ASKED.personas[:3])
    assert turned.database(MODEL, threads=1).requests(MODEL) == before
    fewer = replace(ASKED, chats=CHATS[::3]).requests()
    assert fewer.items() <= before.items() and len(fewer) < len(before) / 2


def test_more_reference_completions_leave_the_first_ones_as_they_are() -> None:
    before = ASKED.requests(POLICY)
    after = ASKED.having({"completions.reference_completions": 6}).requests(POLICY)
    assert before.items() < after.items()
    assert (len(before), len(after)) == (4 * len(CHATS), 6 * len(CHATS))
    assert {row["variant"] for row in after.values()} == {"reference"}


def test_two_models_never_share_a_question() -> None:
    database = ASKED.database(MODEL, COOL, POLICY)
    names = [
        row["request_id"] for m in (MODEL, COOL, POLICY) for row in database.requests(m).values()
    ]
    assert len(set(names)) == len(names)


def test_grades_are_asked_anew_when_their_question_changes(tmp_path: Path) -> None:
    database = ASKED.database()
    before = database.grades()
    assert len(before) == len(CHATS)
    assert changed(before, database.grades(attempt=1)) == before.keys()
    for changes in (
        {"controversy.reasoning_characters": 200},  # the answer's schema
        {"controversy.sampling.temperature": 0.5},
        {"template_date": "2025-01-01"},
        {"wordings": own_wordings(tmp_path, "controversy_system.txt", "four grades", "4 grades")},
        {"controversy.wording": "controversy_steps"},
    ):
        after = ASKED.having(changes).database().grades()
        assert changed(before, after) == before.keys() == after.keys()
    for same in (
        replace(ASKED, chats=CHATS[::-1]),
        ASKED.having({"completions.sampling.temperature": 0.1, "controversy.threshold": 1}),
        replace(ASKED, personas=["Somebody else."]),
    ):
        assert same.database().grades() == before
    some = sorted(before)[:5]
    assert database.grades(only=some) == {name: before[name] for name in some}


def test_ratings_are_asked_anew_when_answer_or_rubric_changes(tmp_path: Path) -> None:
    def rated(asked: Asked, rubric: str = "judge_charter_system", ending: str = "") -> Rows:
        database = asked.database(MODEL)
        database.answer(MODEL, ending)
        return database.ratings("controversial", rubric)

    before = rated(ASKED)
    assert len(before) == 2 * 21
    assert changed(before, rated(ASKED, ending="!")) == before.keys()
    assert changed(before, rated(ASKED, "judge_helpfulness_system")) == before.keys()
    wordings = own_wordings(tmp_path, "judge_question.txt", "Your rating", "The rating")
    assert changed(before, rated(ASKED.having({"wordings": wordings}))) == before.keys()
    # Another temperature that gives the same text asks the scorer nothing new.
    assert rated(ASKED.having({"completions.sampling.temperature": 0.2})) == before


# -- draws -----------------------------------------------------------------------------------------


def unevenness(drawn: Counter[Any], choices: int) -> float:
    """Return chi-square against equal shares."""
    expected = drawn.total() / choices
    missing = choices - len(drawn)
    return sum((n - expected) ** 2 / expected for n in drawn.values()) + missing * expected


@pytest.mark.slow
def test_principles_wordings_and_personas_are_drawn_evenly_and_by_the_seed() -> None:
    chats = [("standard", one_turn(f"question {n}")) for n in range(4000)]
    chats += [("controversial", one_turn(f"issue {n}")) for n in range(2000)]
    asked = replace(ASKED, chats=chats)
    rows = asked.requests()
    ruled = {name: row for name, row in rows.items() if row["variant"] == "principle"}
    assert len(ruled) == 4000
    # The bounds are those that one even draw in a thousand exceeds.
    principles = Counter(row["principle"] for row in ruled.values())
    assert unevenness(principles, 3) < 13.8
    for principle in ("helpful", "honest", "truthful"):
        of_it = [row["wording_id"] for row in ruled.values() if row["principle"] == principle]
        assert all(wording.startswith(f"principle/{principle}/") for wording in of_it)
        assert unevenness(Counter(of_it), 11) < 29.6
    personas = Counter(row["persona_id"] for row in rows.values() if row["variant"] == "persona")
    assert unevenness(personas, 9) < 26.1

    reseeded = asked.having({"seed": 1})
    other = replace(reseeded, chats=chats).requests()
    assert other.keys() == rows.keys()
    same = sum(other[name]["wording_id"] == row["wording_id"] for name, row in ruled.items())
    assert same < 4000 / 33 * 1.5
    assert changed(rows, other) == {n for n in rows if rows[n]["messages"] != other[n]["messages"]}

    # Another model's draws are its own, the wording's as much as the principle's.
    cool = {row["prompt_id"]: row for row in asked.requests(COOL).values() if row["principle"]}
    for column, choices in (("principle", 3), ("wording_id", 33)):
        pairs = [(row[column], cool[row["prompt_id"]][column]) for row in ruled.values()]
        agreeing = sum(mine == its for mine, its in pairs)
        assert 0.7 / choices < agreeing / 4000 < 1.4 / choices


# -- what is read ----------------------------------------------------------------------------------


def test_each_variant_puts_its_system_prompt_before_the_prompts_own() -> None:
    texts = {row["wording_id"]: row["text"] for row in read_wordings(ASKED.recipe)}
    personas = {
        as_id(messages_hash([{"role": "persona", "content": t}])): t for t in ASKED.personas
    }
    for model in (MODEL, COOL, POLICY):
        for row in ASKED.requests(model).values():
            ours = texts.get(row["wording_id"])
            if row["variant"] == "persona":
                ours = texts["persona"].replace("{persona}", personas[row["persona_id"]])
            prompt = next(m for _, m in CHATS if prompt_id(m) == row["prompt_id"])
            own = prompt[0]["content"] if prompt[0]["role"] == "system" else None
            system = "\n\n".join(text for text in (ours, own) if text)
            wanted = [{"role": "system", "content": system}] if system else []
            assert row["messages"] == [*wanted, *(m for m in prompt if m["role"] != "system")]
            assert (ours is None) == (row["variant"] in ("default", "reference"))


def test_standard_prompts_get_the_charter_from_the_charter_model_alone() -> None:
    def counted(model: str) -> Counter[tuple[str, str]]:
        return Counter((row["track"], row["variant"]) for row in ASKED.requests(model).values())

    usual = {
        **dict.fromkeys([("standard", "default"), ("standard", "principle")], 21),
        **dict.fromkeys([("controversial", "persona"), ("controversial", "charter")], 21),
    }
    assert counted(COOL) == usual
    assert counted(MODEL) == {**usual, ("standard", "charter"): 21}
    assert counted(POLICY) == {("standard", "reference"): 84, ("controversial", "reference"): 84}


def test_judges_read_a_transcript_and_reward_models_the_conversation() -> None:
    database = ASKED.database(MODEL, POLICY)
    for model in (MODEL, POLICY):
        database.answer(model)
    prompts = {prompt_id(messages): messages for _, messages in CHATS}
    asked = database.requests(MODEL)
    texts = {row["wording_id"]: row["text"] for row in read_wordings(ASKED.recipe)}
    several = prompt_id(SEVERAL_TURNS)
    shown = {name: messages[0]["content"] for name, messages in prompts.items()}
    shown[several] = TRANSCRIPT

    ratings = database.ratings("controversial", "judge_charter_system")
    assert several in {asked[name]["prompt_id"] for name in ratings}
    for name, row in ratings.items():
        question = texts["judge_question"].replace("{completion}", f"{asked[name]['variant']} 0")
        assert row["messages"] == [
            {"role": "system", "content": texts["judge_charter_system"]},
            {
                "role": "user",
                "content": question.replace("{prompt}", shown[asked[name]["prompt_id"]]),
            },
        ]
    for name, row in database.ratings("standard", "", "rewards/classify").items():
        answer = {"role": "assistant", "content": f"{asked[name]['variant']} 0"}
        assert row["messages"] == [*prompts[asked[name]["prompt_id"]], answer]
    system, question = database.grades()[several]["messages"]
    assert system["content"] == texts["controversy_system"]
    assert question["content"] == texts["controversy_question"].replace("{prompt}", TRANSCRIPT)

    settings = {
        **database.settings(MODEL),
        "policy": POLICY,
        "judge_fingerprint": "f",
        "thinking": None,
    }
    compared = database.run("requests", "judge_comparisons/compare", settings)
    assert len(compared) == 21 * 20
    about = [row for row in compared if row["prompt_id"] == several]
    said = {
        name: f"{row['variant']} {row['sample_index']}"
        for model in (MODEL, POLICY)
        for name, row in database.requests(model).items()
    }
    for row in about:
        parts = {"prompt": TRANSCRIPT, "first": said[row["first_completion_id"]]}
        parts["second"] = said[row["second_completion_id"]]
        question = texts["compare_question"]
        for marker, text in parts.items():
            question = question.replace(f"{{{marker}}}", text)
        assert row["messages"][1] == {"role": "user", "content": question}
    presented = {(row["first_completion_id"], row["second_completion_id"]) for row in about}
    assert len(presented) == 20 and {(b, a) for a, b in presented} == presented
