"""CONTRIBUTING.md's walkthroughs, followed on a copy of the product: no edit to Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alignment_assets.host.paths import PACKAGE, project_folder
from alignment_assets.recipe.load import find_recipe
from tests.conftest import REPOSITORY

COHERENCE = """-- What a judge is asked about the coherence of completions: a number from 1 to 5.
SELECT
    completions.completion_id,
    request_hash(
        completion_hash(prompt_hash, model, variant, sample_index), 'coherence',
        $scorer_fingerprint, content_hash([messages_hash, text_hash, question.wording_hash]),
        NULL, NULL) AS request_id,
    'weigh' AS kind,
    asked_with('', filled(
        question.text,
        map(['prompt', 'completion'], [as_transcript(messages), completions.text]))) AS messages,
    '{}' AS sampling,
    ['1', '2', '3', '4', '5'] AS labels,
    NULL::VARCHAR AS answer_schema,
    {'prompt': prompt_id, 'completion': completion_id} AS asking_order
FROM completions
JOIN alignment_prompts USING (prompt_id)
CROSS JOIN (SELECT * FROM wordings WHERE wording_id = 'coherence_question') AS question
WHERE model = $model AND track = $track AND completions.text_hash IS NOT NULL
"""
RUN = """
import sys
from pathlib import Path
from dagster import DagsterInstance
from alignment_assets.commands.materialize import execute, plan_launches
from alignment_assets.definitions import build_defs, default_resources
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from tests.support.fakes import FakeInference
recipe, selection, question = sys.argv[1:]
run = Run(load_recipe(recipe), Path(recipe).parent / "home")
defs = build_defs(run, {"inference": FakeInference()})
with DagsterInstance.ephemeral() as instance:
    list(execute(defs, plan_launches(defs, selection), instance))
with default_resources(run)["warehouse"].read() as connection:
    print(connection.execute(question).fetchall())
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the product, with the demo's recipe in it."""
    shutil.copytree(PACKAGE, tmp_path / "alignment_assets")
    shutil.copytree(project_folder("sql"), tmp_path / "sql")
    shutil.copytree(project_folder("recipes"), tmp_path / "recipes")
    return tmp_path


def ask(copy: Path, recipe: Path, selection: str, question: str) -> str:
    """Materialize assets with the copied product and the fake engine; return a query's rows."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(recipe), selection, question],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": f"{copy}:{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_scorer_task_is_its_request_its_wording_and_the_recipe(copy: Path) -> None:
    (copy / "sql/requests/rewards/coherence.sql").write_text(COHERENCE)
    wordings = copy / "alignment_assets/recipe/wordings"
    (wordings / "coherence_question.txt").write_text(
        "Asked: {prompt}\nAnswered: {completion}\nHow coherent is the answer, from 1 to 5?"
    )
    content = yaml.safe_load(find_recipe("demo").read_text(encoding="utf-8"))
    judge = content["rewards"]["controversial"]["model"]
    content["rewards"]["standard"] = {"task": "coherence", "model": judge}
    recipe = copy / "recipes" / "mine.yaml"
    recipe.write_text(yaml.safe_dump({**content, "name": "mine"}))

    scored = ask(
        copy,
        recipe,
        '+key:"rewards" or key:"wordings"',
        "SELECT track, task, count(reward) > 0, bool_and(reward BETWEEN 1 AND 5) "
        "FROM rewards WHERE track = 'standard' GROUP BY ALL",
    )

    assert scored == "[('standard', 'coherence', True, True)]"
