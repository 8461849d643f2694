"""The whole graph with a fake engine: what a run makes, what a second asks, what stays fresh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from alignment_assets.commands.status import look, statuses
from alignment_assets.inference.types import Answer, Request
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.runner import TooManyFailures
from alignment_assets.warehouse.lineage import InconsistentError
from tests.conftest import Graph, changed_recipe
from tests.support.fakes import FakeInference

POLICY = "smollm2-135m-policy"


def with_newcomer(graph: Graph) -> Graph:
    """The same graph with a third model in the recipe."""
    content = graph.recipe.model_dump(mode="json")
    models = {
        **content["models"],
        "newcomer": {**content["models"]["smollm2-135m"], "billions": 0.2},
    }
    names = [*content["completions"]["models"], "newcomer"]
    return graph.with_recipe(changed_recipe({"models": models, "completions.models": names}))


def partition_statuses(graph: Graph, table: str) -> dict[str | None, str]:
    """Return what `status` says of each partition of a table."""
    found = statuses(
        look(graph.warehouse, graph.run, graph.defs), graph.run, graph.defs, graph.instance
    )
    return {partition: status for (name, partition), status in found.items() if name == table}


def test_a_run_fills_every_table_and_every_check_passes(graph: Graph) -> None:
    results = graph.with_checks().materialize()

    evaluations = [e for result in results for e in result.get_asset_check_evaluations()]
    assert len(evaluations) > 40
    assert [(e.asset_key, e.check_name) for e in evaluations if not e.passed] == []
    tracks = dict(graph.query("SELECT track, count(*) FROM alignment_prompts GROUP BY ALL"))
    assert sum(tracks.values()) == 42
    # Two models with two variants each, the charter model's third on standard, four references.
    expected = tracks["standard"] * (2 * 2 + 1 + 4) + tracks["controversial"] * (2 * 2 + 4)
    for table in ("completion_requests", "completions", "rewards", "quantile_rewards"):
        assert graph.query(f"SELECT count(*) FROM {table}") == [(expected,)]
    # Five candidates, all ten pairs, both orders.
    assert graph.query("SELECT count(*) FROM judge_comparisons") == [
        (tracks["controversial"] * 20,)
    ]
    ((pairs, samples, excluded),) = graph.query(
        "SELECT (SELECT count(*) FROM dpo_pairs), (SELECT count(*) FROM qrpo_samples), "
        "(SELECT count(*) FROM selection_exclusions)"
    )
    assert pairs + excluded == 42
    assert samples == 2 * pairs


def test_a_second_run_asks_nothing_and_changes_nothing(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    asked, pairs = graph.asked(), graph.query("SELECT * FROM dpo_pairs ORDER BY ALL")

    graph.materialize()

    assert len(asked) > 1000
    assert graph.asked() == asked
    assert graph.query("SELECT * FROM dpo_pairs ORDER BY ALL") == pairs


def test_a_new_model_asks_for_itself_alone_and_leaves_the_others_fresh(graph: Graph) -> None:
    graph.materialize()
    before = len(graph.asked())
    more = with_newcomer(graph)
    finished = {"completion_requests", "completions", "rewards"}
    for table in finished:
        found = partition_statuses(more, table)
        assert found.pop("newcomer") == "missing"
        assert set(found.values()) == {"fresh"}, table

    more.materialize("key:completion_requests or key:completions or key:rewards", "newcomer")

    new = graph.asked()[before:]
    ((requested,),) = graph.query(
        "SELECT count(*) FROM completion_requests WHERE model = 'newcomer'"
    )
    assert [r["model"] for r in new if r["task"] == "generate"] == ["newcomer"] * requested
    assert len([r for r in new if r["task"] == "rate"]) == requested
    assert len(new) == 2 * requested
    for table in finished:
        assert set(partition_statuses(more, table).values()) == {"fresh"}, table


def test_a_training_set_refuses_and_names_the_model_without_rewards(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    with pytest.raises(InconsistentError, match=r"rewards\[newcomer\] has not been made"):
        with_newcomer(graph).materialize("key:quantile_rewards", POLICY)


def test_a_changed_wording_asks_exactly_the_requests_that_use_it(
    materialized: Callable[..., Graph], tmp_path: Any
) -> None:
    graph = materialized()
    before = len(graph.asked())
    folder = tmp_path / "wordings"
    folder.mkdir()
    for file in graph.recipe.wordings_folder.iterdir():
        if file.suffix != ".py" and file.is_file():
            (folder / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    persona = folder / "persona.txt"
    persona.write_text("Speak as " + persona.read_text(encoding="utf-8"), encoding="utf-8")
    changed = graph.with_recipe(changed_recipe({"wordings": str(folder)}))

    changed.materialize("key:wordings or key:completion_requests or key:completions")

    new = graph.asked()[before:]
    ((personas,),) = graph.query(
        "SELECT count(*) FROM completion_requests WHERE variant = 'persona'"
    )
    assert len(new) == personas > 0
    assert all(request["messages"][0]["content"].startswith("Speak as ") for request in new)
    # The replaced rows are answers to the new question, and no old answer is left.
    assert graph.query(
        "SELECT count(*) FROM completion_requests "
        "ANTI JOIN completions USING (completion_id, request_id)"
    ) == [(0,)]


def test_the_same_inputs_give_the_same_pairs_in_another_home(
    materialized: Callable[..., Graph], tmp_path: Any
) -> None:
    graph = materialized()
    other = Graph(graph.recipe, tmp_path / "elsewhere", graph.instance, graph.inference)
    other.materialize()
    query = "SELECT * FROM dpo_pairs ORDER BY pair_id"
    assert graph.query(query) == other.query(query)


def test_unparsable_grades_are_asked_again_kept_and_counted(graph: Graph) -> None:
    tolerant = graph.with_recipe(changed_recipe({"limits.unparsable": 1.0}))
    doubtful = tolerant.with_inference(unparsable_share=0.5)
    doubtful.materialize()
    labels = doubtful.query(
        "SELECT parsed_as, attempts, count(*), count(grade), count(raw_answer) "
        "FROM controversy_labels GROUP BY ALL"
    )
    unparsable = sum(row[2] for row in labels if row[0] == "unparsable")
    assert unparsable > 0
    assert all(
        row[1] == 2 and row[3] == 0 and row[4] == row[2] for row in labels if row[0] == "unparsable"
    )
    assert doubtful.query("SELECT count(*) FROM alignment_prompts") == [(42 - unparsable,)]
    assert any(row[0] == "json" and row[1] == 2 for row in labels)  # a retry helped


def test_a_request_that_does_not_fit_is_kept_as_such_and_fails_nothing_else(graph: Graph) -> None:
    tolerant = graph.with_recipe(changed_recipe({"inference": {"max_failed_share": 1.0}}))
    narrow = tolerant.with_inference(context_characters=1800)
    narrow.materialize()
    refused = narrow.query(
        "SELECT variant, text, error FROM completions WHERE finish_reason = 'context_length'"
    )
    assert refused
    assert {variant for variant, _, _ in refused} == {"charter"}  # the longest system prompt
    assert all(text is None and error for _, text, error in refused)
    reasons = narrow.query("SELECT DISTINCT missing_reason FROM rewards WHERE reward IS NULL")
    assert ("no completion: context_length",) in reasons

    # Under other settings the refused are asked again, the answered are not.
    before = len(graph.asked())
    graph.materialize("key:completions")
    assert len(graph.asked()) - before == len(refused)
    assert graph.query("SELECT count(*) FROM completions WHERE text IS NULL") == [(0,)]


def test_a_partition_that_fails_too_often_is_not_published_and_keeps_its_answers(
    materialized: Callable[..., Graph],
) -> None:
    model = "smollm2-135m"
    graph = materialized("+key:completion_requests")
    narrow = graph.with_inference(context_characters=1800)
    with pytest.raises(TooManyFailures) as error:
        narrow.materialize("key:completions", model)
    for part in (f"completions[{model}]:", "max_failed_share of 1.00%", "× N characters."):
        assert part in str(error.value)
    assert graph.query("SELECT count(*) FROM completions") == [(0,)]
    asked = len(graph.asked())
    tolerant = narrow.with_recipe(changed_recipe({"inference": {"max_failed_share": 0.5}}))
    tolerant.materialize("key:completions", model)
    assert len(graph.asked()) == asked
    ledger = graph.query("SELECT requests, answered, failed, outcome FROM inference_runs")
    assert [row[3] for row in ledger] == ["done", "done"]  # the grader, and this model once
    assert ledger[1][0] == ledger[1][1] > ledger[1][2] > 0


class OftenFailing(FakeInference):
    """Fails on some requests in spite of all retries."""

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        if int(request.request_id[:2], 16) % 5:
            return answer
        return Answer(request.request_id, request.task, "failed", error="the engine died twice")


def test_what_fails_for_good_is_a_row_with_its_reason(materialized: Callable[..., Graph]) -> None:
    model = "smollm2-135m"
    graph = materialized("+key:completion_requests")
    graph.inference = OftenFailing(log=graph.inference.log)
    tolerant = graph.with_recipe(changed_recipe({"inference": {"max_failed_share": 0.9}}))
    tolerant.materialize("key:completions or key:rewards", model)
    failed = tolerant.query(
        "SELECT DISTINCT completions.text, error, missing_reason FROM completions "
        "JOIN rewards USING (completion_id) WHERE finish_reason = 'failed'"
    )
    assert failed == [(None, "the engine died twice", "no completion: failed")]


def test_an_asset_refuses_without_its_upstream_and_says_what_is_missing(graph: Graph) -> None:
    for table in ("dpo_pairs", "selected_pairs", "qrpo_samples", "controversy_labels"):
        with pytest.raises(InconsistentError, match=r"source_prompts\[.*\] has not been made"):
            graph.materialize(f"key:{table}")
    with pytest.raises(InconsistentError, match=r"completion_requests\[smollm2-135m\]$"):
        graph.materialize("key:completions", "smollm2-135m")


def test_what_is_made_and_rightly_empty_is_not_missing(graph: Graph) -> None:
    picky = graph.with_recipe(changed_recipe({"selection.min_references": 99}))
    picky.materialize()  # no prompt has as many: no pairs, and so no samples
    assert picky.query("SELECT count(*) FROM dpo_pairs") == [(0,)]
    for table in ("selected_pairs", "dpo_pairs", "qrpo_samples"):
        assert partition_statuses(picky, table) == {POLICY: "empty"}
    # Rows of another recipe, by the same instance, stand for nothing of this one.
    content = {**changed_recipe({"selection.min_references": 99}).model_dump(mode="json")}
    mine = parse_recipe({**content, "name": "mine"}, find_recipe("demo"))
    other = Graph(mine, graph.home.parent / "mine", graph.instance, graph.inference)
    other.materialize("key:personas")
    found = statuses(
        look(other.warehouse, other.run, other.defs), other.run, other.defs, other.instance
    )
    assert found.pop(("personas", None)) == "fresh"
    assert set(found.values()) == {"missing: materialized by recipe demo"}
    with pytest.raises(InconsistentError, match="selected_pairs"):
        other.materialize("key:dpo_pairs")


def test_the_recipe_may_be_made_last_and_makes_nothing_stale(graph: Graph) -> None:
    def said(recipe: Recipe) -> set[str]:
        of = graph.with_recipe(recipe)
        there = look(of.warehouse, of.run, of.defs)
        found = statuses(there, of.run, of.defs, of.instance)
        assert found["recipes", None] == "fresh"
        return {status for (table, _), status in found.items() if table == "source_prompts"}

    graph.materialize("key:source_prompts")
    graph.materialize("key:recipes")
    assert said(graph.recipe) == {"fresh"}
    other = changed_recipe({"seed": 7})
    graph.with_recipe(other).materialize("key:recipes")
    assert said(other) == {"fresh"}
    ((seed, settings),) = graph.query("SELECT settings ->> 'seed', settings FROM recipes")
    assert seed == "7"
    assert "backend" not in settings  # where a model runs, and by whose key
