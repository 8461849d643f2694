"""Where a system prompt goes for a model whose chat template has no place for it."""

from __future__ import annotations

from dataclasses import replace

from alignment_assets.inference.fingerprint import Weights, model_fingerprint
from tests.conftest import Graph, changed_recipe

MODEL = "smollm2-135m"


def test_it_is_put_before_the_first_user_message_where_the_recipe_says_so(graph: Graph) -> None:
    graph.materialize("+key:completion_requests")
    graph.materialize("key:completions", MODEL)
    plain = [one for one in graph.asked() if one["task"] == "generate"]
    prepending = changed_recipe({f"models.{MODEL}.system_prompt": "prepend_to_user"})
    graph = replace(graph, recipe=prepending)
    graph.materialize("key:completion_requests or key:completions", MODEL)
    asked = [one for one in graph.asked() if one["task"] == "generate"][len(plain) :]
    # It is another question: nothing that was answered as a system message counts.
    assert len(asked) == len(plain)
    assert not {one["request_id"] for one in asked} & {one["request_id"] for one in plain}
    wanted = []
    for one in plain:
        first, *rest = one["messages"]
        if first["role"] == "system":
            user, *rest = rest
            first = {"role": "user", "content": f"{first['content']}\n\n{user['content']}"}
        wanted.append([first, *rest])
    key = repr
    assert sorted((one["messages"] for one in asked), key=key) == sorted(wanted, key=key)
    assert any(len(one["messages"]) > len(two) for one, two in zip(plain, wanted, strict=True))


def test_a_fingerprint_is_another_by_it_and_the_same_without() -> None:
    weights = Weights("somewhere", None, "content")
    recipe = changed_recipe()
    model = recipe.models[MODEL]
    prepending = model.model_copy(update={"system_prompt": "prepend_to_user"})
    fingerprints = {model_fingerprint(weights, one, recipe) for one in (model, prepending)}
    assert len(fingerprints) == 2
