"""The policy's log-probabilities by vLLM, and token counts, held against transformers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.inference.counting import (
    STRETCH,
    UNCOUNTED_SCHEMA,
    TokenizerSettings,
    count_tokens,
)
from alignment_assets.inference.types import Request
from tests.conftest import REPOSITORY, changed_recipe
from tests.integration.conftest import ask
from tests.support.plain_logprobs import completion_ids, completion_logprob

pytestmark = pytest.mark.integration

# `benchmarks.reference_logprobs` takes 200.
COMPLETIONS, APART = 40, 1e-3
MULTI_TURN = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Name a colour."},
    {"role": "assistant", "content": "Blue."},
    {"role": "user", "content": "Another?"},
]
# Prompts with answers that are tokenized in a way of their own.
CASES: dict[str, tuple[Any, str]] = {
    "plain": ("What is 2 + 2?", "It is 4."),
    "empty": ("Say nothing.", ""),
    "multi-turn": (MULTI_TURN, "Red."),
    "cut off": ("Tell me a long story.", "Once upon a time, there was a"),
    "not Latin": ("你好吗？", "很好, спасибо — مرحبا بالعالم! 🙂"),
    "begins with newlines": ("Go on.", "\n\nThe next line."),
    "begins with a space": ("Go on.", " and on"),
    "spells what ends a turn": ("Quote it.", "It is <|im_end|> and <|im_start|>user"),
}
# As the demo's model has it, and with words after the answer.
TALKATIVE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% else %}That was all.<|endoftext|>{% endif %}"
)


def conversation(prompt: Any, answer: str) -> list[dict[str, str]]:
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*before, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def conversations() -> dict[str, list[dict[str, str]]]:
    """The cases, and prompts of the demo with answers of many lengths."""
    dice, demo = random.Random(7), REPOSITORY / "recipes" / "demo"
    lines = (demo / "prism_conversations.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(line)["opening_prompt"] for line in lines]
    words = " ".join(prompts).split()
    drawn = {
        f"demo {number}": conversation(
            dice.choice(prompts), " ".join(dice.choices(words, k=dice.randrange(1, 40)))
        )
        for number in range(COMPLETIONS - len(CASES))
    }
    return {name: conversation(*case) for name, case in CASES.items()} | drawn


@pytest.fixture(scope="module")
def answers(
    conversations: dict[str, list[dict[str, str]]], smollm2: Path, tmp_path_factory: Any
) -> dict[str, dict[str, Any]]:
    models = changed_recipe().model_dump(mode="json")["models"]
    models["smollm2-135m"] |= {"backend": {"vllm": {"dtype": "float32"}}, "max_model_len": 512}
    requests = [
        Request(name, "loglikelihood", "loglikelihood", messages)
        for name, messages in conversations.items()
    ]
    requests.append(
        Request("too long", "loglikelihood", "loglikelihood", conversation("Go on.", "on " * 600))
    )
    recipe = changed_recipe({"models": models})
    return ask(recipe, "smollm2-135m", requests, tmp_path_factory.mktemp("logprobs"))


def test_they_are_those_of_transformers(
    answers: dict[str, dict[str, Any]],
    conversations: dict[str, list[dict[str, str]]],
    reference: tuple[Any, Any],
) -> None:
    import torch

    threads, apart = torch.get_num_threads(), []
    torch.set_num_threads(1)  # several wait for each other on a busy machine
    for name, messages in conversations.items():
        logprob, before, after = completion_logprob(*reference, messages[:-1], messages[-1:])
        answer = answers[name]
        assert (answer["prompt_tokens"], answer["completion_tokens"]) == (before, after), name
        assert answer["finish_reason"] == "stop"
        apart.append(abs(answer["value"] - logprob) / after)
    torch.set_num_threads(threads)
    assert len(apart) == COMPLETIONS
    assert sum(apart) / len(apart) <= APART
    assert max(apart) <= APART
    # What ends the turn, and the newline after it, are two of them.
    assert answers["empty"]["completion_tokens"] == 2
    # A newline joined with that of the prompt, which is one token less.
    tokens = {name: answers[name]["prompt_tokens"] for name in CASES}
    assert tokens["begins with newlines"] == tokens["begins with a space"] - 1


def test_what_does_not_fit_is_told(answers: dict[str, dict[str, Any]]) -> None:
    answer = answers["too long"]
    assert (answer["finish_reason"], answer["value"]) == ("context_length", None)
    assert "512" in answer["error"]


@pytest.mark.parametrize("template", [None, TALKATIVE], ids=["its own template", "talkative"])
def test_tokens_are_counted_as_a_trainer_counts_them(
    template: str | None,
    conversations: dict[str, list[dict[str, str]]],
    reference: tuple[Any, Any],
    smollm2: Path,
    tmp_path: Path,
) -> None:
    rows = [{"content_id": name, "messages": messages} for name, messages in conversations.items()]
    # So many that both processes have some.
    rows += [{**row, "content_id": f"again {row['content_id']}"} for row in rows * 5][: STRETCH + 9]
    uncounted, counted = tmp_path / "uncounted.parquet", tmp_path / "counted.parquet"
    table = pa.Table.from_pylist(rows, schema=UNCOUNTED_SCHEMA)
    pq.write_table(table, uncounted, row_group_size=STRETCH)
    settings = TokenizerSettings(str(smollm2), template, {}, "2025-09-02")

    count_tokens(settings, uncounted, counted, print, processes=2)

    found = {row["content_id"]: row for row in pq.read_table(counted).to_pylist()}
    _, tokenizer = reference
    own, tokenizer.chat_template = tokenizer.chat_template, template or tokenizer.chat_template
    try:
        for name, messages in conversations.items():
            before, after = completion_ids(tokenizer, messages[:-1], messages[-1:])
            row = found[name]
            assert (row["prompt_tokens"], row["completion_tokens"]) == (len(before), len(after))
            assert row["missing_reason"] is None
    finally:
        tokenizer.chat_template = own
    assert len(found) == len({row["content_id"] for row in rows})


def test_what_a_template_refuses_is_a_row_with_its_reason(smollm2: Path, tmp_path: Path) -> None:
    strict = "{{ raise_exception('No system message.') if messages[0].role == 'system' else 'x' }}"
    rows = [
        {"content_id": name, "messages": conversation(*CASES[name])}
        for name in ("plain", "multi-turn")
    ]
    uncounted, counted = tmp_path / "uncounted.parquet", tmp_path / "counted.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=UNCOUNTED_SCHEMA), uncounted)

    count_tokens(
        TokenizerSettings(str(smollm2), strict, {}, "2025-09-02"), uncounted, counted, print
    )

    found = {row["content_id"]: row for row in pq.read_table(counted).to_pylist()}
    assert found["plain"]["missing_reason"] is None
    assert found["multi-turn"]["prompt_tokens"] is None
    assert "No system message." in found["multi-turn"]["missing_reason"]
