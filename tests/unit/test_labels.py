"""Labels of people: tasks go to Label Studio by a sample, and come back as what a recipe takes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from alignment_assets.commands.app import app
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.load import find_recipe
from tests.conftest import Graph, changed_recipe

pytestmark = pytest.mark.slow


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["labels", *arguments])


@pytest.fixture
def home(
    materialized: Callable[..., Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Graph:
    """A demo whose prompts can be labelled, where the command looks."""
    graph = materialized()
    monkeypatch.setenv("ALIGNMENT_HOME", str(graph.home))
    monkeypatch.chdir(tmp_path)
    return graph


def tasks(*arguments: str) -> list[dict[str, Any]]:
    result = call("sample", *arguments)
    assert result.exit_code == 0, result.exception
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def labelled(task: dict[str, Any], *annotations: dict[str, Any]) -> dict[str, Any]:
    """Return a task as Label Studio exports it."""
    return {"id": 7, **task, "annotations": list(annotations), "predictions": []}


def says(
    grade: str | None, person: Any, at: str = "2026-03-01T10:00:00.000000Z", **more: Any
) -> dict[str, Any]:
    """Return what a person has submitted, as Label Studio exports it."""
    choice = {"from_name": "grade", "type": "choices", "value": {"choices": [grade]}}
    comment = {"from_name": "why", "type": "textarea", "value": {"text": ["2 of 3"]}}
    result = [comment, choice] if grade is not None else [comment]
    said = {"completed_by": person, "created_at": at, "updated_at": at, "was_cancelled": False}
    return {**said, "result": result, **more}


def test_a_sample_has_its_share_of_each_stratum_and_a_larger_one_has_all_of_it(
    home: Graph,
) -> None:
    everything = home.query(
        "SELECT source, count(DISTINCT prompt_id) FROM licensed_prompts WHERE track = 'graded' "
        "GROUP BY source"
    )
    assert len(everything) > 2
    total = sum(count for _, count in everything)
    some, more = tasks("10"), tasks("20")
    assert [task["data"]["prompt_id"] for task in more[:10]] == [
        task["data"]["prompt_id"] for task in some
    ]
    assert tasks("10") == some
    drawn = Counter(task["data"]["source"] for task in more)
    for source, count in everything:
        assert abs(drawn[source] - 20 * count / total) <= 1, source
    (first,) = tasks("1")
    prompt_id = first["data"]["prompt_id"]
    ((messages,),) = home.query(
        "SELECT any_value(messages) FROM licensed_prompts WHERE prompt_id = $id::UUID",
        {"id": prompt_id},
    )
    assert first["data"]["conversation"] == messages
    assert "four grades" in first["data"]["instruction"]

    result = call("sample", "9999", "--by", "dataset", "-o", "tasks.json")
    assert result.exit_code == 0
    assert f"there are {total} prompts to grade, fewer than 9,999" in result.stderr
    assert len(json.loads(Path("tasks.json").read_text())) == total


def test_what_comes_back_is_what_the_recipe_takes(home: Graph, tmp_path: Path) -> None:
    one, two, three = tasks("3")
    ann, ben = {"id": 1, "email": "ann@lab.example"}, 2
    export = [
        labelled(
            one,
            says("3", ann, "2026-03-01T10:00:00Z"),
            says("1", ann, "2026-03-02T10:00:00+02:00"),  # the last one of ann's
            says("2", ann, "2026-03-01T23:00:00Z"),
            says("1", ben),
        ),
        labelled(two, says("0", ben), says("3", ann, was_cancelled=True)),
        labelled(three, says(None, ben), says("2", None), says("3", None)),
    ]
    Path("export.json").write_text(json.dumps(export))
    result = call("import", "export.json", "-o", "people.csv")
    assert result.exit_code == 0, result.exception
    assert "people.csv: 6 labels of 3 prompts by 3 people" in " ".join(result.stdout.split())
    told = " ".join(result.stderr.split())
    assert "2 earlier submissions of the same person do not count" in told
    assert "1 were skipped or never submitted" in told
    assert "1 say no grade from 0 to 3" in told
    with Path("people.csv").open(newline="") as file:
        rows = [(row["prompt_id"], row["annotator"], row["label"]) for row in csv.DictReader(file)]
    ids = [task["data"]["prompt_id"] for task in (one, two, three)]
    assert sorted(rows) == sorted(
        [
            (ids[0], "2", "1"),
            (ids[0], "ann@lab.example", "1"),
            (ids[1], "2", "0"),
            (ids[2], "2", ""),
            (ids[2], "", "2"),
            (ids[2], "", "3"),
        ]
    )

    columns = {"prompt_id": "prompt_id", "annotator": "annotator", "label": "label"}
    labels = {"dataset": str(tmp_path / "people.csv"), "columns": columns}
    graph = home.with_recipe(changed_recipe({"human_labels": labels}))
    graph.materialize("key:human_labels or key:controversy_agreement")
    assert graph.query(
        "SELECT labelled_prompts, unmatched_prompts, repeated_labels, tied_prompts "
        "FROM controversy_agreement WHERE threshold = 3"
    ) == [(3, 0, 0, 1)]
    assert graph.query("SELECT malformed_reason FROM human_labels WHERE label IS NULL") == [
        ("a label that is not 0 to 3",)
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "gone.json: No such file or directory; name an export of Label Studio"),
        ("not JSON", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"tasks": []}', "is no list of tasks; export the project as JSON"),
        ('[{"id": 1, "prompt_id": "x", "grade": "2"}]', "has no data.prompt_id or no annotations"),
        ('[{"data": {"prompt_id": "x"}, "annotations": []}]', "nobody has labelled a task"),
    ],
)
def test_what_is_no_export_is_told(
    folder_of_its_own: None, content: str | None, message: str
) -> None:
    name = "gone.json" if content is None else "export.json"
    if content is not None:
        Path(name).write_text(content)
    result = call("import", name)
    assert isinstance(result.exception, Expected)
    assert message in str(result.exception)
    assert not Path("human_labels.csv").exists()


def test_without_prompts_the_command_to_run_is_named(folder_of_its_own: None) -> None:
    assert "alignment-assets materialize" in str(call("sample", "5").exception)


def test_ids_people_and_labels_count_in_one_form(folder_of_its_own: None) -> None:
    name = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"

    def task(written: str, *annotations: dict[str, Any]) -> dict[str, Any]:
        return labelled({"data": {"prompt_id": written}}, *annotations)

    odd = [{"value": {"choices": 2}}, 5, {"value": 5}]
    rated = {"result": [{"value": {"rating": 2.0}}]}
    export = [
        task(name, says("0", " ann "), says("1", "ben", **rated), says(None, "dee", result=5)),
        task(name.upper(), says("3", "ann", "2026-03-02T10:00:00Z"), says(None, "cem", result=odd)),
        task("not-an-id", says("1\ud800", "ann")),
    ]
    Path("export.json").write_text(json.dumps(export))
    result = call("import", "export.json", "-o", "my, labels.csv")
    assert result.exit_code == 0, result.exception
    with Path("my, labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["prompt_id"], row["annotator"], row["label"]) for row in csv.DictReader(file)]
    assert rows == [
        *((name, person, label) for person, label in [("ann", "3"), ("ben", "2"), ("cem", "2")]),
        (name, "dee", ""),
        ("not-an-id", "ann", "1?"),
    ]
    told = " ".join(result.stderr.split())
    assert "1 name no prompt by its id" in told and "2 say no grade from 0 to 3" in told
    entry = " ".join(result.stdout.split()).partition("In the recipe: ")[2]
    assert yaml.safe_load(entry)["human_labels"]["dataset"] == str(
        Path("my, labels.csv").absolute()
    )


def test_people_are_told_what_a_grader_is_told_wherever_it_stands(
    home: Graph, tmp_path: Path
) -> None:
    recipe = yaml.safe_load(find_recipe("demo").read_text(encoding="utf-8"))
    recipe["controversy"]["wording"] = "controversy_steps"
    Path("steps.yaml").write_text(yaml.safe_dump(recipe))
    (task,) = tasks("1", "--recipe", "steps.yaml")
    assert "in three steps" in task["data"]["instruction"]
    assert "{prompt}" not in task["data"]["instruction"]
