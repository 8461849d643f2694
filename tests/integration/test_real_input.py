"""The whole graph for real: real prompts with people's labels, through vLLM on this machine."""

from __future__ import annotations

import csv
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
    read = load_recipe(str(RECIPE))
    assert read.human_labels
    labels = some_labels(read.resolve(read.human_labels.dataset), tmp_path, 5 * count)
    human_labels = read.human_labels.model_copy(update={"dataset": str(labels)})
    recipe = read.model_copy(update={"limit": count, "human_labels": human_labels})
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
    assert agreement[1][2] == 5 * count
    assert agreement[1][3] > 0
    # The grader is tried on all of them, whatever the limit.
    assert rows["grader_trials"] == 5 * count


def some_labels(path: Path, folder: Path, prompts: int) -> Path:
    """Write the labels of the first prompts of a file to another."""
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    kept = list(dict.fromkeys(prompt for prompt, *_ in rows))[:prompts]
    cut = folder / "labels.csv"
    with cut.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *(row for row in rows if row[0] in kept)])
    return cut
