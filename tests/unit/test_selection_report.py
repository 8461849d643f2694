"""Strategies side by side, held against the same figures in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.assets.selection_report import draw_each
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import Graph, changed_recipe
from tests.support.random_candidates import MODELS, POLICIES, random_candidates
from tests.support.reference_selection import (
    Candidate,
    Placed,
    Rules,
    is_candidate,
    place,
    select,
)
from tests.support.tables import (
    fill_candidates,
    new_warehouse,
    parameters,
    read_rows,
    run_asset,
)

PROMPTS = 300
RULES = Rules(policy=POLICIES[0], models=MODELS, model_order=("qwen", "llama"))
DRAWS = {
    **{name: (name, RULES.seed) for name in sql_files.sql_names("selection")},
    "published, seed 8": ("published", RULES.seed + 1),
}
Pairs = dict[str, list[tuple[Placed, Placed]]]
Figures = dict[tuple[str | None, str, str], float]


@pytest.fixture(scope="module")
def prompts() -> dict[str, list[Placed]]:
    """The candidates of random prompts of one track, among their references."""
    found: dict[str, list[Candidate]] = {}
    for one in random_candidates(PROMPTS, seed=3):
        if one.track == "standard" and is_candidate(one, RULES):
            found.setdefault(one.prompt_id, []).append(one)
    return {
        name: place(everyone, {one.completion_id: one.score for one in everyone}, RULES)
        for name, everyone in found.items()
    }


@pytest.fixture(scope="module")
def warehouse(
    prompts: dict[str, list[Placed]], tmp_path_factory: pytest.TempPathFactory
) -> Warehouse:
    warehouse = new_warehouse(tmp_path_factory.mktemp("report"))
    fill_candidates(warehouse, [one.candidate for placed in prompts.values() for one in placed])
    run_asset(warehouse, "quantile_rewards", RULES)
    return warehouse


def reported(warehouse: Warehouse, rules: Rules = RULES) -> Figures:
    """Make the report; return its figures by draw, measure and what they are of."""
    values = parameters(rules)
    with warehouse.stage("selection_report", {"policy": rules.policy}) as staging:
        before = f"{staging.reads}.main.selection_report"
        draw_each(staging.connection, list(DRAWS.values()), before, values)
        staging.insert(sql_files.read_sql("assets", "selection_report"), values)
        staging.publish(values)
    names = {draw: name for name, draw in DRAWS.items()}
    return {
        (names.get((row["strategy"], row["seed"])), row["measure"], row["about"]): row["value"]
        for row in read_rows(warehouse, "FROM selection_report")
    }


def drawn(prompts: dict[str, list[Placed]]) -> Iterator[tuple[str, list[tuple[Placed, Placed]]]]:
    for name, (strategy, seed) in DRAWS.items():
        rules = replace(RULES, strategy=strategy, seed=seed)
        yield name, [pair for placed in prompts.values() for pair in select(placed, rules)]


def expected(prompts: dict[str, list[Placed]]) -> Figures:
    """Return the figures of the report, from their description alone."""
    found: Figures = {}
    pairs = dict(drawn(prompts))
    ids = {
        name: [(a.candidate.completion_id, b.candidate.completion_id) for a, b in some]
        for name, some in pairs.items()
    }
    for name, some in pairs.items():
        shares = {
            "chosen": [f"{a.candidate.model} {a.candidate.variant}" for a, _ in some],
            "rejected": [f"{b.candidate.model} {b.candidate.variant}" for _, b in some],
            "chosen_band": [a.band for a, _ in some],
            "rejected_band": [b.band for _, b in some],
            "language": ["und" for _ in some],
        }
        for measure, values in shares.items():
            for about, count in Counter(values).items():
                found[name, measure, str(about)] = count / len(some)
        lengths = [(a.candidate.completion_tokens, b.candidate.completion_tokens) for a, b in some]
        means = {
            "quantile_margin": sum(a.quantile - b.quantile for a, b in some) / len(some),
            "chosen_tokens": sum(a for a, _ in lengths) / len(some),
            "rejected_tokens": sum(b for _, b in lengths) / len(some),
            "chosen_longer": sum(a > b for a, b in lengths) / len(some),
            "rejected_longer": sum(a < b for a, b in lengths) / len(some),
            "pairs": len(some),
        }
        for measure, value in means.items():
            found[name, measure, "standard"] = found[name, measure, "all"] = value
        margin = sum(a.reward - b.reward for a, b in some) / len(some)
        found[name, "margin", "standard"] = margin
        for other in pairs.keys() - {name}:
            one, two = set(ids[name]), set(ids[other])
            found[name, "same_pairs", other] = len(one & two) / len(one | two)
            for side, measure in enumerate(("same_chosen", "same_rejected")):
                theirs = {pair[side] for pair in two}
                same = sum(pair[side] in theirs for pair in one)
                found[name, measure, other] = same / len(one)
    quantiles = [
        (one.quantile, one.n_references)
        for placed in prompts.values()
        for one in placed
        if one.candidate.variant == "reference" and one.quantile is not None
    ]
    even = [
        number / n
        for placed in prompts.values()
        for n in [placed[0].n_references]
        for number in range(1, n + 1)
    ]
    found[None, "reference_distance", "standard"] = max(
        abs(
            sum(quantile <= at + 1e-9 for quantile, _ in quantiles)
            - sum(one <= at + 1e-9 for one in even)
        )
        / len(quantiles)
        for at in {*(quantile for quantile, _ in quantiles), *even}
    )
    return found


def test_the_report_has_the_figures_of_plain_python(
    warehouse: Warehouse, prompts: dict[str, list[Placed]]
) -> None:
    found, wanted = reported(warehouse), expected(prompts)
    assert found.keys() == wanted.keys()
    for place_of, value in wanted.items():
        assert found[place_of] == pytest.approx(value, abs=1e-9), place_of
    assert 0 < found[None, "reference_distance", "standard"] < 1
    assert found["on_policy_only", "chosen", f"{RULES.policy} reference"] == 1


def test_a_strategy_that_draws_nothing_is_told(warehouse: Warehouse) -> None:
    found = reported(warehouse, replace(RULES, model_order=()))
    assert found["delta", "pairs", "all"] == 0
    assert [measure for name, measure, _ in found if name == "delta"] == ["pairs"]
    assert found["published", "pairs", "all"] > 0


def test_what_was_another_before_is_told_until_it_changes_again(warehouse: Warehouse) -> None:
    def before() -> dict[Any, Any]:
        return {
            (row["strategy"], row["measure"], row["about"]): row["previous_value"]
            for row in read_rows(warehouse, f"FROM selection_report WHERE seed = {RULES.seed}")
        }

    reported(warehouse)
    first = read_rows(warehouse, "FROM selection_report ORDER BY ALL")
    reported(warehouse)
    assert read_rows(warehouse, "FROM selection_report ORDER BY ALL") == first
    pairs = reported(warehouse)["published", "pairs", "all"]
    fewer = reported(warehouse, replace(RULES, min_references=6))["published", "pairs", "all"]
    assert fewer < pairs
    assert before()["published", "pairs", "all"] == pairs
    reported(warehouse, replace(RULES, min_references=6))
    assert before()["published", "pairs", "all"] == pairs
    assert reported(warehouse)["published", "pairs", "all"] == pairs
    assert before()["published", "pairs", "all"] == fewer


@pytest.mark.slow
def test_the_asset_reports_every_strategy_that_the_recipe_can_draw(
    materialized: Any, tmp_path: Path
) -> None:
    graph: Graph = materialized()
    (policy,) = graph.recipe.policies
    drawn = "SELECT DISTINCT strategy, seed FROM selection_report WHERE seed IS NOT NULL"
    without = {(name, graph.recipe.seed) for name in sql_files.sql_names("selection")}
    other = ("published", graph.recipe.seed + 1)
    assert set(graph.query(drawn)) == without - {("delta", graph.recipe.seed)} | {other}
    (same,) = graph.query(
        "SELECT value FROM selection_report WHERE strategy = 'published' AND measure = 'pairs' "
        f"AND about = 'all' AND seed = {graph.recipe.seed}"
    )
    assert same == graph.query("SELECT count(*)::DOUBLE FROM selected_pairs")[0]

    order = list(graph.recipe.completions.models)
    ordered = graph.with_recipe(changed_recipe({"selection.model_order": order}))
    ordered.materialize("key:selected_pairs or key:selection_report", policy)
    assert set(graph.query(drawn)) == without | {other}
