"""Scorers and judges, tried on answers that get worse: figures, known biases, and the gate."""

from __future__ import annotations

import copy
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance

from alignment_assets.assets.calibration import CalibrationError
from alignment_assets.inference.types import Answer, Request
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.model import WORDINGS
from alignment_assets.requests.forecast import count_prompts, expected_requests
from alignment_assets.requests.request_sets import all_request_sets
from alignment_assets.warehouse import sql_files
from tests.conftest import ANY_LOSS, Graph, changed_recipe
from tests.support.fakes import FakeInference

SCORERS = ("standard", "controversial")
STEPS = ["original", "vague", "incomplete", "wrong", "off_topic"]
SELECTING = "key:judge_comparisons or key:judge_rankings or key:policy_tokens"
ALL = "+key:judge_calibration"
# Two families, so that a judge can favour its own.
TRIED: dict[str, Any] = {
    "calibration": {"prompts": 14},
    "models.smollm2-135m-cool.family": "others",
}
# What is put into the judge below.
PER_STEP, PER_100_CHARACTERS, FOR_THE_FIRST = -0.9, 0.35, 0.6


class BiasedJudge(FakeInference):
    """Sees each step, likes long texts, prefers what is shown first, and errs now and then.

    What makes an answer worse writes down the step, and a length that has nothing to do with it.
    """

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        asked = "\n".join(message["content"] for message in request.messages)
        number = int(request.request_id[:8], 16)
        noise = (number % 1000 / 1000 - 0.5) / 2
        if request.task == "degrade":
            step = asked.count("\n- ")
            return replace(answer, text=f"[step {step}] " + "and so on " * (1 + number % 40))
        if request.task == "rate":
            score = 5 + quality(between(asked, "reply")) + noise
            return replace(answer, label_logprobs=spread(score))
        if request.task == "compare":
            better = quality(between(asked, "reply_a")) - quality(between(asked, "reply_b"))
            odds = better + FOR_THE_FIRST + noise
            a = 0.9 / (1 + math.exp(-odds))
            return replace(answer, label_logprobs={"A": math.log(a), "B": math.log(0.9 - a)})
        return answer


def quality(text: str) -> float:
    step = int(text.partition("[step ")[2][:1] or 0)
    return PER_STEP * step + PER_100_CHARACTERS * len(text) / 100


def between(asked: str, tag: str) -> str:
    return asked.rpartition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0]


def spread(score: float) -> dict[str, float]:
    """Return log-probabilities of 1 to 9 of which a score is the mean."""
    score = min(8.99, max(1.0, score))
    low = int(score)
    weights = {str(low): 1 - (score - low), str(low + 1): score - low}
    return {label: math.log(0.9 * weight) for label, weight in weights.items() if weight > 0}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Graph]]:
    """Makes a graph with a recipe and an engine, and a selection of it."""
    with ExitStack() as opened:

        def made(changes: dict[str, Any], engine: type[FakeInference]) -> Graph:
            folder = tmp_path_factory.mktemp("calibration")
            instance = opened.enter_context(DagsterInstance.ephemeral())
            inference = engine(log=str(folder / "asked.jsonl"))
            graph = Graph(changed_recipe(changes), folder / "home", instance, inference)
            graph.materialize(ALL)
            return graph

        yield made


@pytest.fixture(scope="module")
def calibrated(make: Callable[..., Graph]) -> Graph:
    """The demo up to the calibration, by the biased judge."""
    return make(TRIED, BiasedJudge)


@pytest.fixture(scope="module")
def untried(make: Callable[..., Graph]) -> Graph:
    """The same by a recipe that tries nobody."""
    return make({"calibration": {}}, FakeInference)


def figures(graph: Graph) -> dict[tuple[str, str, str], tuple[Any, ...]]:
    rows = graph.query(
        "SELECT scorer, measure, about, value, low, high, prompts FROM judge_calibration"
    )
    return {row[:3]: row[3:] for row in rows}


