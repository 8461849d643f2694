"""Token counts and reference log-probabilities: once for each content, and only what is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.assets.graph import check_backends
from alignment_assets.exports.formats import ExportError
from alignment_assets.inference.types import Answer, Request
from alignment_assets.recipe.load import RecipeError
from alignment_assets.requests.runner import TooManyFailures
from alignment_assets.warehouse.losses import TooMuchLost
from tests.conftest import Graph, changed_recipe
from tests.support.fakes import FakeInference, row_tokens

MODEL, COOL, POLICY = "smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"
OF_POLICIES = "key:judge_comparisons+ or key:policy_tokens+"
SELECTED = """
SELECT DISTINCT unnest([chosen_completion_id, rejected_completion_id]) AS completion_id
FROM selected_pairs
"""


def newly_asked(graph: Graph, before: int) -> list[str]:
    """Return the texts that the policy was asked the log-probability of since."""
    return [
        request["messages"][-1]["content"]
        for request in graph.asked()[before:]
        if request["task"] == "loglikelihood"
    ]


def number(graph: Graph, query: str) -> int:
    return int(graph.query(f"SELECT count(*) FROM ({query})")[0][0])


def selected(graph: Graph) -> set[tuple[Any, ...]]:
    return set(graph.query(SELECTED))


def test_each_candidate_is_counted_and_each_selected_one_asked_about_once(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    texts = number(graph, "FROM completions WHERE text IS NOT NULL")
    assert graph.counted() == number(graph, "FROM policy_tokens") == texts
    asked = newly_asked(graph, 0)
    assert len(asked) == number(graph, "FROM reference_logprobs") == len(selected(graph)) > 40
    found = graph.query(
        "SELECT messages, text, policy_tokens.prompt_tokens, policy_tokens.completion_tokens "
        "FROM policy_tokens JOIN completions USING (completion_id) "
        "JOIN alignment_prompts ON alignment_prompts.prompt_id = policy_tokens.prompt_id"
    )
    for messages, text, before, after in found:
        said = row_tokens([*messages, {"role": "assistant", "content": text}])
        assert (before, after) == (said["prompt_tokens"], said["completion_tokens"])
    # The training row has none of the system prompts that answers were asked with.
    assert {len({m["role"] for m in messages} & {"system"}) for messages, *_ in found} <= {0, 1}
    pairs = graph.query(
        "SELECT chosen_tokens, counted.completion_tokens FROM dpo_pairs "
        "JOIN policy_tokens AS counted ON counted.completion_id = chosen_completion_id"
    )
    assert pairs and all(one == other for one, other in pairs)


def test_another_strategy_asks_only_for_what_is_new(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    before, counted, old = len(graph.asked()), graph.counted(), selected(graph)
    widest = graph.with_recipe(changed_recipe({"selection.strategy": "best_worst"}))

    widest.materialize("key:selected_pairs+", POLICY)

    assert graph.counted() == counted
    new = selected(graph) - old
    assert 0 < len(new) < len(selected(graph))
    assert len(graph.asked()) - before == len(newly_asked(graph, before)) == len(new)


def test_another_model_is_counted_and_asked_about_alone(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    before, counted, old = len(graph.asked()), graph.counted(), selected(graph)
    models = changed_recipe().model_dump(mode="json")["models"]
    models["newcomer"] = {**models[MODEL], "temperature": 0.7}
    more = graph.with_recipe(
        changed_recipe({"models": models, "completions.models": [MODEL, COOL, "newcomer"]})
    )

    more.materialize("key:completion_requests or key:completions or key:rewards", "newcomer")
    more.materialize(OF_POLICIES, POLICY)

    texts = number(more, "FROM completions WHERE model = 'newcomer' AND text IS NOT NULL")
    assert graph.counted() - counted == texts > 0
    assert len(newly_asked(graph, before)) == len(selected(more) - old) > 0


def test_another_scorer_counts_nothing_again(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    before, counted, old = len(graph.asked()), graph.counted(), selected(graph)
    scorer = {"task": "classify", "model": "smollm2-135m-judge"}
    other = graph.with_recipe(changed_recipe({"rewards.standard": scorer}))

    for model in other.recipe.answering_models:
        other.materialize("key:rewards", model)
    other.materialize(OF_POLICIES, POLICY)

    assert graph.counted() == counted
    assert len(newly_asked(graph, before)) == len(selected(other) - old) > 0


def test_policies_with_one_tokenizer_share_its_counts(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    counted = graph.counted()
    models = changed_recipe().model_dump(mode="json")["models"]
    models["larger"] = {**models[POLICY], "weights": "../larger"}
    both = graph.with_recipe(
        changed_recipe({"models": models, "completions.policies": [POLICY, "larger"]})
    )

    both.materialize("key:completion_requests or key:completions", "larger")
    both.materialize("key:policy_tokens", "larger")

    own = number(both, "FROM completions WHERE model = 'larger' AND text IS NOT NULL")
    assert graph.counted() - counted == own
    models_texts = number(
        both, f"FROM completions WHERE model NOT IN ('larger', '{POLICY}') AND text IS NOT NULL"
    )
    counts = number(both, "FROM policy_tokens WHERE policy = 'larger' AND missing_reason IS NULL")
    assert counts == own + models_texts


def test_another_chat_template_counts_all_again(
    materialized: Callable[..., Graph], tmp_path: Path
) -> None:
    graph = materialized("+key:policy_tokens")
    counted = graph.counted()
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}", encoding="utf-8")
    models = changed_recipe().model_dump(mode="json")["models"]
    models[POLICY] |= {"chat_template": str(template)}
    other = graph.with_recipe(changed_recipe({"models": models}))
    # The answers of before, as if its server had another template than trainers will have.
    other.materialize("key:policy_tokens", POLICY)
    assert graph.counted() == 2 * counted


def test_an_export_is_of_one_chat_template(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    models = changed_recipe().model_dump(mode="json")["models"]
    models[POLICY] |= {"chat_template_arguments": {"enable_thinking": False}}
    other = graph.with_recipe(changed_recipe({"models": models}))
    with pytest.raises(ExportError, match=r"policy_tokens\[.*another tokenizer, chat template"):
        other.materialize("key:training_export", POLICY)
    other.materialize("key:policy_tokens", POLICY)
    with pytest.raises(ExportError, match=r"reference_logprobs\[.*another tokenizer"):
        other.materialize("key:training_export", POLICY)
    other.materialize("key:policy_tokens+", POLICY)


@pytest.mark.parametrize(("scope", "of"), [("candidates", "FROM policy_tokens"), ("none", None)])
def test_all_candidates_are_asked_about_or_none(
    materialized: Callable[..., Graph], scope: str, of: str | None
) -> None:
    graph = materialized()
    before = len(graph.asked())
    other = graph.with_recipe(changed_recipe({"reference_logprobs.scope": scope}))
    other.materialize("key:reference_logprobs", POLICY)
    rows = number(other, "FROM reference_logprobs")
    assert rows == (number(other, of) if of else 0)
    assert len(newly_asked(graph, before)) == max(0, rows - len(selected(graph)))
    other.materialize("key:dpo_pairs+", POLICY)


class Stumbling(FakeInference):
    """Tells no log-probability of some answers."""

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        if request.kind == "loglikelihood" and request.request_id < "1":
            return replace(answer, finish_reason="rejected", value=None, error="out of words")
        return answer


def test_what_the_policy_cannot_tell_is_a_row_with_its_reason(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("+key:selected_pairs")
    stumbling = replace(graph, inference=Stumbling(log=graph.inference.log))
    with pytest.raises(TooManyFailures, match="out of words"):
        stumbling.materialize("key:reference_logprobs", POLICY)
    patient = stumbling.with_recipe(changed_recipe({"inference.max_failed_share": 0.5}))
    patient.materialize("key:reference_logprobs", POLICY)
    rows = graph.query("SELECT logprob, completion_tokens, missing_reason FROM reference_logprobs")
    missing = [row for row in rows if row[0] is None]
    assert 0 < len(missing) < len(rows)
    assert set(missing) == {(None, None, "no log-probability: out of words")}


class Refusing(FakeInference):
    """Has a chat template that refuses every fifth conversation."""

    def count_tokens(
        self, model: str, run: Any, uncounted: Path, counted: Path, report: Any
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        super().count_tokens(model, run, uncounted, counted, report)
        rows = pq.read_table(counted).to_pylist()
        for row in rows[::5]:
            row |= {
                "prompt_tokens": None,
                "completion_tokens": None,
                "missing_reason": "the chat template refuses this conversation",
            }
        pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(counted)), counted)


def test_what_cannot_be_counted_is_in_no_pair_and_too_much_of_it_stops(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("+key:judge_rankings")
    refusing = replace(graph, inference=Refusing(log=graph.inference.log))
    with pytest.raises(TooMuchLost, match=r"uncounted \(smollm2-135m-policy\).*refuses"):
        refusing.materialize("key:policy_tokens", POLICY)
    patient = refusing.with_recipe(changed_recipe({"limits.uncounted": 0.5}))
    patient.materialize("key:policy_tokens+", POLICY)
    uncounted = set(
        graph.query("SELECT completion_id FROM policy_tokens WHERE missing_reason <> ''")
    )
    assert uncounted and not uncounted & selected(graph)
    reasons = set(
        graph.query(
            "SELECT ineligible_reason FROM quantile_rewards JOIN policy_tokens "
            "USING (completion_id) WHERE missing_reason <> '' AND reward IS NOT NULL"
        )
    )
    assert reasons == {("no token counts",)}
    # They are tried again, and what is counted then stays.
    graph.materialize("key:policy_tokens", POLICY)
    assert number(graph, "FROM policy_tokens WHERE missing_reason <> ''") == 0


def test_of_weights_that_servers_alone_know_the_engines_counts_stand_in(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized("+key:completions")
    models = changed_recipe().model_dump(mode="json")["models"]
    models[POLICY] |= {"weights": "served:policy"}
    served = graph.with_recipe(
        changed_recipe({"models": models, "reference_logprobs.scope": "none"})
    )
    served.materialize("key:policy_tokens", POLICY)
    assert graph.counted() == 0
    rows = graph.query(
        "SELECT counted.prompt_tokens, asked.fewest, counted.completion_tokens, text_tokens, "
        "tokenizer_fingerprint "
        "FROM policy_tokens AS counted JOIN completions USING (completion_id) "
        "JOIN (SELECT prompt_id, min(prompt_tokens) AS fewest FROM completions "
        f"WHERE model = '{POLICY}' GROUP BY ALL) AS asked ON asked.prompt_id = counted.prompt_id"
    )
    assert rows
    for before, least, after, text_tokens, fingerprint in rows:
        assert (before, after, fingerprint) == (least, text_tokens, None)


def test_a_policy_that_endpoints_answer_for_has_no_log_probabilities() -> None:
    models = changed_recipe().model_dump(mode="json")["models"]
    models[POLICY] |= {
        "weights": "served:policy",
        "backend": {"openai": {"urls": ["http://127.0.0.1:1/v1"]}},
    }
    with pytest.raises(RecipeError, match=r"reference_logprobs: \{scope: none\}"):
        check_backends(changed_recipe({"models": models}))
    check_backends(changed_recipe({"models": models, "reference_logprobs.scope": "none"}))
