"""How far grades and people agree, against numbers worked out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from dagster import ExecuteInProcessResult

from alignment_assets.sources.conversations import as_id, prompt_hash
from tests.conftest import Graph
from tests.support.prompt_sources import GRADED, READ, RULED, on_sources, row


def bounded(results: list[ExecuteInProcessResult]) -> list[tuple[bool, str]]:
    """Whether accuracy is what the recipe wants at least, and how severe it is if not."""
    return [
        (check.passed, check.severity.value)
        for result in results
        for check in result.get_asset_check_evaluations()
        if check.check_name == "agreement_accuracy_bounds_check"
    ]


def test_agreement_is_what_one_computes_by_hand(graph: Graph, tmp_path: Path) -> None:
    labels = {
        "grade 3: all agree": [3, 3, 3],
        "grade 1: two to one": [2, 2, 0],
        "grade 2: a tie": [0, 3],
        "grade 0: one person": [1],
        "grade 0: nobody minds": [0, 0, 0, 1],
        "never graded": [2, 3],
        "grade 3: not labelled": [],
    }
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "annotator", "label"])
        for prompt, given in labels.items():
            writer.writerows([prompt, f"a{n}", label] for n, label in enumerate(given))
        writer.writerow(["grade 0: one person", "troll", "7"])
        writer.writerow(["", "a0", "1"])
    mix = [row(prompt, prompt) for prompt in labels if prompt != "never graded"]
    changes = {"human_labels.dataset": str(path), "controversy.min_accuracy": 0.6}
    graph = on_sources(graph.with_checks(), tmp_path, mix, changes=changes)
    agreement = "key:human_labels or key:controversy_agreement"
    agreement = f"{agreement} or key:grader_trials or key:grader_agreement"
    enough = graph.materialize(f"{READ} or {RULED} or {GRADED} or {agreement}")
    assert bounded(enough) == [(True, "WARN")]

    assert graph.query(
        "SELECT malformed_reason || ': ' || malformed_detail FROM human_labels "
        "WHERE label IS NULL ORDER BY 1"
    ) == [
        ("a label that is not 0 to 3: 7",),
        ("an empty text: prompt",),
    ]
    columns = [
        *("is_recipe_threshold", "labelled_prompts", "graded_prompts", "tied_prompts"),
        *("true_positives", "false_positives", "true_negatives", "false_negatives"),
        *("accuracy", "human_unanimous", "human_pairwise", "human_majority"),
    ]
    rows = graph.query(f"SELECT threshold, {', '.join(columns)} FROM controversy_agreement")
    found = {threshold: figures for threshold, *figures in rows}
    # Folded at 1 the people say 111 110 01 1 0001 11, and the grades 1 1 1 0 0 -.
    assert found[1][:8] == [False, 6, 4, 1, 2, 0, 1, 1]
    assert found[1][8] == pytest.approx(3 / 4)
    assert found[1][9] == pytest.approx(2 / 5)
    assert found[1][10] == pytest.approx((1 + 1 / 3 + 0 + 3 / 6 + 1) / 5)
    assert found[1][11] == pytest.approx((1 + 2 / 3 + 1 / 2 + 3 / 4 + 1) / 5)
    # Folded at 2: 111 110 01 0 0000 11, and 1 0 1 0 0 -.
    assert found[2][:8] == [True, 6, 4, 1, 1, 0, 2, 1]
    assert found[2][8] == pytest.approx(3 / 4)
    assert found[2][9] == pytest.approx(3 / 5)
    assert found[2][10] == pytest.approx((1 + 1 / 3 + 0 + 1 + 1) / 5)
    assert found[2][11] == pytest.approx((1 + 2 / 3 + 1 / 2 + 1 + 1) / 5)
    # Folded at 3: 111 000 01 0 0000 01, and 1 0 0 0 0 -.
    assert found[3][:8] == [False, 6, 4, 2, 1, 0, 3, 0]
    assert found[3][8] == pytest.approx(1.0)
    assert found[3][9] == pytest.approx(3 / 5)
    assert found[3][10] == pytest.approx((1 + 1 + 0 + 1 + 0) / 5)
    assert found[3][11] == pytest.approx((1 + 1 + 1 / 2 + 1 + 1 / 2) / 5)

    stricter = {**changes, "controversy.min_accuracy": 0.76}
    graph = on_sources(graph, tmp_path, mix, changes=stricter)
    assert bounded(graph.materialize("key:controversy_agreement")) == [(False, "WARN")]

    unlabelled = graph.with_recipe(
        on_sources(graph, tmp_path, mix, changes={"human_labels": None}).recipe
    )
    unlabelled.materialize(agreement)
    figures = "labelled_prompts, graded_prompts, accuracy, human_unanimous"
    rows = unlabelled.query(f"SELECT {figures} FROM controversy_agreement")
    assert rows == [(0, 0, None, None)] * 3


def test_a_person_counts_once_a_prompt_by_the_last_label(graph: Graph, tmp_path: Path) -> None:
    mix = [row("grade 0: is it wet?", "wet"), row("grade 3: is it just?", "just")]
    just = "is this one"
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "id", "annotator", "label"])
        for annotator, label in [("ann", 3), ("ann", 3), (" ann ", 0), ("ben", 0), ("cem", 0)]:
            writer.writerow(["grade 0:  is it wet?", "", annotator, label])
        # Without names all are people of their own; a prompt can be named by its id.
        writer.writerows([["", JUST, "", 3], [just, JUST.upper(), "", 3], ["", JUST, "", 0]])
        writer.writerow(["nobody was asked this", "", "ann", 1])
        writer.writerow(["", "no-id", "ann", 1])
    labels = {
        "dataset": str(path),
        "columns": {"prompt": "prompt", "prompt_id": "id", "annotator": "annotator"}
        | {"label": "label"},
    }
    graph = on_sources(graph, tmp_path, mix, changes={"human_labels": labels})
    agreement = "key:human_labels or key:controversy_agreement"
    graph.materialize(f"{READ} or {RULED} or {GRADED} or {agreement}")
    assert graph.query("SELECT malformed_reason FROM human_labels WHERE label IS NULL") == [
        ("not a prompt_id",)
    ]
    assert graph.query(
        "SELECT labelled_prompts, unmatched_prompts, repeated_labels, graded_prompts, "
        "true_positives, true_negatives, human_unanimous FROM controversy_agreement "
        "WHERE is_recipe_threshold"
    ) == [(3, 1, 2, 2, 1, 1, 0.5)]


JUST = as_id(prompt_hash([{"role": "user", "content": "grade 3: is it just?"}]))


def test_personas_are_stripped_and_placeholders_and_long_ones_are_none(
    graph: Graph, tmp_path: Path
) -> None:
    path = tmp_path / "personas.jsonl"
    people = ["  A baker from Bern.\n", "n/a", "EMPTY STRING", "A " + "very " * 40 + "old clock."]
    path.write_text("".join(json.dumps({"persona": person}) + "\n" for person in people))
    changes = {"personas.dataset": str(path), "personas.max_characters": 200}
    graph = on_sources(graph, tmp_path, [row("one", "one")], changes=changes)
    graph.materialize("key:personas")
    assert graph.query(
        "SELECT persona, malformed_reason, malformed_detail FROM personas ORDER BY row_number"
    ) == [
        ("A baker from Bern.", None, None),
        (None, "a placeholder", "n/a"),
        (None, "a placeholder", "EMPTY STRING"),
        (None, "longer than personas.max_characters", "212"),
    ]
