"""What a shell offers after TAB, asked as a shell asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment_assets.commands.app import app

LOADED = """
import sys
from types import SimpleNamespace
from alignment_assets.commands import app, completing
assert completing.assets("") and completing.questions("") and completing.tables("")
assert completing.partitions(SimpleNamespace(params={"recipe": "demo"}), "")
print({"dagster", "pyarrow", "pandas", "datasets", "torch", "aiohttp"} & set(sys.modules))
"""


@pytest.fixture
def offered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., list[str]]:
    """Returns a function that gives what bash is offered for the last word of a command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALIGNMENT_RECIPE", raising=False)

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("_ALIGNMENT_ASSETS_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(["alignment-assets", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit) as ended:
            app(prog_name="alignment-assets")
        said = capsys.readouterr()
        assert (ended.value.code or 0) == 0 and said.err == ""
        return said.out.split("\n")[:-1] if said.out.strip() else []

    return ask


def test_recipes_are_offered_that_come_along_and_that_stand_here(
    offered: Callable[..., list[str]],
) -> None:
    Path("recipes").mkdir()
    for name in ("mine.yaml", "dagster.yaml", ".hidden.yaml", "recipes/other.yaml"):
        Path(name).write_text("")
    assert offered("status", "--recipe", "") == [
        "apertus",
        "demo",
        "mine.yaml",
        "recipes/other.yaml",
    ]
    assert offered("status", "--recipe", "m") == ["mine.yaml"]


def test_partitions_are_those_of_the_recipe_that_is_named(
    offered: Callable[..., list[str]],
) -> None:
    assert offered("materialize", "--partition", "smollm2-135m-") == [
        "smollm2-135m-cool",
        "smollm2-135m-judge.controversy",
        "smollm2-135m-judge.controversy_brief",
        "smollm2-135m-policy",
    ]
    named = offered("materialize", "--recipe", "apertus", "--partition", "qwen3")
    assert named == ["qwen3-14b", "qwen3-32b", "qwen3-32b.controversy"]
    assert offered("materialize", "--recipe", "nowhere.yaml", "--partition", "") == []
    Path("broken.yaml").write_text("a: [")
    assert offered("materialize", "--recipe", "broken.yaml", "--partition", "") == []


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (["query", "win_rate"], ["win_rate_by_model"]),
        (["snapshot", "--table", "database"], ["database_info"]),
        (["materialize", "--select", "personas"], ["personas"]),
        (["materialize", "--select", "'key:personas"], ["key:personas"]),
        (["materialize", "--select", "'key:a or +key:reward"], ["key:a or +key:rewards"]),
        (["materialize", "--select", "'key:a or rew"], []),  # Dagster would not take it
        (["materialize", "--select", "database"], []),  # no asset makes it
    ],
)
def test_questions_tables_and_assets_are_offered(
    offered: Callable[..., list[str]], words: list[str], there: list[str]
) -> None:
    assert offered(*words) == there


def test_snapshots_of_the_recipe_are_offered(
    offered: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path))
    assert offered("compare", "") == ["now"]
    (tmp_path / "snapshots").mkdir()
    for name in ("2026-01-01", "2026-01-02"):
        (tmp_path / f"snapshots/{name}.duckdb").touch()
    assert offered("compare", "2026") == ["2026-01-01", "2026-01-02"]
    assert offered("compare", "2026-01-01", "n") == ["now"]
    assert offered("compare", "--recipe", "nowhere.yaml", "") == []


def test_a_shell_does_not_wait_for_dagster() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "set()\n"
