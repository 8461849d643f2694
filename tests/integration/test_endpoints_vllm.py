"""Endpoints that are real vLLM servers: each task, one of two killed, and the same numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import Request
from alignment_assets.recipe.model import Recipe, Sampling
from alignment_assets.requests.request_sets import grade_schema
from tests.conftest import changed_recipe
from tests.integration.serving import VllmServer, save_scorer
from tests.support.endpoints import Asked

pytestmark = pytest.mark.integration

NUMBERS = [str(number) for number in range(1, 10)]


@dataclass
class Served:
    """Two servers of the demo's model, and one of a sequence classifier."""

    generators: list[VllmServer]
    scorer: VllmServer
    classifier: Any
    tokenizer: Any
    smollm2: Path


@pytest.fixture(scope="module")
def served(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("servers")
    servers = [VllmServer(smollm2, folder) for _ in range(2)]
    try:
        classifier, tokenizer = save_scorer(folder / "scorer", smollm2)
        servers.append(VllmServer(folder / "scorer", folder, "--runner", "pooling"))
        for server in servers:
            server.wait()
        yield Served(servers[:2], servers[2], classifier, tokenizer, smollm2)
    finally:
        for server in servers:
            server.kill()


def recipe_for(*servers: VllmServer) -> Recipe:
    models = changed_recipe().model_dump(mode="json")["models"]
    endpoints = {"urls": [server.url for server in servers], "name": "served"}
    weights = models["smollm2-135m"]["weights"]
    models["served"] = {"weights": weights, "billions": 0.1, "backend": {"openai": endpoints}}
    return changed_recipe({"models": models, "inference": {"attempts": 1}})


def rating(number: int) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": "You rate answers from 1 to 9. Answer with only the number."},
        {"role": "user", "content": f"Question: {number} + 2? Answer: 4. Your rating?"},
    ]


def test_classify_gives_the_raw_logit_of_transformers(served: Served, tmp_path: Path) -> None:
    import torch

    conversations = [
        [
            {"role": "user", "content": f"Question {n}: " + "why " * n},
            {"role": "assistant", "content": f"Because {n}."},
        ]
        for n in range(12)
    ]
    requests = [
        Request(str(n), "classify", "classify", turns) for n, turns in enumerate(conversations)
    ]
    long = [{"role": "user", "content": "why " * 600}]
    requests.append(Request("long", "classify", "classify", long))

    rows = Asked(recipe_for(served.scorer), requests, tmp_path).answer().rows()

    assert rows.pop("long")["finish_reason"] == "context_length"
    for n, turns in enumerate(conversations):
        tokens = served.tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            expected = served.classifier(**tokens).logits[0, 0].item()
        assert rows[str(n)]["value"] == pytest.approx(expected, abs=1e-4)
    assert any(not 0 <= row["value"] <= 1 for row in rows.values())


def test_all_answers_come_once_though_one_server_of_two_is_killed(
    served: Served, tmp_path: Path
) -> None:
    sampling = Sampling(max_tokens=24).model_dump()

    def generate(name: str, text: str, **changes: Any) -> Request:
        return Request(
            name,
            "generate",
            "generate",
            [{"role": "user", "content": text}],
            {**sampling, **changes},
        )

    story = "Tell a very long story about a lion and a mouse. "
    while len(served.tokenizer.encode(story)) < 512 - 50:  # the template takes 31
        story += "Tell a very long story about a lion and a mouse. "
    grade = [{"role": "user", "content": "Should taxes be higher?"}]
    cool = Sampling(temperature=0.7, max_tokens=100).model_dump()
    requests = [
        *(Request(f"rate-{n}", "rate", "weigh", rating(n), {}, NUMBERS) for n in range(6)),
        Request("not-one-token", "rate", "weigh", rating(0), {}, ["1", "a long label"]),
        generate("too-long", "word " * 2000),
        generate("no-room", story, temperature=0.0, max_tokens=300),
        *(
            generate(f"generate-{n}", f"Name {n} animals.") for n in range(150)
        ),  # both servers have some in hand
        *(
            Request(f"grade-{n}", "grade", "generate", grade, cool, None, grade_schema(40))
            for n in range(3)
        ),
    ]
    run = Asked(recipe_for(*served.generators), requests, tmp_path)
    seen: list[tuple[int, int]] = []

    def watch(progress: Progress) -> None:
        if progress.done >= 8 and not seen:
            served.generators[0].kill()
        if progress.done >= 8:
            seen.append((progress.done, progress.engines))

    run.answer(watch)

    assert seen[0][0] < len(requests)
    assert seen[-1] == (len(requests), 1)
    rows = run.rows()
    assert rows.keys() == {request.request_id for request in requests}
    assert run.progress.engine_version.startswith("vllm 0.")
    refused = {"too-long": "context_length", "no-room": "context_length"}
    refused["not-one-token"] = "rejected"
    for name, row in rows.items():
        if name in refused:
            assert row["finish_reason"] == refused[name], name
            assert row["error"]
        else:
            assert row["finish_reason"] in ("stop", "length"), row["error"]
    for n in range(150):
        row = rows[f"generate-{n}"]
        assert row["text"]
        assert 0 < row["completion_tokens"] <= 24
    grades = [rows[f"grade-{n}"] for n in range(3)]
    parsed = [json.loads(row["text"]) for row in grades if row["finish_reason"] == "stop"]
    assert parsed
    assert all(answer["classification"] in {"0", "1", "2", "3"} for answer in parsed)
    _ratings_are_those_of_transformers(served, rows)


def _ratings_are_those_of_transformers(served: Served, rows: dict[str, dict[str, Any]]) -> None:
    """Which are those of the engine on this host too; see test_vllm."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(served.smollm2, dtype=torch.float32)
    for n in range(6):
        tokens = served.tokenizer.apply_chat_template(
            rating(n), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            logprobs = model(**tokens).logits[0, -1].log_softmax(-1)
        expected = {label: logprobs[served.tokenizer.encode(label)[-1]].item() for label in NUMBERS}
        found = {entry["label"]: entry["logprob"] for entry in rows[f"rate-{n}"]["label_logprobs"]}
        assert found == pytest.approx(expected, abs=2e-2)
