"""A share of loss is judged where rows are made: what is worthless stops, and the old rows stay."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.inference.types import Answer, Request
from alignment_assets.recipe.limits import Limits
from alignment_assets.recipe.load import RecipeError
from alignment_assets.warehouse.losses import TooMuchLost
from tests.conftest import Graph, changed_recipe
from tests.support.prompt_sources import GRADED, READ, RULED, StatedGrader, on_sources, row

REQUESTS = f"{READ} or {RULED} or {GRADED} or key:personas or key:completion_requests"
ANSWERED = f"{REQUESTS} or key:completions"
MIX = [row(f"grade {number % 4}: question {number}?", f"mix_{number}") for number in range(8)]
THOUGHT = "<think>\nHm.\n</think>\n\nSo be it. "
Change = Callable[[Request, Answer], Answer]


def strictly(
    graph: Graph, folder: Path, mix: list[dict[str, Any]], *, changes: Any = None, **sources: Any
) -> Graph:
    """The graph on these sources, with the limits that a recipe has by itself."""
    return on_sources(graph, folder, mix, changes={"limits": {}, **(changes or {})}, **sources)


def answering(
    graph: Graph, folder: Path, change: Change, changes: dict[str, Any] | None = None
) -> Graph:
    """The graph on a small mix, with answers that are changed."""
    graph = strictly(graph, folder, MIX, changes=changes)

    class ChangedInference(StatedGrader):
        def _answer(self, request: Request) -> Answer:
            return change(request, super()._answer(request))

    return replace(graph, inference=ChangedInference(log=graph.inference.log))


def generated(text: str | None, **changes: Any) -> Change:
    """Give every answer to a prompt this text."""

    def change(request: Request, answer: Answer) -> Answer:
        return replace(answer, text=text, **changes) if request.task == "generate" else answer

    return change


def refusal(graph: Graph, selection: str, partition: str | None = None) -> str:
    with pytest.raises(TooMuchLost) as caught:
        graph.materialize(selection, partition)
    message = str(caught.value)
    assert "The old rows stay; put the reason right, or raise limits." in message
    assert "(docs/limits.md), and run it again" in message
    assert message.isprintable()
    return message


def lost(graph: Graph, asset: str) -> list[tuple[Any, ...]]:
    return graph.query(
        "SELECT part, track, loss, reason, rows, of_rows, round(share, 4), allowed FROM losses "
        f"WHERE asset = '{asset}' ORDER BY ALL"
    )


# -- sources and rules -----------------------------------------------------------------------------


def test_a_source_that_is_half_malformed_stops_and_may_be_allowed(
    graph: Graph, tmp_path: Path
) -> None:
    mix = [*MIX[:4], *({**one, "chosen": f"a bare text {one['id']}"} for one in MIX[4:])]
    graph = strictly(graph, tmp_path, mix)
    message = refusal(graph, "key:source_prompts", "preference_mix")
    assert message.startswith(
        "source_prompts[preference_mix]: malformed (preference_mix): 4 of 8 rows: 4 × a text, not "
        "a conversation (row 4: a bare text mix_4)"
    )
    assert "That is 50.00%, more than the recipe's limits.malformed of 20.00%" in message
    assert graph.query("SELECT count(*) FROM source_prompts") == [(0,)]
    allowing = {"limits.exceptions": {"preference_mix": {"malformed": 0.5}}}
    graph = strictly(graph, tmp_path, mix, changes=allowing)
    graph.materialize("key:source_prompts")
    assert lost(graph, "source_prompts") == [
        ("preference_mix", None, "malformed", "a text, not a conversation", 4, 8, 0.5, 0.5)
    ]


@pytest.mark.parametrize(
    ("changes", "prism", "said"),
    [
        (
            {"licence.excluded_subsets": ["mix"]},
            (),
            "excluded by licence (preference_mix): 8 of 8 rows",
        ),
        ({"max_prompt_characters": 4}, (), "excluded by too_long (polyglot_toxicity_prompts)"),
        (
            {},
            (("one?", "Values Guided"), ("two?", "controversy_guided")),
            "excluded by keep (prism_prompts): 2 of 2 rows: 2 × keep (row 0: conversation_type is "
            "Values Guided)",
        ),
    ],
)
def test_a_rule_that_drops_all_of_a_source_stops_unless_the_recipe_says_so(
    graph: Graph,
    tmp_path: Path,
    changes: dict[str, Any],
    prism: tuple[tuple[str, str], ...],
    said: str,
) -> None:
    graph = strictly(graph, tmp_path, MIX, prism=prism, changes=changes)
    assert said in refusal(graph, f"{READ} or {RULED}")
    allowing = {**changes, "limits.excluded": 1.0}
    graph = strictly(graph, tmp_path, MIX, prism=prism, changes=allowing)
    graph.materialize(RULED)


def test_how_many_are_taken_and_that_none_is_taken_twice_are_choices(
    graph: Graph, tmp_path: Path
) -> None:
    mix = [{**MIX[0], "id": f"mix_{number}"} for number in range(200)]
    graph = strictly(graph, tmp_path, mix, changes={"limit": 1})
    graph.materialize(f"{READ} or {RULED}")
    shares = {loss: allowed for _, _, loss, *_, allowed in lost(graph, "prompt_exclusions")}
    assert shares.keys() == {"excluded by repeat", "excluded by limit"}
    assert set(shares.values()) == {None}


# -- answers ---------------------------------------------------------------------------------------


def test_grades_that_cannot_be_read_stop(graph: Graph, tmp_path: Path) -> None:
    def mute(request: Request, answer: Answer) -> Answer:
        return replace(answer, text="I \x1b[2Jcannot.") if request.task == "grade" else answer

    graph = answering(graph, tmp_path, mute)
    message = refusal(graph, f"{READ} or {RULED} or {GRADED}")
    assert "unparsable: 8 of 8 rows: 8 × no JSON object with a grade (prompt " in message
    assert ": I \\x1b[2Jcannot.)" in message


NOTHING = ["", "\n\n", " \u200b", "<think>all of it", "<think>x</think>\n", "\ufeff<think>all"]


@pytest.mark.parametrize("text", NOTHING)
def test_answers_that_show_nothing_stop(graph: Graph, tmp_path: Path, text: str) -> None:
    graph = answering(graph, tmp_path, generated(text))
    message = refusal(graph, ANSWERED)
    assert ": empty (" in message and "no visible text" in message
    assert graph.query("SELECT count(*) FROM completions") == [(0,)]
    graph = answering(graph, tmp_path, generated(text), {"limits.empty": 1.0})
    graph.materialize("key:completion_requests or key:completions")
    assert {loss for _, _, loss, *_ in lost(graph, "completions")} == {"empty"}


def test_answers_that_are_cut_off_stop_unless_they_may_be_selected(
    graph: Graph, tmp_path: Path
) -> None:
    cut = generated("and then", finish_reason="length")
    graph = answering(graph, tmp_path, cut, {"selection.allow_truncated": False})
    message = refusal(graph, ANSWERED)
    assert ": truncated (" in message and "× cut off by the limit of tokens (completion" in message
    assert "more than the recipe's limits.truncated of 50.00%" in message
    graph = answering(graph, tmp_path, cut, {"selection.allow_truncated": True})
    graph.materialize("key:completion_requests or key:completions")
    assert lost(graph, "completions") == []


def test_thoughts_are_taken_out_kept_or_rejected_as_the_recipe_says(
    graph: Graph, tmp_path: Path
) -> None:
    graph = answering(graph, tmp_path, generated(THOUGHT, completion_tokens=100))
    graph.materialize(ANSWERED)
    query = (
        "SELECT DISTINCT text, reasoning, completion_tokens, text_tokens, finish_reason, error "
        "FROM completions"
    )
    ((text, reasoning, tokens, of_text, reason, error),) = graph.query(query)
    assert (text, reasoning, reason, error) == ("So be it. ", "Hm.", "stop", None)
    assert (tokens, of_text) == (100, math.ceil(100 * len("So be it. ") / len(THOUGHT)))
    hashed = "SELECT DISTINCT text_hash = sha256('So be it. ') FROM completions"
    assert graph.query(hashed) == [(True,)]

    for said, wanted in {
        "keep": (THOUGHT, None, 100, 100, "stop", None),
        "reject": (
            *(None, THOUGHT, 100, None, "rejected"),
            "it thinks aloud, which the recipe rejects (reasoning: reject)",
        ),
    }.items():
        changes = {f"models.{name}.reasoning": said for name in graph.recipe.answering_models}
        thoughtful = generated(THOUGHT, completion_tokens=100)
        other = answering(graph, tmp_path, thoughtful, {**changes, "limits.empty": 1.0})
        asked = len(graph.asked())
        other.materialize("key:completions")
        assert other.query(query) == [wanted]
        assert len(graph.asked()) == asked  # the answers are there


def test_scores_without_a_reward_stop(graph: Graph, tmp_path: Path) -> None:
    def scoreless(request: Request, answer: Answer) -> Answer:
        return replace(answer, label_logprobs=None) if request.task == "rate" else answer

    graph = answering(graph, tmp_path, scoreless)
    graph.materialize(ANSWERED)
    assert ": unscored (" in refusal(graph, "key:rewards")


def test_scores_and_comparisons_of_too_little_mass_are_none(graph: Graph, tmp_path: Path) -> None:
    def noise(request: Request, answer: Answer) -> Answer:
        if request.kind != "weigh":
            return answer
        share = 1.5e-8 / len(request.labels or [1])
        return replace(
            answer, label_logprobs={label: math.log(share) for label in request.labels or ()}
        )

    graph = answering(graph, tmp_path, noise)
    graph.materialize(ANSWERED)
    assert ": massless (" in refusal(graph, "key:rewards")
    graph = answering(graph, tmp_path, noise, {"limits.massless": 1.0})
    graph.materialize("key:rewards")
    assert graph.query(
        "SELECT DISTINCT reward, missing_reason, score_mass < 1e-7 FROM rewards WHERE task = 'rate'"
    ) == [(None, "no score: mass below rewards.min_score_mass", True)]


def test_comparisons_that_say_nothing_stop(graph: Graph, tmp_path: Path) -> None:
    def noise(request: Request, answer: Answer) -> Answer:
        if request.task != "compare":
            return answer
        return replace(answer, label_logprobs={"A": math.log(1e-9), "B": math.log(2e-9)})

    graph = answering(graph, tmp_path, noise)
    graph.materialize(f"{ANSWERED} or key:rewards")
    message = refusal(graph, "key:judge_comparisons")
    assert "uncompared (" in message
    assert "× no comparison: mass below rewards.min_score_mass (request " in message


# -- told ------------------------------------------------------------------------------------------


def test_labels_that_match_no_prompt_are_a_warning(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    labels = [{"prompt": f"another question {n}", "annotator": "a", "label": 1} for n in (1, 2)]
    path.write_text("".join(json.dumps(label) + "\n" for label in labels))
    graph = strictly(graph, tmp_path, MIX, changes={"human_labels.dataset": str(path)})
    graph.materialize(f"{READ} or {RULED} or {GRADED} or key:human_labels")
    (result,) = graph.materialize("key:controversy_agreement")
    assert lost(graph, "controversy_agreement") == [
        (None, None, "unmatched labels", "no graded prompt has the text or the id", 2, 2, 1.0, None)
    ]
    (event,) = result.asset_materializations_for_node("controversy_agreement")
    assert event.metadata["lost: unmatched labels"].value == 1.0


def test_a_check_shows_the_shares(graph: Graph, tmp_path: Path) -> None:
    mix = [*MIX[:4], *({**one, "chosen": "a bare text"} for one in MIX[4:])]
    graph = strictly(graph, tmp_path, mix, changes={"limits.malformed": 0.6})
    results = graph.with_checks().materialize("key:source_prompts")
    checks = [
        check
        for result in results
        for check in result.get_asset_check_evaluations()
        if check.check_name == "within_limits"
    ]
    assert checks and all(check.passed for check in checks)
    assert checks[-1].metadata["lost: malformed (preference_mix)"].value == 0.5


def test_limits_are_those_of_the_part_where_it_has_some() -> None:
    with pytest.raises(RecipeError, match=r"limits\.exceptions: nobody is no source, model or"):
        changed_recipe({"limits.exceptions": {"nobody": {"empty": 1.0}}})
    limits = Limits(empty=0.3, exceptions={"large": {"empty": 0.6}})
    assert limits.allowed("empty", "large") == 0.6
    assert limits.allowed("empty", "small") == limits.allowed("empty", None) == 0.3
    assert limits.allowed("excluded", "large") == 0.99
