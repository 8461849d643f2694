"""What is asked is what is named: no answer is kept under a name that it was not asked under."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.inference.spool import EMPTY_FILE
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.moved import MovedError
from alignment_assets.warehouse.lineage import InconsistentError
from tests.conftest import Graph, changed_recipe

MODEL = "smollm2-135m"
COMPLETIONS = "key:completions", MODEL


@pytest.fixture
def prepared(materialized: Callable[..., Graph]) -> Graph:
    """All that completions need."""
    return materialized("+key:completion_requests")


def with_wordings(folder: Path) -> Recipe:
    """Return the demo recipe with another text for personas."""
    shutil.copytree(changed_recipe().wordings_folder, folder)
    persona = folder / "persona.txt"
    persona.write_text(persona.read_text() + "\nBe brief.")
    return changed_recipe({"wordings": str(folder)})


def changed_models(**values: Any) -> Recipe:
    models = changed_recipe().model_dump(mode="json")["models"]
    models[MODEL] |= values
    return changed_recipe({"models": models})


def refusal(graph: Graph) -> str:
    """Return why completions are not made, when nothing is asked."""
    before = len(graph.asked())
    with pytest.raises(MovedError) as refused:
        graph.materialize(*COMPLETIONS)
    assert len(graph.asked()) == before
    answers = (graph.run.spool / "completions").glob("*/*.parquet")
    assert {file.name for file in answers} <= {EMPTY_FILE}
    message = str(refused.value)
    assert f"Materialize completion_requests[{MODEL}] first" in message
    return message


@pytest.mark.parametrize(
    "recipe",
    [
        changed_recipe({"template_date": "2031-01-01"}),
        changed_models(chat_template_arguments={"enable_thinking": False}),
    ],
)
def test_a_model_that_answers_otherwise_now_is_not_asked(recipe: Recipe, prepared: Graph) -> None:
    changed = prepared.with_recipe(recipe)
    assert "template arguments or template_date" in refusal(changed)
    changed.materialize("key:completion_requests", MODEL)
    changed.materialize(*COMPLETIONS)
    theirs = {request["request_id"] for request in changed.asked()}
    # With the recipe as it was, none of these answers counts.
    prepared.materialize("key:completion_requests", MODEL)
    ((count,),) = prepared.query(
        "SELECT count(*) FROM completion_requests WHERE model = $model", {"model": MODEL}
    )
    prepared.materialize(*COMPLETIONS)
    asked = {request["request_id"] for request in prepared.asked()} - theirs
    assert len(asked) == count > 0


def test_a_wording_that_was_made_again_is_not_put_under_the_old_name(
    prepared: Graph, tmp_path: Path
) -> None:
    changed = prepared.with_recipe(with_wordings(tmp_path / "wordings"))
    changed.materialize("key:wordings")
    before = len(changed.asked())
    with pytest.raises(InconsistentError, match="made of other rows of wordings"):
        changed.materialize(*COMPLETIONS)
    assert len(changed.asked()) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE alignment_prompts SET messages_hash = 'another'", "a prompt's messages"),
        (
            "UPDATE alignment_prompts SET prompt_id = md5(prompt_id::VARCHAR)::UUID",
            "no longer among alignment_prompts",
        ),
        ("UPDATE personas SET persona_id = md5(persona_id::VARCHAR)::UUID", "a persona"),
    ],
)
def test_rows_that_changed_since_are_named(change: str, reason: str, prepared: Graph) -> None:
    with prepared.warehouse.get_connection() as connection:
        connection.execute(change)
    assert reason in refusal(prepared)


def test_what_is_answered_already_bars_nothing(prepared: Graph) -> None:
    prepared.materialize(*COMPLETIONS)
    asked = len(prepared.asked())
    changed = prepared.with_recipe(changed_recipe({"template_date": "2031-01-01"}))
    changed.materialize(*COMPLETIONS)
    assert len(changed.asked()) == asked
