"""What left the recipe: hidden, told, and removed with its answers and Dagster's records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb
import pyarrow.parquet as pq
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRun
from typer.testing import CliRunner

from alignment_assets.commands import app as cli
from alignment_assets.commands import doctor as doctor_command
from alignment_assets.commands import tidy as tidy_command
from alignment_assets.commands.status import table_status
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import rewrite, sql_files
from alignment_assets.warehouse.query import created_at, run_query
from tests.conftest import Graph, changed_recipe, demo_graph

MODEL, COOL, POLICY = "smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"
REWARDS = sql_files.read_sql("analysis", "reward_by_model_and_variant")


def without(model: str) -> Recipe:
    recipe = changed_recipe()
    models = [name for name in recipe.completions.models if name != model]
    return changed_recipe(
        {"completions.models": models, "completions.standard_charter_models": [models[0]]}
    )


def renamed_policy() -> Recipe:
    content = changed_recipe().model_dump(mode="json", exclude_unset=True)
    models = {**content["models"], "renamed": content["models"][POLICY]}
    return changed_recipe({"models": models, "completions.policies": ["renamed"]})


OF_MODELS = "key:completion_requests or key:completions or key:rewards"


@pytest.fixture(scope="module")
def left_once(
    made_once: Callable[[str | None], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A finished graph whose recipe one model has left since, all remade without it."""
    folder = tmp_path_factory.mktemp("left")
    shutil.copytree(made_once(None), folder, dirs_exist_ok=True)
    (folder / "dagster").mkdir()
    with DagsterInstance.local_temp(str(folder / "dagster")) as instance:
        graph = demo_graph(folder, instance)
        graph.materialize(OF_MODELS, COOL)
        graph.with_recipe(without(COOL)).materialize()
    return folder


