"""Trainers take an export as it is, and the examples train on what it holds."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import pytest
import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from tests.conftest import REPOSITORY
from tests.support.plain_logprobs import completion_logprob
from tests.support.tiny_policy import write_tiny_policy
from tests.support.training_export import PAIRS, write_export, write_rows

pytestmark = pytest.mark.integration

EXAMPLES = REPOSITORY / "examples"
# Of both trainers of examples and TRL's own.
STEP = {
    "report_to": "none",
    "disable_tqdm": True,
    "bf16": False,
    "save_strategy": "no",
    "dataloader_pin_memory": False,
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "max_steps": 1,
}
# The last two begin where the tokens of the opened turn end in a merge.
DIFFICULT = [
    *PAIRS,
    ("Count to two.", "\n\nOne, two.", "\n\nThe other way: two, one."),
    ("Count to two.", "\n\nOne, two.", "Two."),
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread_is_enough() -> Iterator[None]:
    """For a model this small; several wait for each other where a machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _datasets_are_kept_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def tokenizer(policy: Path) -> Any:
    return AutoTokenizer.from_pretrained(policy)


@pytest.fixture
def model(policy: Path) -> Any:
    """The policy, not yet trained."""
    return AutoModelForCausalLM.from_pretrained(policy)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory, policy: Path, tokenizer: Any) -> Path:
    model = AutoModelForCausalLM.from_pretrained(policy)
    folder = tmp_path_factory.mktemp("export")
    return write_export(folder, model, tokenizer, weights=str(policy))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports an example as Python does when it runs one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # the examples set it
    monkeypatch.syspath_prepend(EXAMPLES)
    before = set(sys.modules)
    yield import_module
    for name in {"exported", "train_dpo", "train_qrpo"} & (set(sys.modules) - before):
        del sys.modules[name]


def rows(export: Path, config: str) -> Dataset:
    return load_dataset(str(export), config, split="train")


def loss(trainer: Any) -> float:
    """Return the loss of the first batch, without training on it."""
    with torch.no_grad():
        batch = next(iter(trainer.get_train_dataloader()))
        return float(trainer.compute_loss(trainer.model, batch))


def dpo_config(tmp_path: Path, **changes: Any) -> DPOConfig:
    settings = {**STEP, "max_length": None, "per_device_train_batch_size": len(PAIRS)}
    return DPOConfig(str(tmp_path), **{**settings, **changes})


def moved(model: Any) -> Any:
    """Return the model with other weights, as after some training."""
    with torch.no_grad():
        for number, weights in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            weights += 0.05 * torch.randn(weights.shape, generator=generator)
    return model


@pytest.mark.parametrize("precompute", [False, True])
def test_dpo_is_taken_as_it_is(
    export: Path, model: Any, tokenizer: Any, tmp_path: Path, precompute: bool
) -> None:
    trainer = DPOTrainer(
        model=model,
        args=dpo_config(tmp_path, precompute_ref_log_probs=precompute),
        train_dataset=rows(export, "dpo"),
        processing_class=tokenizer,
    )
    assert trainer.train().training_loss == pytest.approx(math.log(2), abs=1e-5)


def test_kto_and_reward_model_are_taken_as_they_are(
    export: Path, policy: Path, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    kto = KTOTrainer(
        model=model,
        args=KTOConfig(str(tmp_path), **STEP, max_length=None),
        train_dataset=rows(export, "kto"),
        processing_class=tokenizer,
    )
    assert math.isfinite(kto.train().training_loss)
    reward = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1),
        args=RewardConfig(str(tmp_path), **STEP, max_length=None),
        train_dataset=rows(export, "reward_model"),
        processing_class=tokenizer,
    )
    assert math.isfinite(reward.train().training_loss)


