"""Prompt texts: the package's own, and a lab's that stand in for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.recipe.load import RecipeError, find_recipe, load_recipe
from alignment_assets.recipe.wordings import read_wordings
from tests.conftest import changed_recipe


@pytest.fixture
def own_wordings(tmp_path: Path) -> Path:
    """A copy of the package's prompt texts, as a lab starts its own from."""
    return shutil.copytree(changed_recipe().wordings_folder, tmp_path / "wordings")


def refusal(folder: Path, changes: dict[str, Any] | None = None) -> str:
    """Return the message with which a recipe is refused that takes its texts from the folder."""
    with pytest.raises(RecipeError) as caught:
        changed_recipe({"wordings": str(folder), **(changes or {})})
    message = str(caught.value)
    assert message.startswith(str(find_recipe("demo")))
    return message


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("principles.yaml", {}),
        ("persona.txt", {}),
        ("charter.md", {}),
        ("charter_persona.txt", {"completions.controversial_variants": ["persona"]}),
        ("judge_helpfulness_system.txt", {}),
        ("our_rubric.txt", {"rewards.standard.rubric": "our_rubric"}),
    ],
)
def test_a_missing_wording_is_refused_by_its_file(
    own_wordings: Path, file: str, changes: dict[str, Any]
) -> None:
    (own_wordings / file).unlink(missing_ok=True)
    assert f"wordings: no file {own_wordings / file}" in refusal(own_wordings, changes)


def test_a_wording_that_no_variant_uses_may_be_missing(own_wordings: Path) -> None:
    for file in ("principles.yaml", "persona.txt"):
        (own_wordings / file).unlink()
    changes = {
        "wordings": str(own_wordings),
        "completions.standard_variants": ["default"],
        "completions.controversial_variants": ["charter"],
    }
    kinds = {row["kind"] for row in read_wordings(changed_recipe(changes))}
    assert "charter_persona" in kinds
    assert not kinds & {"principle", "persona"}


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "persona.txt",
            "You are somebody.",
            "has the placeholders [], needs ['persona'] and may have ['charter']: put in what is",
        ),
        (
            "judge_question.txt",
            "{completion} to {user_prompt}",
            "has the placeholders ['completion', 'user_prompt'], needs ['completion', 'prompt'] "
            "and may have ['charter']: rename them, or say in the recipe wordings_placeholders: "
            "{user_prompt: prompt}; rewards.judge_sees_question says",
        ),
        ("judge_question.txt", "{completion}", "rewards.judge_sees_question says whether"),
        ("judge_charter_system.txt", "{charter} {reply}", "['charter', 'reply'], needs []"),
        ("compare_question.txt", "{prompt} {first} { second }", "'{ second }' is no placeholder"),
        ("controversy_question.txt", "{prompt} {0}", "'{0}' is no placeholder"),
        ("controversy_question.txt", "{prompt} {} {x.y}", "'{}' is no placeholder"),
        ("controversy_question.txt", "{prompt!r} {prompt}", "'{prompt!r}' is no placeholder"),
        ("controversy_question.txt", "", "needs ['prompt']"),
        ("charter.md", "Be {adjective}.", "takes no placeholders"),
        ("principles.yaml", "helpful: [Help.]", "helpful, honest, truthful"),
        ("principles.yaml", "helpful: []\nhonest: [a]\ntruthful: [b]", "at least one"),
        ("principles.yaml", "helpful: [", "not YAML"),
    ],
)
def test_a_wording_that_cannot_serve_is_refused_by_its_file(
    own_wordings: Path, file: str, text: str, said: str
) -> None:
    (own_wordings / file).write_text(text, encoding="utf-8")
    message = refusal(own_wordings)
    assert str(own_wordings / file) in message
    assert said in message


def test_a_wordings_file_in_another_encoding_is_refused_by_its_name(own_wordings: Path) -> None:
    (own_wordings / "persona.txt").write_bytes("Vous êtes {persona}.".encode("latin-1"))
    message = refusal(own_wordings)
    assert str(own_wordings / "persona.txt") in message
    assert "UTF-8" in message


def test_wordings_that_are_no_folder_are_refused(own_wordings: Path) -> None:
    assert "wordings: no file" in refusal(own_wordings / "persona.txt")


def test_there_are_eleven_wordings_of_each_principle_and_all_differ() -> None:
    rows = [row for row in read_wordings(load_recipe("apertus")) if row["kind"] == "principle"]
    names = [(row["principle"], row["number"]) for row in rows]
    assert names == [(p, n) for p in ("helpful", "honest", "truthful") for n in range(11)]
    assert len({row["text"] for row in rows}) == 33


def texts_of(folder: Path, changes: dict[str, Any] | None = None) -> dict[str, str]:
    recipe = changed_recipe({"wordings": str(folder), **(changes or {})})
    return {row["wording_id"]: row["text"] for row in read_wordings(recipe)}


def test_an_instruction_may_stand_in_one_user_message(own_wordings: Path) -> None:
    for name in ("controversy_system", "compare_charter_system", "judge_charter_system"):
        (own_wordings / f"{name}.txt").write_text("\n")
    (own_wordings / "charter.md").write_text("Be kind.")
    (own_wordings / "compare_question.txt").write_text(
        'By this: {charter}\n{second} or {first}? For {prompt}. Say {"better": "A"}.'
    )
    texts = texts_of(own_wordings)
    assert texts["controversy_system"] == texts["compare_charter_system"] == ""
    assert texts["compare_question"] == (
        'By this: Be kind.\n{second} or {first}? For {prompt}. Say {"better": "A"}.'
    )


def test_a_judge_need_not_see_the_question(own_wordings: Path) -> None:
    hidden = {"rewards.judge_sees_question": False}
    (own_wordings / "judge_question.txt").write_text("{completion}")
    (own_wordings / "compare_question.txt").write_text("{first} {second}")
    assert texts_of(own_wordings, hidden)["compare_question"] == "{first} {second}"
    assert "needs ['first', 'prompt', 'second']" in refusal(own_wordings)
    (own_wordings / "judge_question.txt").write_text("{prompt} {completion}")
    assert "needs ['completion'] and" in refusal(own_wordings, hidden)


def test_placeholders_may_have_names_of_their_author(own_wordings: Path) -> None:
    (own_wordings / "judge_question.txt").write_text("{user_prompt} {assistant_Response2}")
    names = {"user_prompt": "prompt", "assistant_Response2": "completion"}
    texts = texts_of(own_wordings, {"wordings_placeholders": names})
    assert texts["judge_question"] == "{prompt} {completion}"


def test_doubled_braces_are_sent_as_single_ones(own_wordings: Path) -> None:
    path = own_wordings / "controversy_question.txt"
    path.write_text('{prompt} Answer {{"reasoning": {{}}, "classification": "{{0}}"}}')
    assert texts_of(own_wordings)["controversy_question"] == (
        '{prompt} Answer {"reasoning": {}, "classification": "{0}"}'
    )
    path.write_text("{{{prompt}}} {{x}}")
    assert texts_of(own_wordings)["controversy_question"] == "{{prompt}} {x}"
    path.write_text("{prompt} {{x}} {y }")
    assert "'{y }' is no placeholder" in refusal(own_wordings)