@pytest.mark.parametrize(
    ("scorer", "measure", "truth"),
    [
        ("controversial", "position_bias", FOR_THE_FIRST),
        ("controversial", "length_slope", PER_100_CHARACTERS),
        ("standard", "length_slope", PER_100_CHARACTERS),
    ],
)
def test_a_known_bias_is_recovered_within_its_interval(
    calibrated: Graph, scorer: str, measure: str, truth: float
) -> None:
    value, low, high, prompts = figures(calibrated)[scorer, measure, "all"]
    assert low <= truth <= high and low < value < high
    assert high - low < 0.25 and prompts >= 10


def test_the_order_of_the_ladder_is_recovered(calibrated: Graph) -> None:
    found = figures(calibrated)
    for order in ("ladder", "pairwise"):
        assert found["controversial", f"{order}_kendall", "all"][0] > 0.5
        assert found["controversial", f"{order}_spearman", "all"][0] > 0.6
    # By length alone no order would be seen.
    assert found["controversial", "step_seen", "vague"][0] > 0.5


def test_rungs_are_the_answer_and_each_step_of_it(calibrated: Graph) -> None:
    rows = calibrated.query(
        "SELECT scorer, prompt_id, list(step_name ORDER BY step), "
        "list(left(text, 8) ORDER BY step)[2:], count(DISTINCT completion_id) "
        "FROM degraded_answers GROUP BY scorer, prompt_id"
    )
    assert {(scorer, tuple(names), n) for scorer, _, names, _, n in rows} == {
        (scorer, tuple(STEPS), 1) for scorer in SCORERS
    }
    assert {tuple(texts) for *_, texts, _ in rows} == {tuple(f"[step {n}]" for n in range(1, 5))}
    original = calibrated.query(
        "SELECT count(*), count(*) FILTER (degraded_answers.text = completions.text), "
        "any_value(completions.model) FROM degraded_answers JOIN completions USING (completion_id) "
        "WHERE step = 0"
    )
    assert original == [(len(rows), len(rows), "smollm2-135m")]


def test_a_rung_is_asked_about_as_a_reward_is(calibrated: Graph) -> None:
    messages = {entry["request_id"]: entry["messages"] for entry in calibrated.asked()}
    pairs = calibrated.query(
        "SELECT rewards.request_id, again.request_id FROM degraded_answers "
        "JOIN rewards USING (completion_id) "
        "JOIN calibration_answers AS again ON again.completion_id = rung_id "
        "WHERE degraded_answers.step = 0 AND asked_as = 'score'"
    )
    assert len(pairs) >= 20
    for before, again in pairs:
        assert messages[before] == messages[again] and before != again


def test_nobody_is_tried_without_prompts(untried: Graph) -> None:
    assert untried.query("SELECT count(*) FROM judge_calibration") == [(0,)]
    assert "degrade" not in {entry["task"] for entry in untried.asked()}


# -- every figure by plain Python ------------------------------------------------------------------


def interval(values: Iterable[float]) -> tuple[float, float | None, float | None, int]:
    numbers = list(values)
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return mean, None, None, 1
    spread = math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1)
    half = 1.959963984540054 * math.sqrt(spread / len(numbers))
    return mean, mean - half, mean + half, len(numbers)


def ranks(values: list[float]) -> list[float]:
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def spearman(one: list[float], other: list[float]) -> float:
    a, b = ranks(one), ranks(other)
    mean = (len(a) + 1) / 2
    cross = sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True))
    size = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return cross / size if size else 0.0


def kendall(one: list[float], other: list[float]) -> float:
    def sign(x: float) -> int:
        return (x > 0) - (x < 0)

    pairs = list(combinations(range(len(one)), 2))
    a = [sign(one[i] - one[j]) for i, j in pairs]
    b = [sign(other[i] - other[j]) for i, j in pairs]
    size = math.sqrt(sum(map(abs, a)) * sum(map(abs, b)))
    return sum(x * y for x, y in zip(a, b, strict=True)) / size if size else 0.0