def test_tokens_are_those_that_trl_trains_on(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", model, tokenizer, DIFFICULT)
    args = dpo_config(tmp_path, precompute_ref_log_probs=True)
    dpo = DPOTrainer(model, None, args, None, rows(export, "dpo"), processing_class=tokenizer)
    *same, other = dpo.train_dataset
    for row in same:
        for part in ("chosen", "rejected"):
            assert len(row["prompt_ids"]) == row["prompt_tokens"]
            assert len(row[f"{part}_ids"]) == row[f"{part}_tokens"]
            assert row[f"ref_{part}_logps"] == pytest.approx(
                row[f"{part}_reference_logprob"], abs=1e-3 * row[f"{part}_tokens"]
            )
    # TRL lets both begin where the first of them parts from the prompt.
    assert len(other["prompt_ids"]) == other["prompt_tokens"]
    assert len(other["chosen_ids"]) == other["chosen_tokens"]
    assert len(other["rejected_ids"]) == other["rejected_tokens"] + 1
    # So what is stored of such a pair would be of other tokens.
    assert [row["pair_id"] for row in rows(export, "dpo_ref")] == [row["pair_id"] for row in same]


def test_the_stored_values_give_the_loss_of_trls_own_reference(
    export: Path,
    policy: Path,
    tokenizer: Any,
    tmp_path: Path,
    example: Callable[[str], ModuleType],
) -> None:
    train_dpo = example("train_dpo")

    def with_stored(dataset: Dataset) -> float:
        args = train_dpo.configuration(str(tmp_path), 1)
        args.per_device_train_batch_size = len(PAIRS)
        trainer = train_dpo.StoredReferenceDPOTrainer(
            model=moved(AutoModelForCausalLM.from_pretrained(policy)),
            args=args,
            train_dataset=dataset,
            processing_class=tokenizer,
        )
        assert trainer.ref_model is None
        return loss(trainer)

    its_own = DPOTrainer(
        model=moved(AutoModelForCausalLM.from_pretrained(policy)),
        ref_model=AutoModelForCausalLM.from_pretrained(policy),
        args=dpo_config(tmp_path),
        train_dataset=rows(export, "dpo"),
        processing_class=tokenizer,
    )
    stored = rows(export, "dpo_ref")
    expected = loss(its_own)
    assert abs(expected - math.log(2)) > 0.01
    assert with_stored(stored) == pytest.approx(expected, abs=1e-4)
    nonsense = stored.map(lambda row: {"ref_chosen_logps": row["ref_chosen_logps"] - 50})
    assert abs(with_stored(nonsense) - expected) > 0.1


@pytest.mark.parametrize("name", ["dpo", "qrpo"])
def test_an_example_trains(
    export: Path,
    tmp_path: Path,
    example: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    command = [f"train_{name}.py", "--export", str(export), "--steps", "12"]
    monkeypatch.setattr(sys, "argv", [*command, "--output", str(tmp_path / "trained")])
    example(f"train_{name}").main()
    printed = capsys.readouterr()
    assert printed.err == ""
    steps = re.findall(r"step \d+/12: loss ([\d.]+), margin ([+-][\d.]+)", printed.out)
    losses, margins = (list(map(float, values)) for values in zip(*steps, strict=True))
    assert len(steps) == 12
    assert abs(margins[0]) < 1e-3  # nothing is learnt before the first step
    assert margins[-1] > margins[len(margins) // 2] > 0
    assert sum(losses[-3:]) < sum(losses[:3])
    AutoModelForCausalLM.from_pretrained(tmp_path / "trained")
    AutoTokenizer.from_pretrained(tmp_path / "trained")


def test_log_z_is_right_and_does_not_overflow(example: Callable[[str], ModuleType]) -> None:
    log_partition = example("train_qrpo").log_partition
    share = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for beta in (0.1, 0.5, 1.0, 5.0, 50.0):
        average = (share / beta).exp().mean().log()  # over quantiles, which are uniform
        assert float(log_partition(torch.tensor(beta))) == pytest.approx(float(average), abs=1e-4)
    assert float(log_partition(torch.tensor(1e-4))) == pytest.approx(1e4 + math.log(1e-4))


@pytest.mark.parametrize("normalized", [False, True])
def test_the_residual_of_a_policy_that_is_right_is_zero(
    export: Path,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
    example: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    normalized: bool,
) -> None:
    train_qrpo = example("train_qrpo")
    monkeypatch.setattr(train_qrpo, "LENGTH_NORMALIZED", normalized)
    monkeypatch.setattr(train_qrpo, "BETA", 5.0 if normalized else 0.5)

    def right(row: dict[str, Any]) -> dict[str, float]:
        logprob, _, tokens = completion_logprob(model, tokenizer, row["prompt"], row["completion"])
        beta = 5.0 / tokens if normalized else 0.5
        log_z = math.log(beta * (math.exp(1 / beta) - 1))
        return {"ref_logprob": logprob - row["quantile_reward"] / beta + log_z}

    def residual(dataset: Dataset) -> float:
        return loss(
            train_qrpo.QRPOTrainer(
                model=model,
                args=train_qrpo.configuration(str(tmp_path), 1),
                train_dataset=dataset,
                data_collator=train_qrpo.collate,
            )
        )

    tokenized = rows(export, "qrpo").map(train_qrpo.tokenize, fn_kwargs={"tokenizer": tokenizer})
    assert [len(row["completion_ids"]) for row in tokenized] == tokenized["completion_tokens"]
    assert residual(tokenized.map(right)) == pytest.approx(0, abs=1e-6)
    assert residual(tokenized) > 0.01


def test_the_examples_take_the_recipes_own_chat_template_and_what_it_is_given(
    export: Path, tmp_path: Path, example: Callable[[str], ModuleType]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    told = json.loads((export / "manifest.json").read_text(encoding="utf-8"))
    told["policy"]["chat_template"] = "chat_template.jinja"
    (mine / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    template = "{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}"
    (mine / "chat_template.jinja").write_text(template, encoding="utf-8")

    _, tokenizer = example("exported").load_policy(mine, None)

    row = {**rows(export, "qrpo")[0], "chat_template_kwargs": {"mood": "Hello"}}
    tokens = example("train_qrpo").tokenize(row, tokenizer)
    text = tokenizer.decode(tokens["prompt_ids"] + tokens["completion_ids"])
    assert text == "Hello" + row["prompt"][0]["content"] + row["completion"][0]["content"]


def test_an_example_says_in_a_line_what_is_missing(
    export: Path,
    model: Any,
    tokenizer: Any,
    tmp_path: Path,
    example: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported = example("exported")

    def said(function: Callable[..., Any], *arguments: Any) -> str:
        with pytest.raises(SystemExit) as left:
            function(*arguments)
        line = str(left.value)
        assert "\n" not in line
        return line

    assert "`make demo`" in said(exported.read_rows, tmp_path, "dpo_ref")
    assert "manifest.json" in said(exported.read_rows, export, "ours")
    assert "--model" in said(exported.load_policy, export, str(tmp_path))
    assert "no_such" in said(exported.load_policy, export, "package:no_such")
    empty = write_export(tmp_path / "empty", model, tokenizer, PAIRS[:1])
    write_rows(empty, "dpo_ref", rows(empty, "dpo_ref").to_list()[:0])
    assert "manifest.json" in said(exported.read_rows, empty, "dpo_ref")
    other = rows(export, "dpo").map(lambda row: {"chosen_ids": [1] * row["chosen_tokens"] + [2]})
    assert "train the policy" in said(exported.check_tokens, other, "chosen_ids", "chosen_tokens")
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "exported")
    assert said(example, "exported").startswith("trl is not installed: run `make install`")
