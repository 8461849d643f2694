"""What is launched together from the UI, and what is made by itself once that is switched on."""

from __future__ import annotations

from dagster import AssetKey, DefaultSensorStatus, evaluate_automation_conditions

from tests.conftest import Graph

MODELS = ["smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"]
POLICY = "smollm2-135m-policy"


def test_each_job_has_one_kind_of_partition_and_together_they_have_each_asset_once(
    graph: Graph,
) -> None:
    nodes = graph.defs.resolve_asset_graph()
    jobs = {
        job.name: job
        for job in graph.defs.get_repository_def().get_all_jobs()
        if not job.name.startswith("__")
    }
    assert set(jobs) == {
        *("read_sources", "try_graders", "prompts_and_labels", "one_model"),
        *("calibrate_scorers", "training_sets"),
    }
    seen: list[AssetKey] = []
    for job in jobs.values():
        keys = job.asset_layer.selected_asset_keys
        assert len({nodes.get(key).partitions_def for key in keys}) == 1, job.name
        assert job.description
        seen += keys
    assert len(seen) == len(set(seen))
    assert set(seen) == set(nodes.get_all_asset_keys())
    assert {key.to_user_string() for key in jobs["one_model"].asset_layer.selected_asset_keys} == {
        *("completion_requests", "completions", "rewards")
    }


def test_a_policys_tables_are_made_when_all_its_models_have_rewards_and_that_is_switched_on(
    graph: Graph,
) -> None:
    (sensor,) = graph.defs.get_repository_def().sensor_defs
    assert (sensor.name, sensor.default_status) == (
        "build_training_sets",
        DefaultSensorStatus.STOPPED,
    )

    def requested() -> set[tuple[str, str | None]]:
        result = evaluate_automation_conditions(graph.defs, graph.instance, cursor=cursors[-1])
        cursors.append(result.cursor)
        return {
            (found.key.to_user_string(), one.partition_key)
            for found in result.results
            for one in found.true_subset.expensively_compute_asset_partitions()
        }

    cursors = [None]
    assert requested() == set()
    graph.materialize("not (key:completion_requests+)")
    graph.materialize("key:completion_requests or key:completions")
    assert requested() == {("policy_tokens", POLICY)}  # lengths need no rewards
    graph.materialize("key:policy_tokens", POLICY)
    for model in MODELS[:2]:
        graph.materialize("key:rewards", model)
        assert requested() == set()
    graph.materialize("key:rewards", MODELS[2])
    assert {name for name, _ in requested()} >= {"judge_comparisons"}
    graph.materialize("key:judge_comparisons+", POLICY)
    assert requested() == set()