def slope(ladders: Mapping[str, list[tuple[float, float]]]) -> tuple[float, float]:
    """Return the slope of scores on sizes within prompts and steps, and its half interval."""
    rows = [(p, s, *pair) for p, ladder in ladders.items() for s, pair in enumerate(ladder)]
    n, k = len(ladders), len(STEPS)

    def centred(place: int) -> list[float]:
        of_prompt, of_step = defaultdict(float), defaultdict(float)
        for row in rows:
            of_prompt[row[0]] += row[place] / k
            of_step[row[1]] += row[place] / n
        mean = sum(row[place] for row in rows) / len(rows)
        return [row[place] - of_prompt[row[0]] - of_step[row[1]] + mean for row in rows]

    size, score = centred(2), centred(3)
    b = sum(x * y for x, y in zip(size, score, strict=True)) / sum(x * x for x in size)
    rest = sum((y - b * x) ** 2 for x, y in zip(size, score, strict=True))
    error = math.sqrt(rest / ((n - 1) * (k - 1) - 1) / sum(x * x for x in size))
    return b, 1.959963984540054 * error


def plain_figures(graph: Graph, scorer: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    """Return a scorer's figures, from its rows."""
    rungs = {
        rung: (step, name, source, text)
        for rung, step, name, source, text in graph.query(
            "SELECT rung_id, step, step_name, completion_id, text FROM degraded_answers "
            f"WHERE scorer = '{scorer}'"
        )
    }
    said = graph.query(
        "SELECT asked_as, prompt_id, completion_id, second_completion_id, value, mass "
        f"FROM calibration_answers WHERE scorer = '{scorer}'"
    )
    rewards = {
        completion: (prompt, track, model, reward, length)
        for completion, prompt, track, model, reward, length in graph.query(
            "SELECT completion_id, rewards.prompt_id, track, rewards.model, reward, length(text) "
            "FROM rewards JOIN completions USING (completion_id)"
        )
    }
    prompts = {row[1] for row in said if row[0] == "score"}
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    masses, retest = defaultdict(list), {}
    for kind, prompt, rung, _, value, mass in said:
        if kind == "score":
            step, _, source, _ = rungs[rung]
            scores[prompt][step] = value
            masses["scores", prompt].append(mass)
            if step == 0:
                retest[prompt] = abs(value - rewards[source][3])
        if kind == "comparison":
            masses["comparisons", prompt].append(mass)
    odds = {
        (p, rungs[a][0], rungs[b][0]): v for kind, p, a, b, v, _ in said if kind == "comparison"
    }
    places: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    both = defaultdict(list)
    for (prompt, first, second), value in odds.items():
        places[prompt][first] += value
        places[prompt][second] -= value
        if first < second:
            both[prompt].append((value, odds[prompt, second, first]))

    def ladder(of: Callable[..., float], found: Mapping[str, Mapping[int, float]]) -> list[float]:
        return [
            of([-step for step in steps], [steps[step] for step in steps])
            for steps in found.values()
        ]

    models = list(graph.recipe.completions.models)
    answers = defaultdict(list)
    for prompt, track, model, reward, length in rewards.values():
        if model in models and track == scorer and prompt in prompts:
            answers[prompt].append((float(length), reward))
    found = {
        ("ladder_spearman", "all"): interval(ladder(spearman, scores)),
        ("ladder_kendall", "all"): interval(ladder(kendall, scores)),
        ("length_correlation", "all"): interval(
            spearman(*map(list, zip(*rows, strict=True)))
            for rows in answers.values()
            if len(rows) > 2
        ),
        ("retest", "all"): interval(retest.values()),
        ("ties", "all"): interval(
            sum(a == b for a, b in combinations(steps.values(), 2)) / math.comb(len(steps), 2)
            for steps in scores.values()
        ),
        ("label_mass", "scores"): interval(
            math.fsum(found) / len(found) for (kind, _), found in masses.items() if kind == "scores"
        ),
    }
    for step, name in enumerate(STEPS[1:], start=1):
        found["step_seen", name] = interval(
            0.5 if steps[step] == steps[step - 1] else float(steps[step] < steps[step - 1])
            for steps in scores.values()
        )
    sized = {
        prompt: [
            (len(text) / 100, scores[prompt][step])
            for rung, (step, _, _, text) in sorted(rungs.items(), key=lambda one: one[1][0])
            if any(row[2] == rung and row[1] == prompt for row in said)
        ]
        for prompt in scores
    }
    b, half = slope(sized)
    found["length_slope", "all"] = (b, b - half, b + half, len(sized))
    if scorer == "standard":
        return found
    standard = defaultdict(list)
    for kind, prompt, completion, _, value, _ in said:
        if kind == "standard":
            standard[prompt].append((rewards[completion][3], value))
    agreeing = [tuple(map(list, zip(*rows, strict=True))) for rows in standard.values()]
    return found | {
        ("pairwise_spearman", "all"): interval(ladder(spearman, places)),
        ("pairwise_kendall", "all"): interval(ladder(kendall, places)),
        ("label_mass", "comparisons"): interval(
            math.fsum(rows) / len(rows) for (kind, _), rows in masses.items() if kind != "scores"
        ),
        ("position_bias", "all"): interval(
            math.fsum((a + b) / 2 for a, b in pairs) / len(pairs) for pairs in both.values()
        ),
        ("first_preferred", "all"): interval(
            sum((a > 0) + (b > 0) for a, b in pairs) / sum((a != 0) + (b != 0) for a, b in pairs)
            for pairs in both.values()
            if any(map(any, pairs))
        ),
        ("flips", "all"): interval(
            sum(a * b > 0 for a, b in pairs) / len(pairs) for pairs in both.values()
        ),
        ("agreement_spearman", "all"): interval(
            spearman(*rows) for rows in agreeing if len(rows[0]) > 2 and len({*rows[0]}) > 1
        ),
        ("agreement_kendall", "all"): interval(
            kendall(*rows) for rows in agreeing if len(rows[0]) > 2 and len({*rows[0]}) > 1
        ),
    }


@pytest.mark.parametrize("scorer", SCORERS)
def test_each_figure_is_its_definition(calibrated: Graph, scorer: str) -> None:
    wanted = plain_figures(calibrated, scorer)
    found = {key[1:]: row for key, row in figures(calibrated).items() if key[0] == scorer}
    own_family = {key for key in found if key[0] == "own_family"}
    assert found.keys() - own_family == wanted.keys()
    for key, row in wanted.items():
        assert found[key] == pytest.approx(row, abs=2e-6), key


@pytest.mark.parametrize("scorer", SCORERS)
def test_whether_a_judge_favours_its_family_is_measured_where_models_have_several(
    calibrated: Graph, scorer: str
) -> None:
    # The judge is of the first model's family, not of the second's.
    rows = calibrated.query(
        "SELECT prompt_id, model, reward FROM rewards SEMI JOIN "
        f"(FROM degraded_answers WHERE scorer = '{scorer}') AS drawn USING (prompt_id) "
        f"WHERE model <> 'smollm2-135m-policy' AND track = '{scorer}'"
    )
    rewards = [reward for *_, reward in rows]
    mean = math.fsum(rewards) / len(rewards)
    spread = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / len(rewards))
    of = defaultdict(list)
    for prompt, model, reward in rows:
        of[prompt, model == "smollm2-135m"].append((reward - mean) / spread)
    wanted = interval(
        math.fsum(of[prompt, True]) / len(of[prompt, True])
        - math.fsum(of[prompt, False]) / len(of[prompt, False])
        for prompt in {prompt for prompt, _ in of}
    )
    assert figures(calibrated)[scorer, "own_family", "all"] == pytest.approx(wanted, abs=2e-6)
    beyond = (scorer, "own_family", "beyond the reward model") in figures(calibrated)
    assert beyond == (scorer == "controversial")


