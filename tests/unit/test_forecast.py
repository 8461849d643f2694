"""Forecasts: what is pending, what it will take, what a pilot asks, and how they turned out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from alignment_assets.commands import app as cli
from alignment_assets.commands import forecast as forecast_command
from alignment_assets.commands.forecast import for_terminal, total_line
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.requests.forecast import Forecaster, Pending, now_utc
from alignment_assets.warehouse import sql_files
from tests.conftest import Graph, changed_recipe
from tests.support.tables import read_rows

NOW = datetime(2026, 3, 1, 12)
RUN: dict[str, Any] = {
    "inference_run_id": "run", "dagster_run_id": "dagster", "asset": "completions",
    "partition": "small", "task": "generate", "model": "small", "model_fingerprint": "now",
    "weights": "weights", "engine": "fake", "engine_version": "1", "engines": 1, "gpus": 0,
    "requests": 1000, "answered": 1000, "failed": 0, "prompt_tokens": 100_000,
    "completion_tokens": 250_000, "cached_tokens": 40_000, "restarts": 0, "seconds_loading": 0.0,
    "seconds": 500.0, "spool_bytes": 600_000, "outcome": "done", "started_at": NOW, "ended_at": NOW,
}  # fmt: skip


def forecaster(graph: Graph) -> Forecaster:
    return Forecaster(graph.run, graph.warehouse, graph.inference, GpuPool(), lambda line: None)


def add_runs(graph: Graph, *runs: dict[str, Any]) -> None:
    graph.warehouse.append("inference_runs", pa.Table.from_pylist([{**RUN, **run} for run in runs]))


def pending(position: int, model: str, requests: int | None, **changes: Any) -> Pending:
    values = {"asset": "completions", "partition": model, "task": "generate", "exact": True}
    return Pending(
        position=position, model=model, requests=requests, model_fingerprint="now",
        **(values | changes),
    )  # fmt: skip


def cast_rows(
    cast: Forecaster, listed: Sequence[Pending] | None = None, now: datetime = NOW
) -> pa.Table:
    """Return the forecast for what is listed; for what is pending now without a list."""
    with cast.warehouse.read() as connection:
        listed = cast.pending(connection) if listed is None else listed
        return cast.forecast(connection, listed, now)


def forecast(graph: Graph, *listed: Pending) -> list[dict[str, Any]]:
    return cast_rows(forecaster(graph), listed).to_pylist()


def counted(graph: Graph) -> dict[tuple[str, str | None], int | None]:
    """Return the pending requests of each asset and partition."""
    totals: dict[tuple[str, str | None], int | None] = {}
    with graph.warehouse.read() as connection:
        listed = forecaster(graph).pending(connection)
    for one in listed:
        place, before = (one.asset, one.partition), totals.get((one.asset, one.partition), 0)
        unknown = before is None or one.requests is None
        totals[place] = None if unknown else (before or 0) + (one.requests or 0)
    return totals


def test_figures_go_by_what_runs_of_the_model_and_task_took(graph: Graph) -> None:
    add_runs(
        graph,
        # 1,000 requests in 500 s on 4 engines of 2 GPUs, 3,000 more in 1,000 s on the same.
        {"engines": 4, "gpus": 8, "seconds_loading": 90.0},
        {
            "engines": 4, "gpus": 8, "requests": 3000, "answered": 3000, "seconds": 1000.0,
            "prompt_tokens": 500_000, "completion_tokens": 350_000, "spool_bytes": 1_000_000,
            "started_at": NOW + timedelta(hours=1),
        },
        {"task": "rate", "seconds": 1e6},
        {"model": "other", "seconds": 1e6},
        {"model_fingerprint": "before", "seconds": 1e6},
        {"answered": 0, "seconds": 1e6, "outcome": "WorkerError: died"},
    )  # fmt: skip
    (row,) = forecast(graph, pending(0, "small", 8000))
    assert row["basis"] == "runs" and row["counted"] == "exact"
    assert (row["pending"], row["prompt_tokens"], row["completion_tokens"]) == (
        8000, 8000 * 600 // 4, 8000 * 600 // 4,
    )  # fmt: skip
    assert row["bytes"] == 8000 * 400
    # 1,500 s on 4 engines for 4,000 requests: 1.5 s of an engine each.
    assert row["engine_hours"] == pytest.approx(8000 * 1.5 / 3600, abs=1e-3)
    assert row["gpu_hours"] == pytest.approx(2 * 8000 * 1.5 / 3600, abs=1e-3)
    assert row["seconds"] == 3000
    assert row["finishes_at"] == NOW + timedelta(seconds=3090)


def test_partitions_finish_one_after_another_until_one_is_unknown(graph: Graph) -> None:
    add_runs(graph, {}, {"model": "large", "seconds": 2000.0, "seconds_loading": 30.0})
    rows = forecast(
        graph,
        pending(0, "large", 100),
        pending(1, "done", 0),
        pending(2, "small", 1000),
        pending(3, "new", 1000),
        pending(4, "small", 10, asset="rewards", exact=False),
        pending(5, "small", None, asset="judge_comparisons"),
    )
    ends = [row["finishes_at"] for row in rows]
    assert ends == [NOW + timedelta(seconds=230), NOW + timedelta(seconds=730), None, None, None]
    assert [row["basis"] for row in rows] == ["runs", "runs", "no runs yet", "runs", "runs"]
    assert rows[2]["prompt_tokens"] is rows[2]["bytes"] is rows[2]["engine_hours"] is None
    assert rows[3]["counted"] == "expected" and rows[3]["seconds"] == 5
    assert rows[4]["pending"] is None


def test_two_questions_to_one_model_are_one_row(graph: Graph) -> None:
    add_runs(graph, {"task": "rate"})
    parts = [pending(n, "small", 10 + n, task="rate", exact=n == 0) for n in range(2)]
    (row,) = forecast(graph, *parts)
    assert (row["pending"], row["counted"], row["seconds"]) == (21, "expected", 10.5)


def test_runs_of_other_weights_and_pilots_are_marked(graph: Graph) -> None:
    add_runs(graph, {"model_fingerprint": "before"}, {"model": "new", "dagster_run_id": None})
    rows = forecast(graph, pending(0, "small", 10), pending(1, "new", 10))
    assert [row["basis"] for row in rows] == ["runs of another fingerprint", "pilot"]
    assert rows[0]["seconds"] == rows[1]["seconds"] == 5


def test_engines_that_a_small_pilot_left_idle_do_not_count(graph: Graph) -> None:
    add_runs(graph, {"engines": 4, "gpus": 4, "requests": 50, "answered": 50, "seconds": 50.0})
    (row,) = forecast(graph, pending(0, "small", 3600))
    assert row["engine_hours"] == row["gpu_hours"] == 1
    assert row["seconds"] == 900


def test_a_cluster_that_has_grown_is_forecast_as_it_is_now(graph: Graph) -> None:
    add_runs(
        graph, {"engines": 2, "gpus": 4, "requests": 3600, "answered": 3600, "seconds": 1800.0}
    )
    (row,) = forecast(graph, replace(pending(0, "small", 3600), engines=8))
    assert row["seconds"] == 450
    assert (row["engine_hours"], row["gpu_hours"]) == (1, 2)


def test_before_there_are_prompts_the_published_ones_count(graph: Graph) -> None:
    apertus = graph.with_recipe(changed_recipe(name="apertus"))
    expected = counted(apertus)
    of = {asset: 0 for asset, _ in expected}
    for (asset, _), requests in expected.items():
        of[asset] += requests or 0
    assert of["completions"] == of["rewards"] == 13_977_587
    assert expected["completions", "apertus-8b-sft"] == 4_532_350
    assert of["judge_comparisons"] == 2 * 72_698 * 20
    assert of["controversy_labels"] == 380_537 + 72_698
    small = counted(graph.with_recipe(changed_recipe({"limit": 453_235 // 5}, "apertus")))
    assert small["completions", "apertus-8b-sft"] == pytest.approx(4_532_350 / 5, rel=1e-4)
    cast = forecaster(apertus)
    cast.keep(cast_rows(cast), NOW)
    assert graph.query(
        "SELECT sum(requests)::BIGINT, count(seconds), count(bytes), any_value(basis) "
        "FROM inference_forecasts WHERE asset = 'completions'"
    ) == [(13_977_587, 0, 0, "no runs yet")]
    # Nothing is known about the prompts of the demo.
    assert set(counted(graph).values()) == {None}


def test_what_is_expected_of_the_prompts_is_what_a_run_asks(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("+key:alignment_prompts or key:human_labels")
    expected = counted(graph)
    assert expected.pop(("controversy_labels", None)) == 0
    graph.materialize('not (+key:"alignment_prompts" or key:"human_labels")')
    asked = graph.query(
        "SELECT asset, partition, sum(requests)::BIGINT FROM inference_runs "
        "WHERE asset <> 'controversy_labels' GROUP BY ALL"
    )
    assert expected == {(asset, partition): requests for asset, partition, requests in asked}
    assert set(counted(graph).values()) == {0}


def test_a_model_that_joins_is_pending_alone(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    content = graph.recipe.model_dump(mode="json")
    models = {**content["models"], "newcomer": content["models"]["smollm2-135m"]}
    names = [*content["completions"]["models"], "newcomer"]
    more = graph.with_recipe(changed_recipe({"models": models, "completions.models": names}))
    requests = counted(more)
    new = {place: count for place, count in requests.items() if count}
    ((prompts,),) = graph.query("SELECT count(*) FROM alignment_prompts")
    assert new.pop(("completions", "newcomer")) == new.pop(("rewards", "newcomer")) == 2 * prompts
    # Its candidates change, and what is selected of them.
    assert {asset for asset, _ in new} == {
        *("judge_comparisons", "reference_logprobs"),
        *("degraded_answers", "calibration_answers"),  # of equals the first by name is the largest
    }


def test_a_pilot_asks_few_of_each_kind_and_the_run_asks_the_rest(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("+key:completion_requests")
    before = len(graph.asked())
    cast = forecaster(graph)
    assert cast.pilot(5) == 15  # three models that answer; what rates them has nothing to rate yet
    assert cast.pilot(5) == 0
    pilot = graph.asked()[before:]
    assert len(pilot) == 15 and {request["task"] for request in pilot} == {"generate"}
    assert graph.query("SELECT count(*) FROM inference_runs WHERE dagster_run_id IS NULL") == [(3,)]
    rows = {row["partition"]: row for row in cast_rows(cast).to_pylist()
            if row["asset"] == "completions"}  # fmt: skip
    assert {row["basis"] for row in rows.values()} == {"pilot"}
    totals = dict(graph.query("SELECT model, count(*) FROM completion_requests GROUP BY ALL"))
    assert {model: row["pending"] for model, row in rows.items()} == {
        model: total - 5 for model, total in totals.items()
    }
    # The fake engine generates twelve words.
    assert all(row["completion_tokens"] == 12 * row["pending"] for row in rows.values())

    graph.materialize("key:completions")

    asked = [r["request_id"] for r in graph.asked()[before:]]
    assert len(asked) == len(set(asked)) == sum(totals.values())


def test_a_pilot_of_a_scorer_asks_both_tracks_in_proportion(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("+key:completions")
    before = len(graph.asked())
    assert forecaster(graph).pilot(20) == 20 + 12  # and all that ladders ask
    tracks = dict(
        graph.query(
            "SELECT track, count(*) FROM completions JOIN alignment_prompts USING (prompt_id) "
            "WHERE model = 'smollm2-135m' GROUP BY ALL"
        )
    )
    asked = [request for request in graph.asked()[before:] if request["task"] == "rate"]
    systems = [request["messages"][0]["content"] for request in asked]
    most = max(systems.count(system) for system in systems)
    assert len(set(systems)) == 2
    assert most == round(20 * max(tracks.values()) / sum(tracks.values()))


def test_a_forecast_is_held_against_what_came(materialized: Callable[..., Graph]) -> None:
    graph = materialized("+key:completion_requests")
    cast = forecaster(graph)
    cast.pilot(5)
    for made_at in (datetime(2020, 1, 1), now_utc()):  # the later one counts
        cast.keep(cast_rows(cast, now=made_at), made_at)
    model = "smollm2-135m"
    graph.materialize("key:completions", model)
    rows = read_rows(graph.warehouse, sql_files.read_sql("analysis", "forecast_against_actual"))
    by_model = {row["model"]: row for row in rows}
    row = by_model[model]
    ((total, prompt_tokens, size, seconds),) = graph.query(
        "SELECT requests, prompt_tokens, spool_bytes, seconds FROM inference_runs "
        f"WHERE model = '{model}' AND dagster_run_id IS NOT NULL AND task = 'generate'"
    )
    assert row["made_at"].year > 2020
    assert row["requests"] == total
    assert (row["completion_tokens"], row["completion_tokens_ratio"]) == (12 * total, 1)
    assert (row["prompt_tokens"], row["bytes"]) == (prompt_tokens, size)
    assert row["seconds"] == round(seconds, 4)
    pilot = "SELECT prompt_tokens / 5 FROM inference_runs WHERE dagster_run_id IS NULL"
    ((mean,),) = graph.query(f"{pilot} AND model = '{model}'")
    assert row["forecast_prompt_tokens"] == round(mean * total)
    assert row["prompt_tokens_ratio"] == round(prompt_tokens / round(mean * total), 2)
    # The other models' pilots followed the first forecast only in date.
    assert all(other["requests"] == 5 for name, other in by_model.items() if name != model)


def test_half_a_run_is_compared_with_half_the_forecast(graph: Graph) -> None:
    made = {
        "made_at": NOW, "asset": "completions", "partition": "small", "model": "small",
        "task": "generate", "requests": 2000, "prompt_tokens": 400_000, "basis": "pilot",
        "completion_tokens": 250_000, "seconds": 500.0, "bytes": 1_200_000,
    }  # fmt: skip
    graph.warehouse.append("inference_forecasts", pa.Table.from_pylist([made]))
    add_runs(graph, {"started_at": NOW + timedelta(minutes=1)}, {"started_at": NOW - timedelta(1)})
    (row,) = read_rows(graph.warehouse, sql_files.read_sql("analysis", "forecast_against_actual"))
    assert (row["requests"], row["forecast_prompt_tokens"], row["forecast_seconds"]) == (
        1000, 200_000, 250,
    )  # fmt: skip
    ratios = [
        row[f"{name}_ratio"] for name in ("prompt_tokens", "completion_tokens", "seconds", "bytes")
    ]
    assert ratios == [0.5, 2, 2, 1]


def test_the_command_tells_keeps_and_compares(graph: Graph, monkeypatch: Any) -> None:
    resources = {"warehouse": graph.warehouse, "inference": graph.inference, "gpus": GpuPool()}
    monkeypatch.setattr(forecast_command, "default_resources", lambda run: resources)
    monkeypatch.setattr(forecast_command, "chosen_run", lambda recipe: graph.run)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli.app, ["forecast", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "alignment-assets forecast --pilot 50" in run()
    graph.materialize("+key:completion_requests")
    shown = run("--pilot", "3")
    assert "pilot" in shown and "Total:" in shown
    rows = json.loads(run("--format", "json"))
    assert {row["asset"] for row in rows} == {
        *("grader_trials", "completions", "rewards", "judge_comparisons", "reference_logprobs"),
        *("degraded_answers", "calibration_answers"),
    }
    kept = graph.query("SELECT count(DISTINCT made_at), count(seconds) FROM inference_forecasts")
    assert kept == [(2, 6)]
    graph.materialize("key:completions")
    assert "Forecast against actual" in run()


def test_the_total_adds_up_what_is_known(graph: Graph) -> None:
    add_runs(graph, {})
    cast = forecaster(graph)
    known = [pending(0, "small", 1000), pending(1, "small", 500, asset="rewards")]
    line = total_line(cast_rows(cast, known))
    assert "1,500 requests; 150,000 tokens in, 375,000 out, 0.21 engine hours" in line
    assert "finished at 2026-03-01 12:12:30" in line
    assert "to pay" not in line
    line = total_line(cast_rows(cast, [*known, pending(2, "new", 7)]))
    assert "1,507 requests; 150,000 tokens in" in line and "--pilot" in line


def test_a_model_with_a_price_is_told_with_its_cost(graph: Graph) -> None:
    add_runs(graph, {}, {"model": "large"})
    cast = forecaster(graph)
    priced = {"prompt_price": 2.0, "completion_price": 8.0}
    rows = cast_rows(cast, [pending(0, "small", 1000, **priced), pending(1, "large", 1000)])
    # 100,000 tokens in and 250,000 out.
    assert rows["to_pay"].to_pylist() == [pytest.approx(2.2), None]
    assert "2.20 to pay by the prices of models" in total_line(rows)
    assert "to_pay" in for_terminal(rows).column_names
    assert "to_pay" not in for_terminal(rows.slice(1)).column_names


def test_prices_come_from_the_recipe(graph: Graph) -> None:
    price = {"prompt": 0.5, "completion": 1.5}
    graph = graph.with_recipe(changed_recipe({"models.smollm2-135m.price": price}))
    with graph.warehouse.read() as connection:
        listed = forecaster(graph).pending(connection)
    prices = {one.model: (one.prompt_price, one.completion_price) for one in listed}
    assert prices["smollm2-135m"] == (0.5, 1.5)
    assert prices["smollm2-135m-cool"] == (None, None)
