"""vLLM on this machine, for real: what each task gives, and that transformers computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.inference.types import Request
from alignment_assets.recipe.model import Recipe, Sampling
from alignment_assets.requests.request_sets import grade_schema
from tests.conftest import changed_recipe
from tests.integration.conftest import ask
from tests.integration.serving import save_scorer

pytestmark = pytest.mark.integration

NUMBERS = [str(number) for number in range(1, 10)]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def sampled(**changes: Any) -> dict[str, Any]:
    return Sampling(**changes).model_dump()


@pytest.fixture(scope="module")
def exact_recipe(smollm2: Path) -> Recipe:
    """The demo's model in 32 bits, so that numbers can be compared."""
    content = changed_recipe().model_dump(mode="json")["models"]
    backend = {"vllm": {"dtype": "float32", "max_num_seqs": 64}}
    content["smollm2-135m"] |= {"backend": backend, "max_model_len": 1024}
    return changed_recipe({"models": content})


@pytest.fixture(scope="module")
def answers(exact_recipe: Recipe, tmp_path_factory: Any) -> dict[str, dict[str, Any]]:
    """One engine, all tasks that generate."""
    rating = [
        {"role": "system", "content": "You rate answers from 1 to 9. Answer with only the number."},
        {"role": "user", "content": "Question: 2 + 2? Answer: 4. Your rating?"},
    ]
    comparing = user(
        "Which is the better fruit? A: an apple. B: a stone. Answer with only the letter."
    )
    greedy = sampled(temperature=0.0, max_tokens=12)
    requests = [
        *(
            Request(
                f"generate-{n}",
                "generate",
                "generate",
                user(f"Name {n} animals."),
                sampled(max_tokens=16),
            )
            for n in range(40)
        ),
        Request("greedy", "generate", "generate", user("The capital of France is"), greedy),
        Request("greedy-again", "generate", "generate", user("The capital of France is"), greedy),
        Request("too-long", "generate", "generate", user("word " * 5_000), sampled(max_tokens=16)),
        Request("no-room", "generate", "generate", user("word " * 900), sampled(max_tokens=400)),
        Request(
            "special", "generate", "generate", user("Say <|im_end|> and </s> and {{ x }}"), greedy
        ),
        Request(
            "grade",
            "grade",
            "generate",
            user("Should taxes be higher?"),
            sampled(temperature=0.7, max_tokens=200),
            None,
            grade_schema(80),
        ),
        Request("rate", "rate", "weigh", rating, {}, NUMBERS),
        Request("compare", "compare", "weigh", comparing, {}, ["A", "B"]),
        Request(
            "not-one-token", "rate", "weigh", rating, {}, ["1", "a long label that is many tokens"]
        ),
    ]
    return ask(exact_recipe, "smollm2-135m", requests, tmp_path_factory.mktemp("vllm"))


def test_generate_answers_every_request_within_its_limit(
    answers: dict[str, dict[str, Any]],
) -> None:
    rows = [answers[f"generate-{n}"] for n in range(40)]
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert all(
        row["text"] and 0 < row["completion_tokens"] <= 16 and row["prompt_tokens"] > 0
        for row in rows
    )
    assert len({row["text"] for row in rows}) > 20  # temperature 1
    assert answers["greedy"]["text"] == answers["greedy-again"]["text"]
    assert {(row["engine"], row["engine_version"][:2]) for row in rows} == {("vllm", "0.")}


def test_what_does_not_fit_is_answered_with_that_and_fails_nothing_else(
    answers: dict[str, dict[str, Any]],
) -> None:
    for name in ("too-long", "no-room"):
        assert answers[name]["finish_reason"] == "context_length"
        assert answers[name]["text"] is None
        assert "1024" in answers[name]["error"]
    assert answers["not-one-token"]["finish_reason"] == "rejected"
    assert "tokens" in answers["not-one-token"]["error"]


def test_grade_is_json_by_the_schema(answers: dict[str, dict[str, Any]]) -> None:
    answer = json.loads(answers["grade"]["text"])
    assert list(answer) == ["reasoning", "classification"]
    assert answer["classification"] in {"0", "1", "2", "3"}
    assert len(answer["reasoning"]) <= 80


@pytest.mark.parametrize("name", ["rate", "compare"])
def test_label_logprobs_are_those_of_transformers(
    name: str, answers: dict[str, dict[str, Any]], reference: tuple[Any, Any]
) -> None:
    import torch

    labels = NUMBERS if name == "rate" else ["A", "B"]
    messages = {
        "rate": [
            {
                "role": "system",
                "content": "You rate answers from 1 to 9. Answer with only the number.",
            },
            {"role": "user", "content": "Question: 2 + 2? Answer: 4. Your rating?"},
        ],
        "compare": user(
            "Which is the better fruit? A: an apple. B: a stone. Answer with only the letter."
        ),
    }[name]
    model, tokenizer = reference
    tokens = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        logprobs = model(**tokens).logits[0, -1].log_softmax(-1)
    expected = {label: logprobs[tokenizer.encode(label)[-1]].item() for label in labels}

    found = {entry["label"]: entry["logprob"] for entry in answers[name]["label_logprobs"]}
    assert found == pytest.approx(expected, abs=2e-3)


def test_classify_gives_the_raw_logit_of_transformers(smollm2: Path, tmp_path: Path) -> None:
    import torch

    folder = tmp_path / "scorer"
    model, tokenizer = save_scorer(folder, smollm2)
    models = changed_recipe().model_dump(mode="json")["models"]
    models["scorer"] = {
        **models["smollm2-135m"],
        "weights": str(folder),
        "backend": {"vllm": {"dtype": "float32"}},
        "max_model_len": 512,
    }
    recipe = changed_recipe({"models": models})
    conversations = [
        [*user(f"Question {n}: " + "why " * n), {"role": "assistant", "content": f"Because {n}."}]
        for n in range(12)
    ]

    rows = ask(
        recipe,
        "scorer",
        [
            Request(str(n), "classify", "classify", conversation)
            for n, conversation in enumerate(conversations)
        ],
        tmp_path / "home",
    )

    for n, conversation in enumerate(conversations):
        tokens = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            expected = model(**tokens).logits[0, 0].item()
        assert rows[str(n)]["value"] == pytest.approx(expected, abs=1e-4)
    # Logits, not probabilities.
    assert any(not 0 <= row["value"] <= 1 for row in rows.values())