# -- the gate, and what it costs -------------------------------------------------------------------


def bounded(graph: Graph, bounds: dict[str, Any], **changes: Any) -> Graph:
    calibration = {"calibration": {"prompts": 14, **bounds}}
    return graph.with_recipe(changed_recipe({**TRIED, **calibration, **changes}))


def test_bounds_stop_what_would_be_selected_by_a_scorer_that_does_not_keep_them(
    calibrated: Graph,
) -> None:
    good = bounded(calibrated, {"at_least": {"ladder_kendall": 0.2}})
    good.materialize(f"{SELECTING} or key:quantile_rewards")
    assert good.query("SELECT count(*) > 0 FROM quantile_rewards") == [(True,)]

    bad = bounded(calibrated, {"at_most": {"position_bias": 0.5, "flips": 1}})
    with pytest.raises(CalibrationError) as refused:
        bad.materialize("key:quantile_rewards")
    value = figures(calibrated)["controversial", "position_bias", "all"][0]
    said = str(refused.value)
    assert said.startswith(
        "nothing was selected: position_bias of the controversial track's scorer"
    )
    assert f"is {value:.3f} [" in said and "flips" not in said
    assert "where the recipe wants at most 0.5. Take another scorer, judge or rubric" in said


def test_a_check_of_the_figures_says_so_too(calibrated: Graph) -> None:
    bad = bounded(calibrated, {"at_most": {"position_bias": 0.5}}).with_checks()
    results = bad.materialize("key:judge_calibration")
    passed = [
        check.passed
        for result in results
        for check in result.get_asset_check_evaluations()
        if check.check_name == "within_bounds"
    ]
    assert passed and not any(passed)


