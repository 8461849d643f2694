"""Candidates for the grader: tried on labelled prompts alone, and let through the gate or not."""

from __future__ import annotations

import copy
import csv
import math
import re
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.assets.grader_gate import GateError
from alignment_assets.assets.graders import compare_with_people
from alignment_assets.inference.types import Answer, Request
from alignment_assets.requests.runner import TooManyFailures
from alignment_assets.sources.conversations import as_id, prompt_hash
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import InconsistentError
from tests.conftest import ANY_LOSS, Graph, changed_recipe
from tests.support.agreement_cases import PROMPTS, grade_of, people_of
from tests.support.ids import uid
from tests.support.prompt_sources import (
    READ,
    RULED,
    StatedGrader,
    on_sources,
    row,
    write_lines,
)
from tests.support.tables import fill, new_warehouse

OWN, BRIEF, STEPS = (
    f"smollm2-135m-judge.controversy{ending}" for ending in ("", "_brief", "_steps")
)
WORDINGS = ["controversy", "controversy_brief", "controversy_steps"]
BEFORE = f"{READ} or {RULED} or key:human_labels or key:wordings"
TRIALS = "key:grader_trials+1"


class UnevenGrader(StatedGrader):
    """As stated by the wording `controversy_brief`; the others are wrong now and then."""

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        if request.task != "grade":
            return answer
        told = " ".join(message["content"] for message in request.messages)
        wrong = 0 if "nearly everybody" in told else 2 if "in three steps" in told else 4
        number = int((re.search(r"number (\d+)", told) or [0, 9])[1])
        if "unreadable" in told and wrong == 2:
            return replace(answer, text="I cannot tell.")
        if number < wrong:
            return replace(answer, text='{"reasoning": "No.", "classification": "0"}')
        return answer


def id_of(prompt: str) -> str:
    return as_id(prompt_hash([{"role": "user", "content": prompt}]))


