"""The whole graph for real: real prompts with people's labels, through vLLM on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dagster import DagsterInstance

from alignment_assets.commands.materialize import execute, plan_launches
from alignment_assets.definitions import build_defs
from alignment_assets.inference.backends.vllm.backend import VllmInference
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

pytestmark = pytest.mark.integration

RECIPE = Path(__file__).parent.parent / "recipes" / "real_input.yaml"


@pytest.mark.needs("shared_data")
# Forty take nine minutes of one core; four go every way that forty do.
@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.soak)])
def test_real_prompts_become_training_rows(
    count: int,
    smollm2: Path,
    tmp_path: Path,
    instance: DagsterInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = load_recipe(str(RECIPE)).model_copy(update={"limit": count})
    run = Run(recipe, tmp_path)
    warehouse = Warehouse(database=str(run.database))
    defs = build_defs(run, {"warehouse": warehouse, "inference": VllmInference()})

    results = [result for _, result in execute(defs, plan_launches(defs), instance)]

    failed = [e for result in results for e in result.get_asset_check_evaluations() if not e.passed]
    assert failed == []
    with warehouse.read() as connection:
        rows = {
            name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
            for name in sql_files.tables()
        }
        agreement = connection.execute("FROM controversy_agreement ORDER BY threshold").fetchall()
        grades = connection.execute("SELECT count(grade) FROM controversy_labels").fetchall()[0][0]
        limited = connection.execute(
            "SELECT count(DISTINCT prompt_id) FROM prompt_exclusions WHERE rule = 'limit'"
        ).fetchall()[0][0]
    with capsys.disabled():
        print("\n" + json.dumps({"rows": rows, "agreement": agreement}, indent=None))
    assert rows["source_prompts"] == 1000 + 6 + 9
    assert rows["licensed_prompts"] == count < limited
    assert rows["alignment_prompts"] == count - (rows["controversy_labels"] - grades)
    assert rows["completions"] == rows["rewards"] == rows["completion_requests"] > count * 4
    assert rows["dpo_pairs"] + rows["selection_exclusions"] == rows["alignment_prompts"]
    assert rows["dpo_pairs"] > rows["alignment_prompts"] / 2
    # Real labels of real people: two annotators who mostly agree.
    assert agreement[1][2] == 500
    assert agreement[1][3] > 0
