"""A training set is made of rows that belong together, however parts of it were remade."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.inference.spool import EMPTY_FILE
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import InconsistentError, Lineage, TablePart
from tests.conftest import Graph, changed_recipe
from tests.support.fakes import FakeInference
from tests.support.tables import partitions_of

MODEL, COOL, POLICY = "smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"
PROMPTS = (
    "key:prompt_exclusions or key:licensed_prompts or key:controversy_labels "
    "or key:alignment_prompts"
)
OF_POLICY = (
    "key:judge_comparisons or key:judge_rankings or key:policy_tokens "
    "or key:quantile_rewards or key:selected_pairs "
    "or key:dpo_pairs or key:qrpo_samples or key:reference_logprobs or key:selection_exclusions "
    "or key:selection_report or key:training_export"
)
FIRST = "judge_comparisons[smollm2-135m-policy]"


class OtherInference(FakeInference):
    """The same engine, which says the same in other words."""

    def _answer(self, request: Any) -> Any:
        answer = super()._answer(request)
        return answer if request.task != "generate" else replace(answer, text=f"{answer.text}!")


@pytest.fixture
def made(materialized: Callable[..., Graph]) -> Graph:
    """The demo's graph, finished."""
    return materialized()


def refusal(graph: Graph, selection: str = OF_POLICY, partition: str = POLICY) -> str:
    """Return why a selection is not made."""
    before = tables(graph)
    with pytest.raises(InconsistentError) as refused:
        graph.materialize(selection, partition)
    assert tables(graph) == before
    return str(refused.value)


def tables(graph: Graph) -> dict[str, list[Any]]:
    names = ("judge_comparisons", "quantile_rewards", "dpo_pairs")
    return {name: graph.query(f"SELECT hash({name}) FROM {name} ORDER BY 1") for name in names}


def with_wording(folder: Path, name: str) -> Recipe:
    """Return the demo recipe with another text of one wording."""
    shutil.copytree(changed_recipe().wordings_folder, folder)
    wording = folder / f"{name}.txt"
    wording.write_text(wording.read_text(encoding="utf-8") + "\nBe exact.", encoding="utf-8")
    return changed_recipe({"wordings": str(folder)})


def misfits(graph: Graph) -> list[str]:
    """Return all parts of a graph that do not fit."""
    with graph.warehouse.read() as connection:
        lineage = Lineage(connection, graph.recipe.settings())
        return [
            misfit.text
            for key in graph.defs.resolve_asset_graph().toposorted_asset_keys
            for partition in partitions_of(graph, key)
            for misfit in lineage.misfits_of(TablePart(key.to_user_string(), partition))
        ]


def test_what_was_made_in_order_fits(made: Graph) -> None:
    assert misfits(made) == []


def test_each_edge_of_the_graph_is_a_file(made: Graph) -> None:
    graph = made.defs.resolve_asset_graph()
    declared = {
        f"{key.to_user_string()}/{parent.to_user_string()}"
        for key in graph.get_all_asset_keys()
        for parent in graph.get(key).parent_keys
    }
    edges = {name for name in sql_files.sql_names("edges") if not name.endswith("/recipe")}
    # A request is named by all that is put into it: what names it is an edge, and says enough.
    named = {
        *(f"completions/{name}" for name in ("alignment_prompts", "wordings", "personas")),
        "judge_comparisons/completions",
    }
    # The recipe comes first for Dagster's UI; what a table takes of it is told of the table.
    begun = {name for name in declared if name.endswith("/recipes")}
    assert edges == declared - named - begun


def test_answers_that_were_asked_again_are_scored_again(made: Graph) -> None:
    """Case 2: a damaged file of the spool is set aside, and the partition's completions made."""
    folder = made.run.spool / "completions" / POLICY
    for file in folder.glob("*.parquet"):
        if file.name != EMPTY_FILE:
            file.rename(f"{file}.torn")
    other = made.with_inference()
    other.inference = OtherInference(log=made.inference.log)
    other.materialize("key:completions", POLICY)

    ((rows,),) = made.query("SELECT count(*) FROM completions WHERE model = $m", {"m": POLICY})
    message = refusal(made)
    assert message.startswith(f"{FIRST}: nothing was made")
    assert (
        f"rewards[{POLICY}] was made of other rows of completions[{POLICY}] than stand there now "
        f"({rows:,} then, {rows:,} now)"
    ) in message
    assert message.endswith(f"Materialize first, in this order: rewards[{POLICY}]")

    other.materialize("key:rewards", POLICY)
    other.materialize(OF_POLICY, POLICY)
    assert misfits(made) == []


def test_the_same_answers_made_again_bar_nothing(made: Graph) -> None:
    made.materialize("key:completions or key:completion_requests", POLICY)
    made.materialize("key:dpo_pairs", POLICY)
    assert misfits(made) == []


def test_rewards_under_two_rubrics_are_not_compared(made: Graph, tmp_path: Path) -> None:
    """Case 3: the rubric's wording changes, and one model is scored again."""
    changed = made.with_recipe(with_wording(tmp_path / "wordings", "judge_charter_system"))
    changed.materialize("key:wordings")
    changed.materialize("key:rewards", MODEL)
    message = refusal(changed)
    assert f"rewards[{COOL}] was made of other rows of wordings" in message
    assert f"rewards[{MODEL}]" not in message


def test_rewards_by_two_rubrics_of_one_folder_are_not_compared(made: Graph) -> None:
    """Case 3, found by the model: the recipe names another rubric, whose text was there before."""
    changed = made.with_recipe(
        changed_recipe({"rewards.controversial.rubric": "judge_helpfulness_system"})
    )
    changed.materialize("key:rewards", MODEL)
    message = refusal(changed)
    assert f"rewards[{COOL}] was made by settings that the recipe has changed" in message
    assert f"rewards[{MODEL}]" not in message


