"""Revisions are resolved once and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment_assets.host.hub import RevisionError, hub_commit
from alignment_assets.inference.fingerprint import model_fingerprint, resolve_weights
from alignment_assets.recipe.model import DatasetReference
from alignment_assets.recipe.run import Run
from alignment_assets.sources.readers import dataset_commit
from tests.conftest import changed_recipe

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def record(home: Path, key: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "revisions.json").write_text(json.dumps({key: COMMIT}))


def test_a_recorded_revision_stays_and_asks_no_hub(tmp_path: Path) -> None:
    record(tmp_path, "model/Qwen/Qwen3-32B@main")
    weights = resolve_weights("qwen3-32b", Run(changed_recipe(name="apertus"), tmp_path))
    assert (weights.location, weights.commit) == ("Qwen/Qwen3-32B", COMMIT)

    record(tmp_path, "dataset/allenai/mix@main")
    recorded = tmp_path / "revisions.json"
    assert dataset_commit(DatasetReference(dataset="hf:allenai/mix"), recorded) == COMMIT
    assert dataset_commit(DatasetReference(dataset="mix.jsonl"), recorded) is None


def test_a_model_and_a_dataset_of_one_name_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    record(tmp_path, "dataset/owner/name@main")
    with pytest.raises(RevisionError, match="model/owner/name@main"):
        hub_commit("model", "owner/name", "main", tmp_path / "revisions.json")
    # Nothing is recorded for what failed.
    assert list(json.loads((tmp_path / "revisions.json").read_text())) == [
        "dataset/owner/name@main"
    ]


def test_a_fingerprint_changes_with_all_that_makes_a_model_answer_as_it_does(
    tmp_path: Path,
) -> None:
    record(tmp_path, "model/Qwen/Qwen3-32B@main")
    recipe = changed_recipe(name="apertus")
    weights = resolve_weights("qwen3-32b", Run(recipe, tmp_path))
    model = recipe.models["qwen3-32b"]
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages }}")
    later = changed_recipe({"template_date": "2026-01-01"}, "apertus")
    thinking = model.model_copy(update={"chat_template_arguments": {"enable_thinking": True}})
    other = model.model_copy(update={"chat_template": str(template)})
    elsewhere = model.model_copy(update={"backend": {"vllm": {"gpus": 8, "max_num_seqs": 1}}})

    before = model_fingerprint(weights, model, recipe)

    assert (
        len(
            {
                before,
                *(
                    model_fingerprint(weights, changed, used)
                    for changed, used in ((model, later), (thinking, recipe), (other, recipe))
                ),
            }
        )
        == 4
    )
    assert model_fingerprint(weights, elsewhere, recipe) == before