def labelled(path: Path, rows: list[tuple[str, str, int]]) -> dict[str, Any]:
    """Write labels as text, id, label; return what a recipe says of them."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "id", "label"])
        writer.writerows(rows)
    columns = {"prompt": "prompt", "prompt_id": "id", "label": "label"}
    return {"dataset": str(path), "columns": columns}


def on_labels(graph: Graph, folder: Path, changes: dict[str, Any] | None = None) -> Graph:
    """Return a graph with ten labelled prompts that are in no source, and three candidates."""
    texts = [f"grade {3 * (number % 2)}: number {number}" for number in range(10)]
    labels = labelled(folder / "labels.csv", [(t, "", 3 * (n % 2)) for n, t in enumerate(texts)])
    said = {"human_labels": labels, "controversy.trials": {"wordings": WORDINGS}}
    mix = [row(f"grade 0: number {number}, to be graded", str(number)) for number in range(4)]
    graph = on_sources(graph, folder, mix, changes={**said, **(changes or {})})
    return replace(graph, inference=UnevenGrader(log=graph.inference.log))


def test_trials_ask_about_what_people_labelled_and_no_limit_thins_them(
    graph: Graph, tmp_path: Path
) -> None:
    mix = [
        row("grade 3: is it just?", "just"),
        row("grade 0: is it wet?", "wet"),
        row("grade 2: is it new?", "flan_v2_1", source="flan_v2"),
        row("grade 1: is it odd?", "odd"),
    ]
    own = "grade 3: in  no source"
    labels = [
        ("", id_of("grade 3: is it just?"), 3),
        ("", id_of("grade 0: is it wet?"), 0),
        ("grade 2: is it new?", "", 2),  # as its label has it: its row of the mix plays no part
        ("", id_of("grade 1: is it odd?").upper(), 1),
        (own, "", 3),
        (own, id_of(own), 3),
        ("another text", id_of("grade 0: is it wet?"), 0),  # of both the id counts
        ("", id_of("nobody has this"), 1),
    ]
    changes = {
        "limit": 1,
        "human_labels": labelled(tmp_path / "labels.csv", labels),
        "controversy.trials": {"wordings": WORDINGS[:2]},
    }
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)

    tried = [id_of(text) for text in ("grade 3: is it just?", "grade 0: is it wet?", own)]
    tried += [id_of(text) for text in ("grade 2: is it new?", "grade 1: is it odd?")]
    grades = {tried[0]: 3, tried[1]: 0, tried[2]: 3, tried[3]: 2, tried[4]: 1}
    for candidate in (OWN, BRIEF):
        rows = graph.query(
            "SELECT prompt_id, grade FROM grader_trials WHERE candidate = $name",
            {"name": candidate},
        )
        assert dict(rows) == grades and len(rows) == 5
    shown = [asked["messages"][-1]["content"] for asked in graph.asked()]
    assert sum(own in text for text in shown) == 2 and "another text" not in " ".join(shown)
    assert graph.query(
        "SELECT candidate, labelled_prompts, tried_prompts, untried_prompts, accuracy "
        "FROM grader_agreement WHERE is_recipe_threshold"
    ) == [(name, 6, 5, 1, 1.0) for name in (OWN, BRIEF)]
    assert graph.query(
        "SELECT part, rows, of_rows FROM losses WHERE asset = 'grader_trials' ORDER BY part"
    ) == [(name, 1, 6) for name in (OWN, BRIEF)]


def test_a_label_of_an_excluded_prompt_is_not_asked_about_by_its_id(
    graph: Graph, tmp_path: Path
) -> None:
    mix = [row("grade 2: is it new?", "flan_v2_1"), row("grade 0: is it wet?", "wet")]
    labels = [("", id_of(text), 2) for text in ("grade 2: is it new?", "grade 0: is it wet?")]
    changes = {"human_labels": labelled(tmp_path / "labels.csv", labels)}
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)
    asked_about = graph.query("SELECT DISTINCT prompt_id FROM grader_trials")
    assert asked_about == [(id_of("grade 0: is it wet?"),)]


def test_an_answer_of_the_trial_is_the_grade_that_grading_would_give(
    graph: Graph, tmp_path: Path
) -> None:
    mix = [row("grade 3: is it just?", "just"), row("grade 0: is it wet?", "wet")]
    labels = [("", id_of("grade 3: is it just?"), 3)]
    changes = {"human_labels": labelled(tmp_path / "labels.csv", labels)}
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    graph.materialize(f"{BEFORE} or key:controversy_labels")
    graph.materialize(TRIALS)
    assert graph.query(
        "SELECT count(*) FROM grader_trials JOIN controversy_labels "
        "USING (prompt_id, request_id, grade, model, raw_answer, attempts)"
    ) == [(1,)]


def test_the_gate_bars_who_has_not_been_tried_or_agrees_too_little(
    graph: Graph, tmp_path: Path
) -> None:
    graph = on_labels(graph, tmp_path, {"controversy.min_accuracy": 0.85})
    graph.materialize(BEFORE)
    with pytest.raises(GateError) as refused:
        graph.materialize("key:controversy_labels")
    assert f"the trial of {OWN}, and it has not been tried. `alignment-assets materialize" in str(
        refused.value
    )
    command = re.search(r"--select '([^']+)'", str(refused.value))
    assert command and graph.asked() == []
    graph.materialize(command[1])

    # Of five prompts that people find controversial two are graded 0.
    with pytest.raises(GateError) as refused:
        graph.materialize("key:controversy_labels")
    said = str(refused.value)
    assert (
        f"{OWN} fails the recipe's gate: accuracy is 0.800, below controversy.min_accuracy 0.85 "
        "(accuracy 0.800 [0.490, 0.943], kappa 0.600 [0.146, 1.054] on 10 prompts)" in said
    )
    assert (
        f"the best one that passes is {BRIEF} (accuracy 1.000 [0.722, 1.000], kappa 1.000 "
        "[1.000, 1.000] on 10 prompts): say controversy: {model: smollm2-135m-judge, wording: "
        "controversy_brief}" in said
    )
    asked = len(graph.asked())
    assert {entry["task"] for entry in graph.asked()} == {"grade"} and asked == 3 * 10

    better = on_labels(
        graph, tmp_path, {"controversy.min_accuracy": 0.85, "controversy.wording": WORDINGS[1]}
    )
    better.materialize("key:wordings or key:controversy_labels")
    assert len(graph.asked()) == asked + 4
    told = " ".join(str(entry["messages"]) for entry in graph.asked()[asked:])
    assert "nearly everybody" in told


def test_the_gate_may_go_by_kappa_and_by_the_lower_end_of_an_interval(
    graph: Graph, tmp_path: Path
) -> None:
    good = {"controversy.wording": "controversy_steps", "controversy.min_kappa": 0.75}
    graph = on_labels(graph, tmp_path, good)
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)
    graph.materialize("key:controversy_labels")  # kappa is 0.8
    careful = on_labels(graph, tmp_path, {**good, "controversy.gate_on": "lower_end"})
    with pytest.raises(GateError, match=r"the lower end of kappa is 0\.436, below"):
        careful.materialize("key:controversy_labels")


def test_a_trial_counts_only_for_what_would_be_asked_now(graph: Graph, tmp_path: Path) -> None:
    passing = {"controversy.wording": "controversy_brief", "controversy.min_accuracy": 0.85}
    graph = on_labels(graph, tmp_path, passing)
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)
    cooler = on_labels(graph, tmp_path, {**passing, "controversy.sampling.temperature": 0.1})
    with pytest.raises(GateError, match="was tried by other weights, wordings or sampling"):
        cooler.materialize("key:controversy_labels")
    cooler.materialize(TRIALS)
    cooler.materialize("key:controversy_labels")

    # Another label makes another trial, which says so by its name.
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text() + "grade 3: one more,,3\n")
    cooler.materialize("key:human_labels")
    with pytest.raises(GateError, match=r"grader_trials\[.*\] was made of other rows of human_l"):
        cooler.materialize("key:controversy_labels")


def test_a_candidate_with_too_many_answers_that_are_no_grade_does_not_pass(
    graph: Graph, tmp_path: Path
) -> None:
    changes = {"controversy.wording": "controversy_steps", "controversy.min_accuracy": 0.5}
    graph = on_labels(graph, tmp_path, {**changes, "limits.unparsable": 0.1})
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text() + "grade 3: unreadable one,,3\ngrade 3: unreadable two,,3\n")
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)
    with pytest.raises(GateError, match=r"16\.7% of its answers are no grade, more than limits"):
        graph.materialize("key:controversy_labels")


def test_who_joins_is_tried_alone_and_nothing_waits_for_who_is_not_tried(
    graph: Graph, tmp_path: Path
) -> None:
    two = {"controversy.trials": {"wordings": WORDINGS[:2]}, "controversy.min_accuracy": 0.5}
    graph = on_labels(graph, tmp_path, two)
    graph.materialize(BEFORE)
    graph.materialize("key:grader_trials", OWN)
    graph.materialize("key:grader_agreement")
    assert graph.query("SELECT DISTINCT candidate FROM grader_agreement") == [(OWN,)]
    graph.materialize("key:controversy_labels")
    asked = len(graph.asked())

    three = on_labels(graph, tmp_path, {"controversy.min_accuracy": 0.5})
    three.materialize("key:wordings")
    three.materialize(TRIALS)
    assert len(graph.asked()) == asked + 2 * 10
    three.materialize("key:controversy_labels")
    assert len(graph.asked()) == asked + 2 * 10
    one = on_labels(graph, tmp_path, {"controversy.trials": {}})
    one.materialize("key:wordings or key:grader_agreement")
    assert one.query("SELECT DISTINCT candidate, mcnemar FROM grader_agreement") == [(OWN, None)]


def test_an_id_is_that_of_a_prompt_of_a_source_that_the_recipe_has(
    graph: Graph, tmp_path: Path
) -> None:
    mix = [row("grade 2: is it new?", "flan_v2_1"), row("grade 0: is it wet?", "wet")]
    labels = [("", id_of(text), 2) for text in ("grade 2: is it new?", "grade 0: is it wet?")]
    changes = {"human_labels": labelled(tmp_path / "labels.csv", labels)}
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    graph.materialize(BEFORE)
    renamed = copy.deepcopy([source.model_dump(mode="json") for source in graph.recipe.prompts])
    renamed[0]["name"] = "other"
    write_lines(tmp_path / "mix.jsonl", [row("grade 1: is it odd?", "odd")])
    recipe = changed_recipe({**copy.deepcopy(ANY_LOSS), **changes, "prompts": renamed})
    left = graph.with_recipe(recipe)
    left.materialize(BEFORE)
    left.materialize(TRIALS)
    # The rows of the source that left are still there, and nothing excludes them any more.
    assert left.query("SELECT prompt_id FROM grader_trials") == [] == left.asked()


def test_who_is_told_by_wordings_that_are_not_made_yet_is_not_tried_on_nothing(
    graph: Graph, tmp_path: Path
) -> None:
    one = on_labels(graph, tmp_path, {"controversy.trials": {}})
    one.materialize(BEFORE)
    three = on_labels(graph, tmp_path)
    with pytest.raises(InconsistentError, match=r"\(controversy_brief_question, .*first: wordings"):
        three.materialize(TRIALS)
    three.materialize("key:wordings")
    three.materialize(TRIALS)
    assert three.query("SELECT count(*) FROM grader_trials") == [(30,)]


def test_the_gate_goes_by_the_grader_and_names_only_who_would_pass_now(
    graph: Graph, tmp_path: Path
) -> None:
    gate = {"controversy.wording": "controversy_steps", "controversy.min_accuracy": 0.85}
    graph = on_labels(graph, tmp_path, gate)
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)
    # The trials of the others are of another sampling.
    cooler = on_labels(graph, tmp_path, {**gate, "controversy.sampling.temperature": 0.1})
    cooler.materialize("key:grader_trials", STEPS)
    cooler.materialize("key:controversy_labels")
    strict = {**gate, "controversy.sampling.temperature": 0.1, "controversy.min_accuracy": 0.95}
    with pytest.raises(GateError) as refused:
        on_labels(graph, tmp_path, strict).materialize("key:controversy_labels")
    assert f"None that was tried passes; {STEPS} is the only one tried" in str(refused.value)
    assert BRIEF not in str(refused.value)


def test_a_gate_without_a_label_to_go_by_says_so(graph: Graph, tmp_path: Path) -> None:
    graph = on_labels(graph, tmp_path, {"controversy.min_accuracy": 0.5})
    (tmp_path / "labels.csv").write_text(f"prompt,id,label\n,{id_of('nobody has this')},3\n")
    graph.materialize(BEFORE)
    graph.materialize(TRIALS)
    with pytest.raises(GateError, match="no prompt that people have labelled could be asked about"):
        graph.materialize("key:controversy_labels")


class Refusing(UnevenGrader):
    """Has no room for some prompts where the instruction is that of `controversy_steps`."""

    refused: int = 0

    def _answer(self, request: Request) -> Answer:
        told = " ".join(message["content"] for message in request.messages)
        number = int((re.search(r"number (\d+)", told) or [0, 99])[1])
        if request.task == "grade" and "in three steps" in told and number < self.refused:
            return Answer(request.request_id, request.task, "context_length", error="too long")
        return super()._answer(request)


@pytest.mark.parametrize(("refused", "is_tried"), [(3, True), (6, False)])
def test_a_candidate_that_fails_on_some_prompts_is_tried_all_the_same(
    graph: Graph, tmp_path: Path, refused: int, is_tried: bool
) -> None:
    graph = on_labels(graph, tmp_path)
    graph = replace(graph, inference=Refusing(log=graph.inference.log, refused=refused))
    graph.materialize(BEFORE)
    if not is_tried:
        with pytest.raises(TooManyFailures, match=rf"{refused} of 10 requests failed"):
            graph.materialize(TRIALS)
        return
    graph.materialize(TRIALS)
    assert graph.query(
        "SELECT tried_prompts, unparsable_prompts, graded_prompts FROM grader_agreement "
        f"WHERE candidate = '{STEPS}' AND is_recipe_threshold"
    ) == [(10, refused, 10 - refused)]
    assert graph.query("SELECT loss, rows FROM losses WHERE asset = 'grader_trials'") == [
        ("failed", refused)
    ]


def test_mcnemar_is_the_exact_test(tmp_path: Path) -> None:
    candidates = ["judge.a", "judge.b", "judge.c"]
    grades = {
        name: {
            prompt: grade and (grade + (prompt * place) % 7 // 4) % 4
            for prompt in range(PROMPTS)
            for grade in [grade_of(prompt)]
        }
        for place, name in enumerate(candidates)
    }
    warehouse = new_warehouse(tmp_path)
    labels = [
        {"prompt_id": uid(f"{prompt}"), "annotator": f"{person}", "label": label}
        for prompt in range(PROMPTS)
        for person, label in people_of(prompt).items()
    ]
    rows = [{"row_number": number, **label} for number, label in enumerate(labels)]
    fill(warehouse, "human_labels", rows)
    said = [
        {"candidate": name, "model": "judge", "wording": name[-1], "prompt_id": uid(f"{prompt}")}
        | {"request_id": uid(f"{name}/{prompt}"), "grade": grade}
        | {"parsed_as": "unparsable" if grade is None else "json"}
        | {"attempts": 1, "finish_reason": "stop"}
        for name, given in grades.items()
        for prompt, grade in given.items()
    ]
    fill(warehouse, "grader_trials", said)
    parameters = {
        "controversy_candidates": candidates,
        "controversy_model": "judge",
        "controversy_wording": "a",
        "controversy_threshold": 2,
    }
    with warehouse.stage("grader_agreement") as staging:
        compare_with_people(staging.connection, "grader_agreement", parameters)
        query = sql_files.read_sql("assets", "grader_agreement")
        found = {
            (one, threshold): {entry["candidate"]: entry for entry in listed}
            for one, threshold, listed in staging.connection.execute(
                f"SELECT candidate, threshold, mcnemar FROM ({query}\n)",
                sql_files.named_parameters(query, parameters),
            ).fetchall()
        }
    seen = set()
    for threshold in (1, 2, 3):
        right = {name: rightly(grades[name], threshold) for name in candidates}
        for one, other in combinations(candidates, 2):
            both = right[one].keys() & right[other].keys()
            alone = sum(right[one][p] and not right[other][p] for p in both)
            other_alone = sum(right[other][p] and not right[one][p] for p in both)
            entry = found[one, threshold][other]
            assert (entry["prompts"], entry["only_this_right"]) == (len(both), alone)
            assert entry["only_that_right"] == other_alone
            assert entry["p"] == pytest.approx(exact(alone, other_alone), abs=1e-9)
            assert found[other, threshold][one]["p"] == entry["p"]
            seen.add((alone, other_alone))
    # Of statsmodels 0.15.0, mcnemar(exact=True).
    assert exact(2, 11) == pytest.approx(STATSMODELS[2, 11], abs=1e-12)
    assert len(seen) > 3


STATSMODELS = {(2, 11): 0.0224609375}


def rightly(grades: dict[int, int | None], threshold: int) -> dict[int, bool]:
    """Return for each graded prompt with a majority whether the grade is with it."""
    found = {}
    for prompt, grade in grades.items():
        labels = people_of(prompt)
        positive = sum(label >= threshold for label in labels.values())
        if grade is not None and 2 * positive != len(labels):
            found[prompt] = (grade >= threshold) == (2 * positive > len(labels))
    return found


def exact(one: int, other: int) -> float:
    """Return McNemar's exact probability by whole numbers."""
    differing = one + other
    tail = sum(math.comb(differing, k) for k in range(min(one, other) + 1))
    return float(min(Fraction(1), 2 * Fraction(tail, 2**differing)))
