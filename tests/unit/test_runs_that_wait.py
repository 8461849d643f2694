"""Runs whose database somebody else has open: what they say, keep and do when run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from dagster import DagsterInstance

from alignment_assets.host.locking import LockTimeout
from tests.conftest import Graph, changed_recipe
from tests.support.processes import other
from tests.unit.test_warehouse_sharing import hold

MODEL = "smollm2-135m"
COMPLETIONS = "key:completions", MODEL


@pytest.fixture
def prepared(materialized: Callable[..., Graph]) -> Graph:
    """All that completions need."""
    return materialized("+key:completion_requests")


def run_log(instance: DagsterInstance) -> str:
    records = instance.get_run_records(limit=1)
    return "\n".join(
        entry.user_message for entry in instance.all_logs(records[0].dagster_run.run_id)
    )


def test_a_run_that_gave_up_keeps_its_answers_and_the_next_only_publishes(prepared: Graph) -> None:
    hasty = replace(prepared, lock_timeout=2)
    database = prepared.warehouse.database
    with other(hold, database, True) as notebook:
        process = notebook.hear()
        with pytest.raises(LockTimeout, match="answers are safe in the spool"):
            hasty.materialize(*COMPLETIONS)
        told = run_log(prepared.instance)
        assert f"behind process {process} " in told and "s so far" in told
        asked = len(prepared.asked())
        assert asked > 0
        assert prepared.query("SELECT count(*) FROM completions") == [(0,)]
        notebook.tell()
        assert notebook.end() == 0
    prepared.materialize(*COMPLETIONS)
    assert len(prepared.asked()) == asked
    assert prepared.query("SELECT count(*) FROM completions") != [(0,)]


def test_the_recipe_stands_in_each_materialization_and_never_bars(graph: Graph) -> None:
    recipes = [changed_recipe({"seed": seed}) for seed in (1, 2, 1)]
    found = []
    for recipe in recipes:
        (result,) = graph.with_recipe(recipe).materialize("key:wordings")
        (event,) = result.get_asset_materialization_events()
        metadata = event.materialization.metadata
        assert metadata["recipe"].value == "demo"
        found.append(metadata["recipe_fingerprint"].value)
    assert found[0] == found[2] != found[1]
