"""`init`: a folder that is whole by itself, and the recipe that commands take there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from alignment_assets.commands.app import app
from alignment_assets.commands.home import dagster_home
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.load import find_recipe, load_recipe
from alignment_assets.recipe.run import Run

WRITTEN = [
    *("recipe.yaml", "recipe.schema.json", "demo"),
    *("dagster.yaml", "workspace.yaml", ".gitignore"),
]


pytestmark = pytest.mark.usefixtures("folder_of_its_own")


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


def test_a_folder_begins_with_a_recipe_that_is_whole_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = init("studies/My Étude").output.splitlines()
    assert told[: len(WRITTEN)] == [f"studies/My Étude/{name}: written" for name in WRITTEN]
    assert told[len(WRITTEN) : len(WRITTEN) + 2] == ["Next:", "  cd 'studies/My Étude'"]
    assert [line.split("  ")[1] for line in told[-2:]] == [
        "alignment-assets materialize",
        "alignment-assets dev",
    ]

    folder = Path("studies/My Étude").absolute()
    monkeypatch.chdir(folder)
    recipe, text = load_recipe(), Path("recipe.yaml").read_text(encoding="utf-8")
    assert (recipe.name, recipe.file) == ("my-etude", folder / "recipe.yaml")
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    for named in (*recipe.prompts, recipe.personas, recipe.human_labels):
        assert named and recipe.resolve(named.dataset).is_relative_to(folder)
        assert recipe.resolve(named.dataset).is_file()
    assert recipe.models == load_recipe("demo").models
    # Dagster finds what it is to load, and the home takes the settings that stand here.
    (location,) = yaml.safe_load(Path("workspace.yaml").read_text())["load_from"]
    assert location["python_module"]["module_name"] == "alignment_assets.definitions"
    settings = dagster_home(Run.of(recipe)) / "dagster.yaml"
    assert settings.resolve() == folder / "dagster.yaml"
    assert "/data/" in Path(".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("2025", "2025"),
        ("_Vier·Fünf_", "vier-funf"),
        ("数据", "recipe"),
        ("null", "null"),
        ("demo", "my-demo"),
    ],
)
def test_the_recipe_is_called_after_the_folder(folder: str, name: str) -> None:
    assert init(folder).exit_code == 0
    assert load_recipe(f"{folder}/recipe.yaml").name == name


def test_what_is_there_stays_and_what_is_missing_comes() -> None:
    Path("recipe.yaml").write_text("mine")
    Path(".gitignore").symlink_to("nowhere")
    told = init().output
    assert "recipe.yaml: there already, left as it is\n" in told and "cd " not in told
    assert "workspace.yaml: written\n" in told
    assert Path("recipe.yaml").read_text() == "mine"
    assert Path(".gitignore").is_symlink() and not Path("nowhere").exists()
    Path("dagster.yaml").unlink()
    again = init().output
    assert again.count("there already") == len(WRITTEN) - 1
    assert "\ndagster.yaml: written\n" in again


@pytest.mark.parametrize(
    ("folder", "said"),
    [("/dev/null", "/dev/null is no folder"), ("/dev/null/new", "/dev/null is no folder")],
)
def test_a_place_that_cannot_be_written_is_told(folder: str, said: str) -> None:
    failed = init(folder)
    assert isinstance(failed.exception, Expected)
    assert said in str(failed.exception) and "init FOLDER" in str(failed.exception)


def test_the_recipe_is_the_named_one_then_the_environments_then_the_folders_then_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert find_recipe().name == "demo.yaml"
    Path("recipe.yaml").write_text("")
    assert find_recipe() == Path("recipe.yaml").absolute()
    monkeypatch.setenv("ALIGNMENT_RECIPE", "apertus")
    assert find_recipe().name == "apertus.yaml"
    assert find_recipe("demo").name == "demo.yaml"
