"""How a selection of assets is cut into runs."""

from __future__ import annotations

import pytest
from dagster import (
    AssetKey,
    AssetsDefinition,
    Definitions,
    PartitionsDefinition,
    StaticPartitionsDefinition,
    asset,
)

from alignment_assets.commands.materialize import Launch, SelectionError, plan_launches
from alignment_assets.definitions import build_defs
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe

MODELS = ["smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"]
SCORERS = ["standard", "controversial"]
POLICY, JUDGE = MODELS[-1], "smollm2-135m-judge"


@pytest.fixture(scope="module")
def demo() -> Definitions:
    return build_defs(Run.of(changed_recipe()))


def labels(defs: Definitions, selection: str | None, partition: str | None = None) -> list[str]:
    return [launch.label for launch in plan_launches(defs, selection, partition)]


def test_the_whole_graph_is_sources_then_prompts_then_each_model_then_each_policy(
    demo: Definitions,
) -> None:
    roots, *sources, prompts = plan_launches(demo)[:5]
    *trials, agreement = (*plan_launches(demo)[5:7], plan_launches(demo)[-4])
    models, (*scorers, policy) = plan_launches(demo)[7:-4], plan_launches(demo)[-3:]
    assert [launch.label for launch in sources] == [
        f"source_prompts [{source.name}]" for source in changed_recipe().prompts
    ]
    assert roots.partition is prompts.partition is None
    assert AssetKey("personas") in roots.assets
    assert AssetKey("alignment_prompts") in prompts.assets
    assert [run.label for run in (*trials, agreement)] == [
        *(f"grader_trials [{JUDGE}.controversy{ending}]" for ending in ("", "_brief")),
        "grader_agreement",
    ]
    assert [run.label for run in models] == [
        f"completion_requests, completions, rewards [{model}]" for model in MODELS
    ]
    assert [run.label for run in scorers] == [
        f"degraded_answers, calibration_answers, judge_calibration [{track}]" for track in SCORERS
    ]
    assert policy.partition == POLICY
    assert {key.to_user_string() for key in policy.assets[:2]} == {
        "judge_comparisons",
        "policy_tokens",
    }
    assert {key.to_user_string() for key in policy.assets[-7:]} == {
        *("selected_pairs", "dpo_pairs", "qrpo_samples", "reference_logprobs", "training_export"),
        *("selection_exclusions", "selection_report"),
    }
    runs = (sources[0], roots, prompts, trials[0], agreement, models[0], scorers[0], policy)
    planned = [key for run in runs for key in run.assets]
    assert sorted(planned) == sorted(demo.resolve_asset_graph().get_all_asset_keys())


def test_every_asset_comes_after_all_it_is_made_from(demo: Definitions) -> None:
    graph = demo.resolve_asset_graph()
    runs = plan_launches(demo)
    order = [key for run in runs for key in run.assets]
    for key in graph.get_all_asset_keys():
        first = order.index(key)
        for parent in graph.get(key).parent_keys:
            last = max(place for place, other in enumerate(order) if other == parent)
            same_run = any(key in run.assets and parent in run.assets for run in runs)
            assert same_run or last < first, (parent, key)
    for run in runs:
        for key in run.assets:
            inside = set(run.assets) & set(graph.get(key).parent_keys)
            assert all(run.assets.index(parent) < run.assets.index(key) for parent in inside)


def test_the_largest_model_comes_first() -> None:
    models = {"smollm2-135m-cool": {"weights": "x", "billions": 70}}
    known = changed_recipe().model_dump(mode="json")["models"]
    recipe = changed_recipe({"models": {**known, **models}})
    assert labels(build_defs(Run.of(recipe)), "key:completions") == [
        "completions [smollm2-135m-cool]",
        "completions [smollm2-135m]",
        "completions [smollm2-135m-policy]",
    ]


def test_a_selection_is_cut_alike(demo: Definitions) -> None:
    assert labels(demo, "key:rewards") == [f"rewards [{model}]" for model in MODELS]
    assert labels(demo, "key:wordings") == ["wordings"]
    assert labels(demo, "key:alignment_prompts or key:dpo_pairs") == [
        "alignment_prompts",
        f"dpo_pairs [{POLICY}]",
    ]
    assert labels(demo, "group:rewards") == [
        *(f"rewards [{model}]" for model in MODELS),
        *(f"degraded_answers, calibration_answers, judge_calibration [{s}]" for s in SCORERS),
        f"judge_comparisons, judge_rankings [{POLICY}]",
    ]


def test_a_partition_is_run_alone(demo: Definitions) -> None:
    both = "key:completions or key:rewards"
    assert labels(demo, both, "smollm2-135m") == ["completions, rewards [smollm2-135m]"]
    # A policy is a partition of both kinds; a model is none of the training sets'.
    sets = "key:rewards or key:quantile_rewards"
    assert labels(demo, sets, POLICY) == [f"rewards [{POLICY}]", f"quantile_rewards [{POLICY}]"]
    assert labels(demo, sets, "smollm2-135m") == ["rewards [smollm2-135m]"]


def test_an_unpartitioned_asset_between_partitioned_ones_parts_their_runs() -> None:
    cut = StaticPartitionsDefinition(["x", "y"])

    def made(name: str, *deps: str, partitions: PartitionsDefinition | None) -> AssetsDefinition:
        return asset(name=name, deps=list(deps), partitions_def=partitions)(lambda: None)

    defs = Definitions(
        [
            made("first", partitions=cut),
            made("beside", "first", partitions=cut),
            made("summary", "first", partitions=None),
            made("last", "summary", "beside", partitions=cut),
        ]
    )
    assert plan_launches(defs) == [
        Launch((AssetKey("first"), AssetKey("beside")), "x"),
        Launch((AssetKey("first"), AssetKey("beside")), "y"),
        Launch((AssetKey("summary"),), None),
        Launch((AssetKey("last"),), "x"),
        Launch((AssetKey("last"),), "y"),
    ]


@pytest.mark.parametrize(
    ("selection", "partition", "said"),
    [
        ("key:completion", None, ["'key:completion' selects nothing", "completions", "wordings"]),
        ("key:rewards", "gpt", ["no partition 'gpt'", *MODELS]),
        ("key:dpo_pairs", "smollm2-135m", ["no partition 'smollm2-135m'", POLICY]),
        ("key:wordings", POLICY, [f"no partition '{POLICY}'", "have none"]),
        ("((", None, ["cannot select '(('"]),
    ],
)
def test_an_error_names_what_there_is(
    demo: Definitions, selection: str, partition: str | None, said: list[str]
) -> None:
    with pytest.raises(SelectionError) as error:
        plan_launches(demo, selection, partition)
    for part in said:
        assert part in str(error.value)