@pytest.fixture
def left(left_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """The same, to be changed, with the command working on it."""
    shutil.copytree(left_once, tmp_path, dirs_exist_ok=True)
    with DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        graph = demo_graph(tmp_path, instance).with_recipe(without(COOL))
        work_on(graph, monkeypatch)
        yield graph


def work_on(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = {"warehouse": graph.warehouse, "inference": graph.inference}
    monkeypatch.setattr(tidy_command, "default_resources", lambda run: resources)
    monkeypatch.setattr(tidy_command, "chosen_run", lambda recipe: graph.run)
    monkeypatch.setattr(tidy_command, "dagster_instance", lambda run: nullcontext(graph.instance))


def tidy(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["tidy", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def answered_by(graph: Graph, question: str = REWARDS) -> set[Any]:
    rows = run_query(graph.warehouse, question, graph.recipe.settings()).to_pylist()
    return {row["model"] for row in rows}


def everything(graph: Graph) -> dict[str, list[Any]]:
    """Return all rows but those of logs and records."""
    others = {"database_info", "inference_runs", "inference_forecasts", "lineage", "losses"}
    return {
        table: graph.query(f"SELECT hash({table}) FROM {table} ORDER BY ALL")
        for table in sql_files.tables().keys() - others
    }


def statuses(graph: Graph) -> dict[tuple[str, str | None], dict[str, Any]]:
    rows = table_status(graph.warehouse, graph.run, graph.defs, graph.instance).to_pylist()
    return {(row["table"], row["partition"]): row for row in rows}


def test_questions_and_exports_leave_out_who_left_and_full_names_have_them(left: Graph) -> None:
    assert COOL not in answered_by(left) and MODEL in answered_by(left)
    for table in ("completion_requests", "completions", "rewards"):
        assert answered_by(left, f"FROM {table}") == {MODEL, POLICY}
        assert answered_by(left, f"FROM alignment.{table}") == {MODEL, COOL, POLICY}
    assert answered_by(left, "SELECT DISTINCT model FROM query_table('rewards')") == {MODEL, POLICY}
    folder = left.warehouse.export(["completions", "lineage"])
    assert set(pq.read_table(folder / "completions.parquet")["model"].to_pylist()) == {
        MODEL,
        POLICY,
    }
    left.warehouse.snapshot()
    rows = run_query(left.warehouse, "FROM rewards", {}, snapshot=True).to_pylist()
    assert {row["model"] for row in rows} == {MODEL, POLICY}


def test_a_snapshot_that_has_fewer_tables_can_be_asked(left: Graph) -> None:
    target = left.home / "snapshots" / "old.duckdb"
    left.warehouse.snapshot(target)
    with duckdb.connect(str(target)) as old:
        old.execute("DROP TABLE selected_pairs")
    rows = run_query(left.warehouse, "FROM rewards", {}, snapshot=True).to_pylist()
    assert {row["model"] for row in rows} == {MODEL, POLICY}


def test_checks_of_a_table_leave_out_who_left(left: Graph) -> None:
    with left.warehouse.get_connection() as connection:
        connection.execute(f"UPDATE rewards SET variant = 'nonsense' WHERE model = '{COOL}'")
        connection.execute(f"DELETE FROM completions WHERE model = '{COOL}'")
    (result,) = left.with_checks().materialize("key:rewards", MODEL)
    checks = result.get_asset_check_evaluations()
    assert checks and all(check.passed for check in checks)


def test_who_left_is_listed_with_rows_and_bytes(left: Graph) -> None:
    rows = statuses(left)
    for table in ("completion_requests", "completions", "rewards"):
        row = rows[table, COOL]
        ((count,),) = left.query(f"SELECT count(*) FROM {table} WHERE model = '{COOL}'")
        assert row["rows"] == count > 0
        assert "left the recipe" in row["status"] and "alignment-assets tidy" in row["status"]
    looked = doctor_command._look(left.run, left.warehouse)
    (found,) = [finding for finding in looked if finding.subject == "left the recipe"]
    assert found.verdict == "warning" and COOL in found.text and "tidy" in found.text


def test_tidy_shows_then_removes_rows_answers_and_records(left: Graph) -> None:
    before = everything(left)
    shown = tidy()
    assert COOL in shown and "Nothing was removed" in shown
    assert everything(left) == before
    runs = len(left.instance.get_runs())
    kept = everything_but(left, COOL)

    said = tidy("--apply")

    assert everything(left) == kept
    assert left.query(f"SELECT * FROM lineage WHERE partition = '{COOL}'") == []
    assert not list(left.run.spool.glob(f"*/{COOL}"))
    for table in ("completion_requests", "completions", "rewards"):
        assert COOL not in left.instance.get_materialized_partitions(AssetKey(table))
        assert MODEL in left.instance.get_materialized_partitions(AssetKey(table))
    assert len(left.instance.get_runs()) < runs and "from Dagster's records" in said
    assert "Nothing to remove" in tidy()
    assert {row["status"] for row in statuses(left).values()} <= {"fresh", "empty"}


def everything_but(graph: Graph, model: str) -> dict[str, list[Any]]:
    rows = everything(graph)
    for table in ("completion_requests", "completions", "rewards"):
        rows[table] = graph.query(
            f"SELECT hash({table}) FROM {table} WHERE model <> '{model}' ORDER BY ALL"
        )
    return rows


def test_who_comes_back_after_tidying_is_missing_and_made_anew(
    left: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy("--apply")
    back = left.with_recipe(changed_recipe())
    assert statuses(back)["rewards", COOL]["status"] == "missing"
    back.materialize(OF_MODELS, COOL)
    assert COOL in answered_by(back)
    assert statuses(back)["rewards", COOL]["status"] == "fresh"


def test_who_comes_back_without_tidying_needs_no_engine(left: Graph) -> None:
    asked = len(left.asked())
    back = left.with_recipe(changed_recipe())
    back.materialize(OF_MODELS, COOL)
    assert len(back.asked()) == asked and COOL in answered_by(back)


def test_a_policy_with_another_name_leaves_its_old_pairs(
    materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = materialized().with_recipe(renamed_policy())
    graph.materialize()
    work_on(graph, monkeypatch)
    pairs = "SELECT DISTINCT policy AS model FROM dpo_pairs"
    assert answered_by(graph, pairs) == {"renamed"}
    folder = graph.warehouse.export(["dpo_pairs"])
    assert set(pq.read_table(folder / "dpo_pairs.parquet")["policy"].to_pylist()) == {"renamed"}
    exports = graph.run.exports
    assert {path.name for path in exports.iterdir()} == {POLICY, "renamed"}
    assert f"Removed {exports / POLICY}" in tidy("--apply").replace("\n", "")
    assert [path.name for path in exports.iterdir()] == ["renamed"]
    assert graph.query("SELECT DISTINCT policy FROM dpo_pairs") == [("renamed",)]
    assert graph.query("SELECT DISTINCT policy FROM selected_pairs") == [("renamed",)]
    assert [path.name for path in graph.run.exports.iterdir()] == ["renamed"]


def test_a_source_that_left_takes_its_rows_along(
    materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = materialized("key:source_prompts")
    names = graph.recipe.members["dataset"]
    content = graph.recipe.model_dump(mode="json", exclude_unset=True)["prompts"]
    fewer = graph.with_recipe(changed_recipe({"prompts": content[:-1]}))
    work_on(fewer, monkeypatch)
    assert names[-1] in tidy("--apply")
    assert {name for (name,) in fewer.query("SELECT dataset FROM source_prompts")} == set(
        names[:-1]
    )


def test_a_run_of_another_recipe_or_database_or_of_who_is_there_is_kept(left: Graph) -> None:
    created = created_at(left.warehouse)
    (mine,) = tidy_command.runs_of_left(left.instance, left.run, created)
    run = left.instance.get_run_by_id(mine)
    assert run and run.tags["dagster/partition"] == COOL
    other = left.recipe.model_copy(update={"name": "other"})
    assert tidy_command.runs_of_left(left.instance, left.with_recipe(other).run, created) == []
    before = Run(changed_recipe(), left.home)
    assert tidy_command.runs_of_left(left.instance, before, created) == []
    assert tidy_command.runs_of_left(left.instance, left.run, "2020-01-01") == []
    with patch.object(DagsterRun, "is_finished", False):
        assert tidy_command.runs_of_left(left.instance, left.run, created) == []


def test_most_of_a_file_is_removed_by_writing_it_anew(
    left: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewrite, "REWRITE_FROM_BYTES", 0)
    monkeypatch.setattr(rewrite, "REWRITE_SHARE", 0)
    with left.warehouse.get_connection() as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'keep me' AS note")
    kept = everything_but(left, COOL)
    tidy("--apply")
    assert everything(left) == kept
    assert left.query("FROM notes") == [("keep me",)]
    with duckdb.connect(str(left.run.database), read_only=True) as plain:
        assert plain.execute("SELECT count(*) FROM lineage WHERE upstream IS NULL").fetchone() > (
            0,
        )


def test_a_removal_that_fails_leaves_all_rows(left: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(left)
    monkeypatch.setattr("alignment_assets.warehouse.removed._forget", lambda *_: 1 / 0)
    for share in (0, 1):
        monkeypatch.setattr(rewrite, "REWRITE_FROM_BYTES", -1)
        monkeypatch.setattr(rewrite, "REWRITE_SHARE", share)
        with pytest.raises(ZeroDivisionError):
            tidy("--apply")
        assert everything(left) == before


@pytest.mark.slow
def test_rows_of_a_prompt_that_is_excluded_later_go_with_the_next_making(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    changes = {"max_prompt_characters": 60, "limits.excluded": 1.0}
    shorter = graph.with_recipe(changed_recipe(changes))
    shorter.materialize()
    assert len(shorter.query("FROM alignment_prompts")) < len(graph.query("FROM source_prompts"))
    for table in ("completion_requests", "completions", "rewards", "dpo_pairs", "qrpo_samples"):
        found = shorter.query(
            f"SELECT prompt_id FROM {table} ANTI JOIN alignment_prompts USING (prompt_id)"
        )
        assert found == [], table


def test_a_home_without_a_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path))
    result = CliRunner().invoke(cli.app, ["tidy"])
    assert "no database" in str(result.exception)


def test_members_are_told_by_column() -> None:
    recipe = changed_recipe()
    assert json.loads(json.dumps(recipe.members)) == {
        "dataset": [source.name for source in recipe.prompts],
        "candidate": [f"smollm2-135m-judge.controversy{ending}" for ending in ("", "_brief")],
        "scorer": ["standard", "controversial"],
        "model": [*recipe.answering_models],
        "policy": [POLICY],
    }
