"""Every field of a recipe, changed on a finished home: `status` says what is declared of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance

from alignment_assets.commands.status import Place, There, look, statuses
from alignment_assets.inference.backends.by_model import BACKENDS, check_backends
from alignment_assets.recipe.consequences import CONSEQUENCES, Consequence, fields_of
from alignment_assets.recipe.limits import Limits
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse.records import last_record
from tests.conftest import REPOSITORY, Graph
from tests.support.fakes import FakeInference

MODEL, COOL, POLICY, JUDGE = (
    *("smollm2-135m", "smollm2-135m-cool"),
    *("smollm2-135m-policy", "smollm2-135m-judge"),
)
SOURCE = "prism_prompts"
SCORERS = ("standard", "controversial")
WORDINGS = REPOSITORY / "alignment_assets/recipe/wordings"
FIELDS = [
    *fields_of(),
    *(
        place
        for name, backend in BACKENDS.items()
        for place in fields_of(backend.Settings, f"models.*.backend.{name}.")
    ),
]
OPENAI = {"urls": ["http://127.0.0.1:9/v1"]}
DATASET = {
    "dataset": "demo/other.jsonl",
    "configs": ["other"],
    "split": "test",
    "revision": "other",
}
SAMPLING = {
    "temperature": 0.3,
    "top_p": 0.9,
    "top_k": 7,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "max_tokens": 31,
}
RAY = ".backend.ray."
# Another legal value of each field, whichever source or model `*` stands for.
OTHER: dict[str, Any] = {
    "description": "other",
    "seed": 1,
    "limit": 5,
    "wordings": "other wordings",
    "template_date": "2026-01-01",
    "wordings_placeholders": {"persona": "persona"},
    "max_prompt_characters": 1999,
    "max_row_bytes": 9999,
    "placeholders": ["nothing"],
    "prompts.*.name": "other",
    **{f"prompts.*.{field}": value for field, value in DATASET.items()},
    "prompts.*.columns": {"prompt": "opening", "conversation_type": "conversation_type"},
    "prompts.*.form": "conversation",
    "prompts.*.track": "standard",
    "prompts.*.keep": {"conversation_type": ["values guided"]},
    **{f"personas.{field}": value for field, value in DATASET.items()},
    "personas.columns": {"persona": "text"},
    "personas.max_characters": 99,
    "human_labels": None,
    **{f"human_labels.{field}": value for field, value in DATASET.items()},
    "human_labels.columns": {"prompt": "prompt", "label": "label"},
    "licence.excluded_subsets": ["flan_v2"],
    "licence.excluded_sources": ["other"],
    "consent.agents": ["GPTBot"],
    "consent.robots": None,
    "consent.scope": "host",
    "consent.blocked_domains": {"other": {"file": "other.txt", "date": "2026-01-01"}},
    "consent.blocked_domains.*.file": "other.txt",
    "consent.blocked_domains.*.date": "2026-01-01",
    "consent.unknown_origins": "refused",
    **{
        f"consent.{rules}{field}": value
        for rules in ("sources", "subsets")
        for field, value in (
            ("", {"other": "refused"}),
            (".*.decision", "refused"),
            (".*.evidence", "https://other.example/terms"),
            (".*.date", "2026-01-01"),
        )
    },
    "models.*.weights": "hf:owner/name",
    "models.*.revision": "other",
    "models.*.chat_template": "template.jinja",
    "models.*.chat_template_arguments": {"enable_thinking": False},
    "models.*.backend": {"openai": OPENAI},
    "models.*.reasoning": "keep",
    "models.*.system_prompt": "prepend_to_user",
    "models.*.billions": 7,
    "models.*.licence": "odc-by",
    "prompts.*.licence": "odc-by",
    "export.test_share": 0.25,
    "models.*.price": {"prompt": 0.2, "completion": 0.6},
    "models.*.price.prompt": 0.2,
    "models.*.price.completion": 0.6,
    "models.*.max_model_len": 1024,
    "models.*.max_tokens": 17,
    "models.*.temperature": 0.25,
    "models.*.backend.vllm.gpus": 2,
    "models.*.backend.vllm.replicas": 1,
    "models.*.backend.vllm.max_num_seqs": 8,
    "models.*.backend.vllm.dtype": "bfloat16",
    "models.*.backend.vllm.engine_arguments": {"gpu_memory_utilization": 0.5},
    "models.*.backend.ray.gpus": 2,
    "models.*.backend.ray.max_num_seqs": 8,
    "models.*.backend.ray.dtype": "bfloat16",
    "models.*.backend.ray.engine_arguments": {"gpu_memory_utilization": 0.5},
    "models.*.backend.ray.address": "head:6379",
    "models.*.backend.ray.replicas": 3,
    "models.*.backend.ray.accelerator_type": "H100",
    "models.*.backend.ray.pipeline_parallel_size": 2,
    "models.*.backend.openai.urls": ["http://127.0.0.1:8/v1"],
    "models.*.backend.openai.name": "other",
    "models.*.backend.openai.api_key": "env:OTHER",
    "models.*.backend.openai.concurrency": 3,
    "models.*.backend.openai.timeout": 5.0,
    "inference.attempts": 2,
    "inference.max_failed_share": 0.5,
    **dict.fromkeys((f"limits.{name}" for name in Limits.model_fields), 0.75),
    "limits.exceptions": {MODEL: {"empty": 1.0}},
    "controversy.model": MODEL,
    "controversy.threshold": 3,
    "controversy.attempts": 3,
    "controversy.reasoning_characters": 99,
    "controversy.min_accuracy": 0.9,
    "controversy.min_kappa": 0.9,
    "calibration.prompts": 2,
    "calibration.model": COOL,
    "calibration.at_least": {"ladder_kendall": 0.5},
    "calibration.at_most": {"flips": 0.5},
    "models.*.family": "another",
    "controversy.gate_on": "lower_end",
    "controversy.wording": "controversy_steps",
    "controversy.trials.models": [MODEL],
    "controversy.trials.wordings": ["controversy_steps"],
    **{f"controversy.sampling.{field}": value for field, value in SAMPLING.items()},
    "completions.models": [MODEL],
    "completions.reference_completions": 5,
    "completions.standard_variants": ["default"],
    "completions.controversial_variants": ["charter"],
    "completions.standard_charter_models": [],
    "completions.stripped": True,
    **{f"completions.sampling.{field}": value for field, value in SAMPLING.items()},
    **{
        f"rewards.{track}.{field}": value
        for track in ("standard", "controversial")
        for field, value in (
            *(("task", "classify"), ("model", MODEL), ("rubric", "my_rubric")),
            ("thinking_tokens", 99),
        )
    },
    "rewards.comparison_judge": MODEL,
    "rewards.min_score_mass": 0.02,
    "rewards.comparison_thinking_tokens": 99,
    "rewards.compared_candidates": 4,
    "selection.strategy": "best_worst",
    "selection.model_order": ["smollm2-135m", "smollm2-135m-cool"],
    "selection.pairs_per_prompt": 2,
    "selection.rejected_quantile": 0.3,
    "selection.min_references": 3,
    "selection.max_sequence_tokens": 99,
    "selection.allow_truncated": False,
    "selection.references": "eligible",
    "reference_logprobs.scope": "candidates",
    "warehouse.memory_limit": "1GB",
    "warehouse.threads": 1,
    "warehouse.temp_directory": "other",
    "warehouse.ducklake": {"catalog": "sqlite:"},
    "warehouse.ducklake.catalog": "sqlite:other.sqlite",
    "warehouse.ducklake.data": "other",
    "spool": "other",
    "published_prompts": {"standard": 1},
}
# What has to change along with a field, so that the recipe is a legal one.
ALONG: dict[str, dict[str, Any]] = {
    "models.*.price.prompt": {"models.*.price.completion": 0.6},
    "models.*.price.completion": {"models.*.price.prompt": 0.2},
    "prompts.*.form": {
        "prompts.*.columns": {"conversation": "turns", "conversation_type": "conversation_type"}
    },
    "consent.blocked_domains.*.file": {"consent.blocked_domains.*.date": "2026-01-01"},
    "consent.blocked_domains.*.date": {"consent.blocked_domains.*.file": "other.txt"},
    **{
        f"consent.{rules}.*.{field}": {f"consent.{rules}.*.decision": "refused"}
        for rules in ("sources", "subsets")
        for field in ("evidence", "date")
    },
    "rewards.standard.task": {"rewards.standard.rubric": None},
    "rewards.controversial.task": {"rewards.controversial.rubric": None},
    "rewards.standard.rubric": {"wordings": "other wordings"},
    "rewards.controversial.rubric": {"wordings": "other wordings"},
}
# Which models a field of completions concerns, where those are not all.
CONCERNED = {
    "completions.reference_completions": {POLICY},
    "completions.standard_variants": {MODEL, COOL},
    "completions.controversial_variants": {MODEL, COOL},
    "completions.standard_charter_models": {MODEL},
    "completions.sampling.temperature": {MODEL, POLICY, *SCORERS},  # the cool one has its own
    "rewards.standard.model": {"standard"},
    "rewards.controversial.model": {"controversial"},
    "rewards.comparison_judge": {"controversial"},
}
# Members of lists and mappings, and the name: each has a test of its own.
# What the texts of the package do not fit has one in test_wordings.
APART = {"name", "prompts", "models", "completions.policies", "rewards.judge_sees_question"}


def declared(field: str) -> Consequence:
    (found,) = {one for place, one in CONSEQUENCES.items() if fnmatch(field, place)}
    return found


WITHOUT = [field for field in OTHER if declared(field) == Consequence(declared(field).why)]
STALE = [field for field in OTHER if field not in WITHOUT]


class Finished:
    """A finished home, to be looked at with other recipes: nothing is made any more."""

    def __init__(self, folder: Path, instance: DagsterInstance) -> None:
        self.folder = folder
        path = find_recipe("demo")
        # Without the anchors of YAML, by which models are one and the same object.
        self.content = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
        self.content["models"][COOL]["backend"] = {"openai": OPENAI}
        self.path = folder / "demo.yaml"
        (folder / "demo").symlink_to(path.parent / "demo")
        (folder / "template.jinja").write_text("{{ messages }}")
        wordings = folder / "other wordings"
        wordings.mkdir()
        for file in WORDINGS.iterdir():
            if file.suffix in {".txt", ".md", ".yaml"}:
                text = file.read_text(encoding="utf-8")
                (wordings / file.name).write_text(f"{text} Other.", encoding="utf-8")
        text = (WORDINGS / "judge_helpfulness_system.txt").read_text(encoding="utf-8")
        (wordings / "my_rubric.txt").write_text(text, encoding="utf-8")
        for name in ("principles.yaml", "degradations.yaml"):
            (wordings / name).write_bytes((WORDINGS / name).read_bytes())
        inference = FakeInference()
        self.graph = Graph(self.recipe({}), folder / "home", instance, inference)
        self.graph.materialize()

    @cached_property
    def there(self) -> There:
        return look(self.graph.warehouse, self.graph.run, self.graph.defs)

    def recipe(self, changes: dict[str, Any]) -> Recipe:
        """Return the recipe with some fields changed, by their places."""
        content = json.loads(json.dumps(self.content))
        for place, value in changes.items():
            *parents, last = place.split(".")
            part = content
            for parent in parents:
                if isinstance(part, list):
                    (part,) = (entry for entry in part if entry["name"] == parent)
                else:
                    part = part.setdefault(parent, {})
            part[last] = value
        recipe = parse_recipe(content, self.path)
        check_backends(recipe)
        return recipe

    def statuses(self, changes: dict[str, Any]) -> dict[Place, str]:
        """Return what `status` says with a changed recipe."""
        graph = self.graph.with_recipe(self.recipe(changes))
        return statuses(self.there, graph.run, graph.defs, graph.instance)

    def not_fresh(self, changes: dict[str, Any]) -> dict[Place, str]:
        """Return what `status` says of all that is not as it should be.

        The recipe in the database is another after any change, and nothing is stale by that.
        """
        found = self.statuses(changes)
        said = found.pop(("recipes", None))
        assert said in ("fresh", "missing") or said == "stale: settings of the recipe changed"
        before = self.recipe({}).members["candidate"]
        for name in self.recipe(changes).members["candidate"]:
            if name not in before:  # which leaves the others as they are
                assert found.pop(("grader_trials", name)) == "missing"
        return {place: said for place, said in found.items() if said not in ("fresh", "empty")}

    @cached_property
    def places(self) -> set[Place]:
        """Every table and partition of the recipe as it is, all of them as they should be."""
        found = self.statuses({})
        assert set(found.values()) == {"fresh", "empty"}
        return set(found) - {("recipes", None)}

    def places_of(self, tables: set[str]) -> set[Place]:
        """Return all partitions of some tables."""
        return {place for place in self.places if place[0] in tables}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with DagsterInstance.ephemeral() as instance:
        yield Finished(tmp_path_factory.mktemp("finished"), instance)


def changes_of(field: str, stands_for: str) -> dict[str, Any]:
    """Return the changes of a field, `*` replaced, with those that have to go along."""
    changes = {field: OTHER[field], **ALONG.get(field, {})}
    return {place.replace("*", stands_for, 1): value for place, value in changes.items()}


def test_every_field_is_declared_once_and_changed_here() -> None:
    undeclared = [
        field
        for field in FIELDS
        if len([place for place in CONSEQUENCES if fnmatch(field, place)]) != 1
    ]
    assert undeclared == [], "declare them in alignment_assets/recipe/consequences.py"
    gone = [place for place in CONSEQUENCES if not any(fnmatch(field, place) for field in FIELDS)]
    assert gone == []
    assert set(FIELDS) - OTHER.keys() - APART == set(), "add another value of them to OTHER"
    assert all(one.why or one.graph for one in CONSEQUENCES.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "field", [field for field in STALE if not field.startswith(("models.", "prompts."))]
)
def test_a_field_of_the_recipe_makes_stale_what_is_declared(finished: Finished, field: str) -> None:
    graph, partition = set[str](), set[str]()
    for place in (field, *ALONG.get(field, {})):
        graph |= set(declared(place).graph)
        partition |= set(declared(place).partition)

    found = finished.not_fresh(changes_of(field, ""))

    by_settings = {
        place
        for place in finished.places_of(partition)
        if place[1] in CONCERNED.get(field, {MODEL, COOL, POLICY, *SCORERS})
    }
    reasons = {place: said.removeprefix("stale: ").split(", ") for place, said in found.items()}
    by_code = {place for place, said in reasons.items() if "has a new code version" in said}
    wanted = finished.places_of(graph)
    if field == "completions.models":  # the other's own partitions are no longer in the recipe
        wanted = {place for place in wanted if place[1] != COOL}
    assert by_code == wanted
    of_models = re.compile("settings of (this model|the (model|scorer|judge) .*) changed")
    assert {
        place for place, said in reasons.items() if any(map(of_models.fullmatch, said))
    } - by_code == by_settings - by_code
    assert found.keys() == by_code | by_settings


@pytest.mark.slow
@pytest.mark.parametrize("field", [field for field in STALE if field.startswith("models.")])
def test_a_models_settings_make_stale_what_it_answers_for(finished: Finished, field: str) -> None:
    tables = set(declared(field).partition)
    by_code = dict.fromkeys(
        finished.places_of(set(declared(field).graph)), "stale: has a new code version"
    )
    assert finished.not_fresh({field.replace("*", MODEL, 1): OTHER[field]}) == {
        **by_code,
        **{
            (table, MODEL): "stale: settings of this model changed"
            for table in tables & {"completion_requests", "completions"}
        },
        **dict.fromkeys(
            finished.places_of(tables & {"degraded_answers"}),
            f"stale: settings of the model {MODEL} changed",
        ),
    }

    judged = finished.not_fresh({field.replace("*", JUDGE, 1): OTHER[field]})
    roles = {
        "grader_trials": "this candidate",
        "controversy_labels": f"the grader {JUDGE}",
        "rewards": f"the scorer {JUDGE}",
        "judge_comparisons": f"the judge {JUDGE}",
        "calibration_answers": f"the scorer {JUDGE}",
    }
    wanted = by_code | {
        place: f"stale: settings of {roles[place[0]]} changed"
        for place in finished.places_of(tables & roles.keys())
    }
    if "calibration_answers" in tables:  # there it compares, too
        compares = f"stale: settings of the judge {JUDGE} changed, "
        wanted["calibration_answers", "controversial"] = wanted[
            "calibration_answers", "controversial"
        ].replace("stale: ", compares)
    assert judged == wanted


@pytest.mark.slow
@pytest.mark.parametrize(
    "field", [f for f in STALE if f.startswith("prompts.") and f != "prompts.*.name"]
)
def test_a_sources_settings_make_stale_its_partition_or_the_rules(
    finished: Finished, field: str
) -> None:
    found = finished.not_fresh(changes_of(field, SOURCE))
    assert found == {
        **{
            (table, SOURCE): "stale: settings of this source changed"
            for table in declared(field).partition
        },
        **dict.fromkeys(
            finished.places_of(set(declared(field).graph)), "stale: has a new code version"
        ),
    }


@pytest.mark.slow
def test_fields_without_a_consequence_leave_all_fresh(finished: Finished) -> None:
    changes = {
        field.replace("*", COOL if "openai" in field else MODEL, 1): OTHER[field]
        for field in WITHOUT
        if RAY not in field
    }
    assert len(changes) > 15
    newcomer = {"weights": "hf:owner/name", "billions": 1}  # no other field names it
    assert finished.not_fresh({**changes, "models.newcomer": newcomer}) == {}
    # Nor does it matter where vLLM answers.
    ray = {field.rpartition(".")[2]: OTHER[field] for field in WITHOUT if RAY in field}
    assert len(ray) > 5
    assert finished.not_fresh({f"models.{MODEL}.backend": {"ray": ray}}) == {}


@pytest.mark.slow
def test_a_member_that_joins_is_missing_and_leaves_the_others_fresh(finished: Finished) -> None:
    newcomer = {"weights": "hf:owner/name", "billions": 1}
    policies = {"models.newcomer": newcomer, "completions.policies": [POLICY, "newcomer"]}
    found = finished.not_fresh(policies)
    assert set(found.values()) == {"missing"}
    assert {partition for _, partition in found} == {"newcomer"}

    models = {"models.newcomer": newcomer, "completions.models": [COOL, "newcomer", MODEL]}
    found = finished.not_fresh(models)
    tables = {*declared("completions.models").graph, "degraded_answers"}  # it is the largest
    stale = finished.places_of(tables)
    assert {place for place, said in found.items() if said == "missing"} == {
        (table, "newcomer") for table in ("completion_requests", "completions", "rewards")
    }
    assert {place for place, said in found.items() if said.startswith("stale")} == stale
    # The order of models is nothing.
    assert finished.not_fresh({"completions.models": [COOL, MODEL]}) == {}


@pytest.mark.slow
def test_a_source_that_joins_or_moves_concerns_the_rules_alone(finished: Finished) -> None:
    prompts = finished.content["prompts"]
    rules = {(table, None) for table in declared("prompts").graph}
    assert finished.not_fresh({"prompts": prompts[::-1]}).keys() == rules
    found = finished.not_fresh({"prompts": [*prompts, {**prompts[-1], "name": "other"}]})
    assert found.pop(("source_prompts", "other")) == "missing"
    assert found.pop(("training_export", POLICY))  # it tells the licence
    assert found.keys() == rules
    found = finished.not_fresh({f"prompts.{SOURCE}.name": "other"})
    assert found.pop(("source_prompts", "other")) == "missing"
    assert found.pop(("training_export", POLICY))
    assert found.keys() == rules


@pytest.mark.slow
def test_another_recipes_or_databases_rows_are_missing(finished: Finished) -> None:
    found = finished.statuses({"name": "mine"})
    assert set(found.values()) == {"missing: materialized by recipe demo"}
    graph = finished.graph
    elsewhere = There("2001-01-01 00:00:00", finished.there.rows)
    found = statuses(elsewhere, graph.run, graph.defs, graph.instance)
    assert set(found.values()) == {"missing: materialized in another database"}


@pytest.mark.slow
def test_rows_that_are_not_those_recorded_are_stale(finished: Finished) -> None:
    graph, there = finished.graph, finished.there
    some = ("completions", COOL)
    rows = {place: count for place, count in there.rows.items() if place[0] != "wordings"}
    fewer = There(there.created_at, {**rows, some: rows[some] - 1})
    found = statuses(fewer, graph.run, graph.defs, graph.instance)
    assert found[some] == f"stale: {rows[some]} rows recorded, {rows[some] - 1} there"
    assert found["wordings", None] == "stale: 49 rows recorded, 0 there"
    assert found["completions", MODEL] == "fresh"
    assert found["selection_exclusions", POLICY] == "empty"


@pytest.mark.slow
def test_a_partitions_page_shows_the_hash_of_its_settings(finished: Finished) -> None:
    def shown(table: str, partition: str) -> dict[str, Any]:
        record = last_record(finished.graph.instance, table, partition)
        assert record is not None
        return dict(record.settings)

    assert list(shown("completion_requests", MODEL)) == ["this model"]
    assert shown("completion_requests", MODEL) != shown("completion_requests", COOL)
    assert list(shown("rewards", MODEL)) == [f"the scorer {JUDGE}"]
    assert list(shown("source_prompts", SOURCE)) == ["this source"]