def test_another_scorer_has_to_be_tried_before_selection_goes_by_it(
    make: Callable[..., Graph],
) -> None:
    bounds = {"calibration": {"prompts": 3, "at_least": {"ladder_kendall": -1}}}
    graph = make(bounds, FakeInference)
    rubric = {**bounds, "rewards.standard.rubric": "judge_charter_system"}
    other = graph.with_recipe(changed_recipe(rubric))
    other.materialize(f"key:rewards or {SELECTING}")
    with pytest.raises(CalibrationError) as refused:
        other.materialize("key:quantile_rewards")
    said = str(refused.value)
    assert "calibration_answers[standard] was made by settings that the recipe has changed" in said
    command = re.search(r"--select '([^']+)'", said)
    assert command
    other.materialize(command[1])
    other.materialize("key:quantile_rewards")


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration.prompts": 4},
        {"calibration.model": "smollm2-135m-cool"},
        {"seed": 1},
        {"models.smollm2-135m.max_tokens": 20},
        {"rewards.min_score_mass": 0.02},
        {"rewards.comparison_judge": "smollm2-135m"},
        {"rewards.comparison_thinking_tokens": 20},
        {"models.smollm2-135m-judge.revision": "other"},
    ],
)
def test_the_gate_goes_by_a_trial_that_would_be_the_same_now(
    gated: Graph, changes: dict[str, Any]
) -> None:
    gated.materialize("key:quantile_rewards")
    recipe = gated.recipe.model_dump(mode="json")
    said = {**GATED, **changes, "models": copy.deepcopy(recipe["models"])}
    said["calibration"] = {**GATED["calibration"]}
    for place, value in changes.items():
        *parents, last = place.split(".")
        part: Any = said
        if parents[:1] in (["models"], ["calibration"]):
            for parent in parents:
                part = part[parent]
            part[last] = value
            del said[place]
    with pytest.raises(CalibrationError, match="nothing was selected: the recipe's calibration"):
        gated.with_recipe(changed_recipe(said)).materialize("key:quantile_rewards")