def test_a_model_that_is_a_policy_now_is_asked_again_first(made: Graph) -> None:
    """What it answered as a model are no references."""
    now = {"completions.models": [MODEL], "completions.policies": [POLICY, COOL]}
    changed = made.with_recipe(
        changed_recipe({**now, "completions.standard_charter_models": [MODEL]})
    )
    message = refusal(changed, partition=COOL)
    assert f"completion_requests[{COOL}] was made by settings that the recipe has chang" in message


def test_rewards_of_two_scorers_are_not_compared(made: Graph) -> None:
    """Case 3, the other way: the recipe names another scorer."""
    changed = made.with_recipe(changed_recipe({"rewards.controversial.model": COOL}))
    changed.materialize("key:rewards", MODEL)
    message = refusal(changed)
    assert f"rewards[{COOL}] was made by settings that the recipe has changed" in message
    assert message.endswith(f"rewards[{COOL}], rewards[{POLICY}]")


def test_rewards_by_two_makings_of_a_scorer_are_not_compared(made: Graph) -> None:
    scorer = made.recipe.rewards.controversial.model
    models = made.recipe.model_dump(mode="json")["models"]
    models[scorer]["chat_template_arguments"] = {"enable_thinking": False}
    changed = made.with_recipe(changed_recipe({"models": models}))
    changed.materialize("key:rewards", MODEL)
    with pytest.raises(Exception, match="one_scorer"):
        changed.materialize("key:judge_comparisons", POLICY)


def test_a_rank_is_not_compared_with_a_rating(made: Graph) -> None:
    """Case 4: the threshold changes, and all is made again but the rewards of one model."""
    changed = made.with_recipe(changed_recipe({"controversy.threshold": 3}))
    changed.materialize("key:controversy_labels or key:alignment_prompts")
    changed.materialize("key:completion_requests or key:completions")
    for model in (MODEL, POLICY):
        changed.materialize("key:rewards", model)
    message = refusal(changed)
    assert f"rewards[{COOL}] was made of other rows" in message
    assert message.endswith(f"Materialize first, in this order: rewards[{COOL}]")


def test_answers_go_with_the_prompt_that_they_answer(made: Graph, tmp_path: Path) -> None:
    """Case 5: a source's text changes in white space only, which leaves its id as it is."""
    content = made.recipe.model_dump(mode="json")
    source = made.recipe.resolve(content["prompts"][0]["dataset"])
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        for message in row["chosen"] if isinstance(row["chosen"], list) else ():
            if isinstance(message["content"], str):
                message["content"] = message["content"].replace(" ", "  ")
    copy = tmp_path / source.name
    copy.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    content["prompts"][0]["dataset"] = str(copy)
    changed = made.with_recipe(changed_recipe({"prompts": content["prompts"]}))
    name = content["prompts"][0]["name"]

    changed.materialize("key:source_prompts", name)
    assert "was made of other rows of source_prompts" in refusal(changed)
    changed.materialize("key:origin_consent")
    changed.materialize(PROMPTS)
    message = refusal(changed)
    assert f"completion_requests[{MODEL}] was made of other rows of alignment_prompts" in message
    assert "dpo_pairs" not in message


def test_prompts_that_were_excluded_later_take_their_pairs_along(made: Graph) -> None:
    """Case 6: the licence is tightened together with a limit, so that as many prompts stay."""
    ((subset, prompts),) = made.query(
        "SELECT source, (SELECT count(*) FROM alignment_prompts) FROM licensed_prompts "
        "WHERE source IS NOT NULL GROUP BY source ORDER BY count(*) LIMIT 1"
    )
    changed = made.with_recipe(
        changed_recipe({"licence": {"excluded_subsets": [subset]}, "limit": prompts - 1})
    )
    changed.materialize(PROMPTS)
    gone = changed.query(
        "SELECT count(*) FROM completions ANTI JOIN alignment_prompts USING (prompt_id)"
    )
    assert gone > [(0,)]
    assert "was made of other rows of alignment_prompts" in refusal(changed)

    changed.materialize()
    for table in ("completions", "rewards", "quantile_rewards", "selected_pairs", "dpo_pairs"):
        left = f"SELECT count(*) FROM {table} ANTI JOIN alignment_prompts USING (prompt_id)"
        assert changed.query(left) == [(0,)], table
    assert misfits(changed) == []


def test_a_pair_without_anything_above_it_is_refused(graph: Graph) -> None:
    with pytest.raises(InconsistentError) as refused:
        graph.materialize("key:dpo_pairs", POLICY)
    assert "source_prompts[preference_mix] has not been made" in str(refused.value)


def test_rows_that_somebody_took_away_are_missed(made: Graph) -> None:
    with made.warehouse.get_connection() as connection:
        connection.execute(f"DELETE FROM rewards WHERE model = '{COOL}' AND track = 'standard'")
    message = refusal(made)
    assert f"rewards[{COOL}] has " in message and "rows where" in message


def test_rows_of_a_dropped_table_count_no_more(made: Graph) -> None:
    with made.warehouse.get_connection() as connection:
        connection.execute("DROP TABLE quantile_rewards")
    assert f"quantile_rewards[{POLICY}] has not been made" in refusal(made, "key:selected_pairs")


def test_all_made_again_is_the_same_making(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    versions = (
        "SELECT table_name, partition, version FROM lineage WHERE upstream IS NULL ORDER BY ALL"
    )
    before = graph.query(versions)
    graph.materialize()
    assert graph.query(versions) == before
    graph.materialize("key:completions", "smollm2-135m")
    assert graph.query(versions) == before
