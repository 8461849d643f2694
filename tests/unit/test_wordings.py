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
        ("persona.txt", "You are somebody.", "needs the markers ['persona']"),
        ("judge_question.txt", "{completion} to {prompt}", "['prompt', 'completion'] in this"),
        ("judge_charter_system.txt", "{charter} {reply}", "needs the markers ['charter']"),
        ("charter.md", "Be {adjective}.", "takes no markers"),
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