@pytest.fixture(scope="module")
def gated(make: Callable[..., Graph]) -> Graph:
    graph = make(GATED, FakeInference)
    graph.materialize(SELECTING)
    return graph


GATED: dict[str, Any] = {"calibration": {"prompts": 3, "at_least": {"ladder_kendall": -1.0}}}


def test_what_was_not_measured_does_not_pass(make: Callable[..., Graph]) -> None:
    graph = make({"calibration": {"prompts": 3}, **ANY_LOSS, **ANY_FAILURE}, OneStep)
    graph.materialize(SELECTING)
    bounds = {"calibration": {"prompts": 3, "at_least": {"step_seen": 0.0}}}
    graph = graph.with_recipe(changed_recipe({**bounds, **ANY_LOSS, **ANY_FAILURE}))
    with pytest.raises(CalibrationError) as refused:
        graph.materialize("key:quantile_rewards")
    for step in STEPS[2:]:
        assert f"nothing gives step_seen ({step}) of the standard track's scorer" in str(
            refused.value
        )
    assert "step_seen (vague)" not in str(refused.value)


ANY_FAILURE = {"inference.max_failed_share": 1.0}


class OneStep(BiasedJudge):
    """Refuses all steps but the first."""

    def _answer(self, request: Request) -> Answer:
        asked = "\n".join(message["content"] for message in request.messages)
        if request.task == "degrade" and asked.count("\n- ") > 1:
            return Answer(request.request_id, request.task, "rejected", error="refused")
        return super()._answer(request)


def test_a_track_without_prompts_is_held_to_nothing(make: Callable[..., Graph]) -> None:
    prompts = [
        source.model_dump(mode="json")
        for source in changed_recipe().prompts
        if source.track == "controversial"
    ]
    changes = {**GATED, "prompts": prompts, "human_labels": None}
    graph = make(changes, FakeInference)
    graph.materialize(f"{SELECTING} or key:quantile_rewards")
    assert graph.query("SELECT DISTINCT track FROM quantile_rewards") == [("controversial",)]


class Indifferent(BiasedJudge):
    """Gives all answers to some prompts the same score, and says A as often as B."""

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        asked = "\n".join(message["content"] for message in request.messages)
        conversation = between(asked, "conversation")
        if request.task == "rate" and len(conversation) % 3:
            return replace(answer, label_logprobs=spread(5))
        if request.task == "compare" and len(conversation) % 2:
            return replace(answer, label_logprobs={"A": math.log(0.4), "B": math.log(0.4)})
        return answer


def test_a_judge_that_tells_nothing_apart_recovers_no_order(make: Callable[..., Graph]) -> None:
    graph = make({"calibration": {"prompts": 8}}, Indifferent)
    for scorer in SCORERS:
        wanted = plain_figures(graph, scorer)
        found = {key[1:]: row for key, row in figures(graph).items() if key[0] == scorer}
        for key, row in wanted.items():
            assert found[key] == pytest.approx(row, abs=2e-6), key
        assert found["ties", "all"][0] > 0.5


