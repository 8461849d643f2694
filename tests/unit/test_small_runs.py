"""`--limit`: a small run of a recipe, in a home of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import alignment_assets
from alignment_assets.commands.app import app
from alignment_assets.commands.home import dagster_home
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from tests.support.generated import walk

PROMPTS = (
    "key:source_prompts or key:origin_consent or key:prompt_exclusions or key:licensed_prompts"
)


pytestmark = pytest.mark.usefixtures("folder_of_its_own")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_whatever_takes_a_recipe_takes_a_limit() -> None:
    commands = dict(walk("", typer.main.get_command(app)))
    options = {
        path: {word for option in command.params for word in option.opts}
        for path, command in commands.items()
    }
    with_recipe = [path for path, words in options.items() if "--recipe" in words]
    assert len(with_recipe) >= 11
    assert [path for path in with_recipe if "--limit" not in options[path]] == []


def test_the_environment_gives_a_limit_to_all_that_opens_a_recipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = run("query", "SELECT 1", "--limit", "5")
    assert str(tmp_path / "data" / "demo" / "limit-5") in str(given.exception)
    assert "ALIGNMENT_LIMIT" not in os.environ

    monkeypatch.setenv("ALIGNMENT_LIMIT", "12")
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "mine"))
    small = Run.of(load_recipe("demo"))
    assert (small.recipe.limit, small.home) == (12, tmp_path / "mine" / "limit-12")
    assert small.recipe.file == load_recipe("demo").file
    place = str(small.database)
    with pytest.raises(Expected, match=place):
        alignment_assets.open("demo")
    given = run("query", "SELECT 1", "--limit", "5")
    assert str(tmp_path / "mine" / "limit-5") in str(given.exception)
    assert os.environ["ALIGNMENT_LIMIT"] == "12"


@pytest.mark.parametrize("limit", ["0", "-1", "some", "1.5", "²"])
def test_what_is_no_limit_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    refused = run("status", "--limit", limit)
    assert refused.exit_code == 2 and "Invalid value for '--limit'" in refused.output
    monkeypatch.setenv("ALIGNMENT_LIMIT", limit)
    failed = run("status")
    assert isinstance(failed.exception, Expected)
    assert str(failed.exception).startswith(f"ALIGNMENT_LIMIT={limit!r} is no number of prompts")


def test_a_small_run_leaves_the_whole_runs_records_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "records"
    monkeypatch.setenv("ALIGNMENT_HOME", str(home))
    monkeypatch.setenv("ALIGNMENT_LIMIT", "2")
    run_of_two = Run.of(load_recipe("demo"))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    assert dagster_home(run_of_two) == home / "limit-2" / "dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(elsewhere))
    assert dagster_home(run_of_two) == elsewhere
