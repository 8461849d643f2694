"""What `doctor` says of datasets: it reads their first rows as a run would, and records nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment_assets.assets.first_rows import look_at_datasets
from alignment_assets.inference.backend import Finding
from alignment_assets.recipe.run import Run
from tests.conftest import changed_recipe
from tests.support.prompt_sources import entry, row

MIX = [row(f"question {number}?", f"mix_{number}") for number in range(150)]


def found(folder: Path, **changes: object) -> dict[str, Finding]:
    run = Run(changed_recipe(changes), folder / "home")
    findings = look_at_datasets(run)
    return {finding.subject: finding for finding in findings}


def source(dataset: str) -> dict[str, object]:
    return {**entry("preference_mix"), "name": "mix", "dataset": dataset}


def written(folder: Path, rows: list[dict[str, object]]) -> str:
    path = folder / "mix.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def test_the_demos_datasets_can_be_read(tmp_path: Path) -> None:
    datasets = found(tmp_path)
    assert {finding.verdict for finding in datasets.values()} == {"ok"}
    assert {"prompts.preference_mix", "personas", "human_labels"} <= datasets.keys()
    assert "rows" in datasets["human_labels"].text
    assert not (tmp_path / "home").exists()


def test_what_a_run_would_stumble_over_is_told_before(tmp_path: Path) -> None:
    half = [*MIX[:70], *({**one, "chosen": "a bare text"} for one in MIX[70:])]
    mixed = found(tmp_path, prompts=[source(written(tmp_path, half))])["prompts.mix"]
    assert mixed.verdict == "warning"
    assert "of its first 100 rows 70 can be used; malformed: 30 × " in mixed.text

    other = [{"question": f"question {number}?"} for number in range(3)]
    unmapped = found(tmp_path, prompts=[source(written(tmp_path, other))])["prompts.mix"]
    assert unmapped.verdict == "problem" and "map them under prompts.mix.columns" in unmapped.text

    bare = [{**one, "chosen": "a bare text"} for one in MIX[:3]]
    worthless = found(tmp_path, prompts=[source(written(tmp_path, bare))])["prompts.mix"]
    assert worthless.verdict == "problem" and "none of its 3 rows can be read" in worthless.text

    gone = found(tmp_path, **{"personas.dataset": str(tmp_path / "gone.jsonl")})["personas"]
    assert gone.verdict == "problem" and "no file at" in gone.text


def test_a_hub_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub = found(tmp_path, **{"personas.dataset": "hf:owner/people"})["personas"]
    assert hub.verdict == "problem"
    assert "dataset/owner/people@main: the hub does not answer for it" in hub.text


def test_what_stops_a_run_for_certain_is_a_problem(tmp_path: Path) -> None:
    people = tmp_path / "people.jsonl"
    people.write_text('{"persona": 5}\n')
    lacking = found(tmp_path, **{"personas.dataset": str(people), "consent.robots": "nowhere"})
    assert lacking["personas"].verdict == "problem"
    assert "of its first 1 rows 0 can be used" in lacking["personas"].text
    assert lacking["consent"].verdict == "problem" and "nowhere" in lacking["consent"].text
