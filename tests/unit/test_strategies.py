"""A strategy is one file: added to a copy of the checkout, and refused where it breaks a rule."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance

from alignment_assets.assets import training_sets
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse, WarehouseError
from tests.conftest import REPOSITORY, Graph, changed_recipe
from tests.support.fakes import FakeInference
from tests.support.ids import uid
from tests.support.reference_selection import Candidate, Rules
from tests.support.tables import (
    fill,
    fill_candidates,
    new_warehouse,
    read_rows,
    run_asset,
    take_as_made,
)

RECIPE = changed_recipe()
(POLICY,) = RECIPE.completions.policies
RULES = Rules(policy=POLICY, models=RECIPE.completions.models)
CLOSEST = """
-- The hardest pair: the highest reward against the second highest.
SELECT two[1] AS chosen, two[2] AS rejected
FROM (SELECT arg_max(candidate, reward, 2) AS two FROM candidates GROUP BY prompt)
"""
SHORTEST = """
-- The shortest of those of quantile 1, against one of the lowest quantile.
SELECT
    candidates.*,
    CASE WHEN quantile = 1 THEN completion_tokens END AS chosen_order,
    quantile AS rejected_order
FROM candidates
JOIN policy_tokens ON completion_id = candidate AND policy = $policy
"""
Add = Callable[[str], Rules]


def candidates() -> list[Candidate]:
    """Return two prompts with a completion of each model and four of the policy, all different."""
    models = [*RECIPE.completions.models, *[POLICY] * 4]
    return [
        Candidate(
            completion_id=f"{prompt}/{number}",
            prompt_id=prompt,
            track="standard",
            model=model,
            variant="reference" if model == POLICY else "default",
            text=f"text {number} of {prompt}",
            score=float(number),
            sample_index=number,
        )
        for prompt in ("one", "two")
        for number, model in enumerate(models)
    ]


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = new_warehouse(tmp_path / "home")
    fill_candidates(warehouse, candidates())
    return warehouse


@pytest.fixture
def add(tmp_path: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Put a strategy into a copy of sql/ that this process reads; return rules that name it."""
    shutil.copytree(REPOSITORY / "sql", tmp_path / "sql")
    monkeypatch.setattr(sql_files, "project_folder", lambda name: tmp_path / name)
    run_asset(warehouse, "quantile_rewards", RULES)

    def added(query: str) -> Rules:
        name = f"added_{abs(hash(query))}"  # files are read once in a process
        (tmp_path / "sql/selection" / f"{name}.sql").write_text(query, encoding="utf-8")
        return replace(RULES, strategy=name)

    return added


@pytest.mark.slow
def test_a_file_and_a_line_of_the_recipe_add_a_strategy(
    tmp_path: Path, warehouse: Warehouse, instance: DagsterInstance
) -> None:
    # The ranking of another prompt: without controversial ones it would have to be made first.
    ranked = {"policy": POLICY, "prompt_id": uid("three"), "completion_id": uid("three/1")}
    fill(warehouse, "judge_rankings", [ranked])
    take_as_made(Graph(changed_recipe(), warehouse.home, instance, FakeInference()))
    checkout = tmp_path / "checkout"
    for folder in ("alignment_assets", "sql", "recipes"):
        shutil.copytree(REPOSITORY / folder, checkout / folder)
    shutil.copy(REPOSITORY / "dagster.yaml", checkout)
    (checkout / "sql/selection/closest.sql").write_text(CLOSEST.strip(), encoding="utf-8")
    recipe = checkout / "recipes/demo.yaml"
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    content["selection"]["strategy"] = "closest"
    recipe.write_text(yaml.safe_dump(content), encoding="utf-8")

    done = subprocess.run(
        [
            *(sys.executable, "-c", "from alignment_assets.commands.app import main; main()"),
            *("materialize", "--recipe", "demo", "--select"),
            "key:quantile_rewards or key:selected_pairs or key:dpo_pairs",  # which ask no engine
        ],
        cwd=checkout,  # which is where Python finds the package
        env={
            **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
            "ALIGNMENT_HOME": str(warehouse.home),
        },
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    pairs = sorted(
        read_rows(warehouse, "FROM dpo_pairs"), key=lambda row: str(row["chosen_completion_id"])
    )
    assert [(p["chosen_completion_id"], p["rejected_completion_id"]) for p in pairs] == [
        ("one/5", "one/4"),
        ("two/5", "two/4"),
    ]
    assert pairs[0]["rejected"] == [{"role": "assistant", "content": "text 4 of one"}]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (CLOSEST.replace("two[1] AS chosen, two[2]", "two[2] AS chosen, two[1]"), "chosen_above"),
        (
            "SELECT max(candidate) AS chosen, min(candidate) AS rejected FROM candidates",
            "pairs completions of two prompts, .* join them on prompt",
        ),
        (
            "SELECT arg_max(candidate, reward) AS best FROM candidates GROUP BY prompt",
            r"gives the columns \['best'\]; give chosen and rejected, .* with chosen_order",
        ),
        (
            CLOSEST.replace("two[1] AS chosen", "uuid() AS chosen"),
            "which are no candidates; give values of the column candidate, or NULL",
        ),
    ],
)
def test_a_strategy_that_breaks_a_rule_publishes_nothing(
    warehouse: Warehouse, add: Add, query: str, complaint: str
) -> None:
    run_asset(warehouse, "selected_pairs", RULES)
    before = read_rows(warehouse, "FROM selected_pairs")
    with pytest.raises(Exception, match=complaint) as refused:
        run_asset(warehouse, "selected_pairs", add(query))
    assert "sql/" in str(refused.value)
    assert read_rows(warehouse, "FROM selected_pairs") == before != []


