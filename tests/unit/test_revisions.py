"""Revisions are resolved once and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment_assets.host.durable import read_record, write_record
from alignment_assets.host.hub import RevisionError, hub_commit
from alignment_assets.inference.fingerprint import model_fingerprint, resolve_weights
from alignment_assets.recipe.datasets import DatasetReference
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


@pytest.mark.parametrize("content", [b"", b'{"a": "b', b"[1]", b'{"a": 1}', b"\xff", b"[" * 9999])
def test_a_record_that_was_cut_off_is_put_aside_and_made_anew(
    content: bytes, smollm2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(changed_recipe(), tmp_path)
    whole = resolve_weights("smollm2-135m", run)
    kept = run.file_hashes.read_text()
    run.file_hashes.write_bytes(content)

    assert resolve_weights("smollm2-135m", run) == whole
    assert run.file_hashes.read_text() == kept
    assert (tmp_path / "file_hashes.json.torn").read_bytes() == content
    assert f"{run.file_hashes}: cannot be read" in caplog.text
    assert not list(tmp_path.glob("*.tmp"))


def test_a_record_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "revisions.json"
    write_record(path, {"a": "1"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_record(path, {"a": "2"})
    assert read_record(path) == {"a": "1"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_the_name_of_a_repository_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Qwen" / "Qwen3-32B").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    record(tmp_path, "model/Qwen/Qwen3-32B@main")
    with pytest.raises(RevisionError, match="Qwen3-32B has that name"):
        resolve_weights("qwen3-32b", Run(changed_recipe(name="apertus"), tmp_path))