def test_a_question_that_reads_the_requests_is_asked_about_rungs_as_well(
    make: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = sql_files.read_sql

    def own(kind: str, name: str) -> str:
        joined = "JOIN alignment_prompts USING (prompt_id)"
        more = f"{joined}\nJOIN completion_requests USING (completion_id, prompt_id, model)"
        query = read(kind, name)
        if (kind, name) != ("requests", "rewards/classify"):
            return query
        query = query.replace(joined, more).replace(
            "track = $track", "completion_requests.track = $track"
        )
        for column in ("variant", "sample_index"):
            query = query.replace(f", {column}", f", completions.{column}")
        return query

    monkeypatch.setattr(sql_files, "read_sql", own)
    classifying = {"task": "classify", "model": "smollm2-135m-judge"}
    graph = make({"calibration": {"prompts": 3}, "rewards.standard": classifying}, FakeInference)
    rungs = "SELECT count(*) FROM degraded_answers WHERE scorer = 'standard'"
    scores = "SELECT count(value) FROM calibration_answers WHERE scorer = 'standard'"
    assert graph.query(rungs) == graph.query(scores) != [(0,)]


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"at_most": {"flips": math.nan}}, "finite number"),
        ({"at_least": {"flips": 0.9}, "at_most": {"flips": 0.1}}, "nothing is between them"),
        ({"prompts": 0, "at_most": {"flips": 0.5}}, "nobody to anything without prompts"),
        ({"model": "smollm2-135m-policy"}, "calibration.model: no model 'smollm2-135m-policy'"),
        ({"at_most": {"kindness": 0.5}}, "kindness"),
    ],
)
def test_bounds_that_say_nothing_are_refused(bounds: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        changed_recipe({"calibration": {"prompts": 3, **bounds}})


@pytest.mark.parametrize(
    "fault", ["{name: a, fault: ''}", "{name: a, fault: 'As {prompt}'}", "{name: 'a b', fault: x}"]
)
def test_steps_that_say_nothing_are_refused(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "wordings"
    shutil.copytree(WORDINGS, folder, ignore=shutil.ignore_patterns("__*"))
    (folder / "degradations.yaml").write_text(f"- {fault}\n- {{name: b, fault: Worse.}}\n")
    with pytest.raises(RecipeError, match=r"degradations\.yaml: "):
        changed_recipe({"wordings": str(folder)})


def test_an_older_folder_of_wordings_serves_who_tries_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "wordings"
    shutil.copytree(WORDINGS, folder, ignore=shutil.ignore_patterns("__*", "degrad*"))
    changed_recipe({"wordings": str(folder), "calibration": {}})
    with pytest.raises(RecipeError, match=r"degrad\w+\.(txt|yaml)"):
        changed_recipe({"wordings": str(folder)})


def test_what_is_expected_is_what_is_asked(calibrated: Graph) -> None:
    recipe = calibrated.recipe
    with calibrated.warehouse.read() as connection:
        prompts = count_prompts(connection, recipe)
    sets = all_request_sets(recipe, lambda name: name)
    asked = calibrated.query(
        "SELECT asset, partition, sum(requests)::BIGINT FROM inference_runs "
        "WHERE asset IN ('degraded_answers', 'calibration_answers') GROUP BY ALL"
    )
    assert len(asked) == 4
    for asset, scorer, requests in asked:
        expected = [
            expected_requests(recipe, prompts, asset, scorer, each) for each in sets[asset, scorer]
        ]
        assert sum(filter(None, expected)) == requests


class RepeatingModel(BiasedJudge):
    """Gives some answers again as they were, and some not at all."""

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        if request.task != "degrade":
            return answer
        number = int(request.request_id[:8], 16) % 4
        if number == 0:
            return Answer(request.request_id, request.task, "rejected", error="refused")
        return replace(answer, text=["", " ", "the same", answer.text][number])


def test_a_step_that_makes_no_new_text_is_told_and_nobody_is_tried_on_it(
    make: Callable[..., Graph],
) -> None:
    graph = make({"calibration": {"prompts": 8}, "inference.max_failed_share": 1.0}, RepeatingModel)
    rows = graph.query("SELECT missing_reason, count(*) FROM degraded_answers GROUP BY ALL")
    reasons = dict(rows)
    told = {"no text: rejected", "empty text", "the text of an earlier step"}
    assert reasons.keys() == {None, *told}
    lost = sum(reasons[reason] for reason in told)
    sums = {
        "SELECT sum(rows)::BIGINT FROM losses WHERE asset = 'degraded_answers'": lost,
        "SELECT count(*) FROM calibration_answers WHERE asked_as = 'score'": reasons[None],
    }
    assert {query: graph.query(query)[0][0] for query in sums} == sums
    assert figures(graph)["standard", "ladder_kendall", "all"][3] > 2