def test_a_strategy_says_in_which_order_candidates_are_chosen_and_rejected(
    warehouse: Warehouse, add: Add
) -> None:
    tokens = {f"{prompt}/{number}": 50 - number for prompt in ("one", "two") for number in range(6)}
    with warehouse.get_connection() as connection:
        for name, count in tokens.items():
            connection.execute(
                "UPDATE policy_tokens SET completion_tokens = $count WHERE completion_id = $name",
                {"count": count, "name": uid(name)},
            )
    run_asset(warehouse, "selected_pairs", replace(add(SHORTEST), pairs_per_prompt=2))
    pairs = read_rows(warehouse, "FROM selected_pairs ORDER BY chosen_completion_id")
    chosen = [row["chosen_completion_id"] for row in pairs]
    assert sorted(chosen) == ["one/5", "two/5"]  # 4 is not of quantile 1
    assert {row["rejected_completion_id"] for row in pairs} <= {"one/0", "two/0"}


def test_a_strategy_may_pass_over_prompts_with_null(warehouse: Warehouse, add: Add) -> None:
    once = CLOSEST.replace(
        "two[1] AS chosen", "CASE WHEN $pair_index = 0 THEN two[1] END AS chosen"
    )
    once = once.replace(
        "two[2] AS rejected", "CASE WHEN $pair_index = 0 THEN two[2] END AS rejected"
    )
    assert once.count("$pair_index") == 2
    run_asset(warehouse, "selected_pairs", replace(add(once), pairs_per_prompt=2))
    assert len(read_rows(warehouse, "FROM selected_pairs")) == 2


def test_a_further_pair_that_takes_a_text_again_is_refused(warehouse: Warehouse, add: Add) -> None:
    rules = replace(add(CLOSEST), pairs_per_prompt=2)  # which does not look at `taken`
    with pytest.raises(WarehouseError, match="no_text_twice"):
        run_asset(warehouse, "selected_pairs", rules)


def test_a_prompt_that_a_strategy_passes_over_is_listed_so(warehouse: Warehouse, add: Add) -> None:
    of_one = f"SELECT prompt FROM candidates WHERE candidate = '{uid('one/5')}'"
    only_one = CLOSEST.replace("FROM candidates", f"FROM candidates WHERE prompt IN ({of_one})")
    rules = add(only_one)
    for table in ("selected_pairs", "selection_exclusions"):
        run_asset(warehouse, table, rules)
    (row,) = read_rows(warehouse, "FROM selection_exclusions")
    assert (row["prompt_id"], row["reason"]) == ("two", "not_selected")


def test_pairs_are_stale_after_a_change_of_their_strategy_and_of_nothing_else(
    tmp_path: Path,
) -> None:
    def versions(**changes: Any) -> dict[str, str | None]:
        recipe = changed_recipe({f"selection.{key}": value for key, value in changes.items()})
        return {
            one.key.to_user_string(): one.code_versions_by_key[one.key]
            for one in training_sets.training_set_assets(Run.of(recipe))
        }

    usual = versions()
    for changes in ({"strategy": "best_worst"}, {"pairs_per_prompt": 3}):
        other = versions(**changes)
        assert {name for name in usual if usual[name] != other[name]} == {"selected_pairs"}
