"""Exports: what a trainer loads, the same bytes again, and folders that are replaced whole."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
import yaml
from dagster import DagsterInstance
from huggingface_hub import constants
from markdown_it import MarkdownIt
from typer.testing import CliRunner, Result

from alignment_assets.commands.app import app
from alignment_assets.exports import shards
from alignment_assets.exports.export import source_of, write_export
from alignment_assets.exports.formats import ExportError, Format, formats
from alignment_assets.exports.placing import placed
from alignment_assets.exports.shards import Source
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from tests.conftest import REPOSITORY, Graph, changed_recipe, demo_graph
from tests.support.hub import TOKEN, Hub, running_hub
from tests.unit.test_graph import partition_statuses

pytestmark = pytest.mark.slow
RECIPE = changed_recipe()
(POLICY,) = RECIPE.policies
FORMATS = {
    *("dpo", "dpo_ref", "kto", "openai_preference", "qrpo", "qrpo_paired", "reward_model"),
}
MLCROISSANT = REPOSITORY / "build" / "mlcroissant" / "bin" / "python"
HOSTILE = "<script>alert(1)</script> | [a](javascript:b) ![c](http://evil.example/d) `e`\n# F \x1b"


@pytest.fixture(scope="module")
def made(
    made_once: Callable[[str | None], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Graph]:
    """A finished demo, in which all selected completions but one have a log-probability."""
    folder = tmp_path_factory.mktemp("exports")
    shutil.copytree(made_once(None), folder, dirs_exist_ok=True)
    with DagsterInstance.ephemeral() as instance:
        graph = demo_graph(folder, instance)
        with graph.warehouse.get_connection() as connection:
            connection.execute(
                "UPDATE reference_logprobs SET logprob = NULL, prompt_tokens = NULL, "
                "completion_tokens = NULL, missing_reason = 'context_length' "
                "WHERE completion_id = (SELECT completion_id FROM reference_logprobs "
                "ORDER BY prompt_id, completion_id LIMIT 1)"
            )
        yield graph


def export(
    graph: Graph,
    folder: Path,
    names: list[str] | None = None,
    share: float = 0.0,
    recipe: Recipe = RECIPE,
) -> Path:
    """Write an export of the demo's policy into a new folder."""
    folder.mkdir()
    with graph.warehouse.read() as connection:
        source = Source(connection, "alignment", POLICY, recipe.settings(), share)
        write_export(source, recipe, formats(names), folder)
    return folder


@pytest.fixture(scope="module")
def exported(made: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(made, tmp_path_factory.mktemp("all") / "demo")


@pytest.fixture(scope="module")
def split(made: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export in small files, with a test split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards.write_formats, "__defaults__", (9,))
        return export(made, tmp_path_factory.mktemp("split") / "demo", share=0.3)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file of a folder, by name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return found


def front_matter(folder: Path) -> dict[str, Any]:
    _, text, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def loaded(folder: Path, config: str, cache: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each split as ``load_dataset`` gives them."""
    from datasets import load_dataset

    found = load_dataset(str(folder), config, cache_dir=str(cache))
    return {name: rows.to_list() for name, rows in found.items()}


def export_as(graph: Graph, folder: Path, mine: Format, recipe: Recipe = RECIPE) -> Path:
    """Write an export in one format that no file has into a new folder."""
    folder.mkdir(parents=True)
    arguments = recipe.models[POLICY].chat_template_arguments
    with graph.warehouse.read() as connection:
        source = Source(connection, "alignment", POLICY, recipe.settings(), 0.0, arguments)
        write_export(source, recipe, [mine], folder)
    return folder


def of_prompts(rows: list[dict[str, Any]]) -> set[str]:
    return {row["prompt_id"] for row in rows}


# -- what a trainer loads --------------------------------------------------------------------------


def test_an_export_that_was_replaced_is_loaded_anew(made: Graph, tmp_path: Path) -> None:
    query = "SELECT sample_id, prompt_id, {} AS number FROM qrpo_samples WHERE policy = $policy"
    for number in (1, 2):
        folder = tmp_path / "demo"
        export_as(made, folder, Format("mine", query.format(number)))
        (rows,) = loaded(folder, "mine", tmp_path / "cache").values()
        assert {row["number"] for row in rows} == {number}
        shutil.rmtree(folder)


def test_what_the_policys_chat_template_is_given_stands_in_each_row(
    made: Graph, tmp_path: Path
) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ messages }}", encoding="utf-8")
    models = RECIPE.model_dump(mode="json")["models"]
    arguments = {"enable_thinking": False, "documents": [], "note": "it's"}
    models[POLICY] |= {"chat_template": str(template), "chat_template_arguments": arguments}
    recipe = changed_recipe({"models": models})
    (kto, lines) = formats(["kto", "openai_preference"])

    folder = export_as(made, tmp_path / "demo", kto, recipe)

    (rows,) = loaded(folder, "kto", tmp_path / "cache").values()
    assert {json.dumps(row["chat_template_kwargs"], sort_keys=True) for row in rows} == {
        json.dumps(arguments, sort_keys=True)
    }
    told = manifest(folder)["policy"]
    assert (folder / told["chat_template"]).read_text(encoding="utf-8") == "{{ messages }}"
    assert told["chat_template_arguments"] == arguments
    plain = export_as(made, tmp_path / "lines", lines, recipe)
    assert b"enable_thinking" not in next(plain.glob("*/*.jsonl")).read_bytes()


@pytest.mark.parametrize("value", [{}, [1, "a"], [1, 0.5], 2**70])
def test_what_no_column_can_give_the_chat_template_is_refused(
    made: Graph, tmp_path: Path, value: Any
) -> None:
    models = RECIPE.model_dump(mode="json")["models"]
    models[POLICY]["chat_template_arguments"] = {"value": value}
    with pytest.raises(ExportError, match="chat_template_arguments of the policy"):
        export_as(made, tmp_path / "mine", formats(["kto"])[0], changed_recipe({"models": models}))


def test_each_format_loads_by_its_name_with_ids_as_text(
    made: Graph, exported: Path, tmp_path: Path
) -> None:
    configs = {one["config_name"]: one for one in front_matter(exported)["configs"]}
    assert configs.keys() == FORMATS - {"openai_preference"}
    assert [name for name, one in configs.items() if one.get("default")] == ["dpo"]
    found = {name: loaded(exported, name, tmp_path)["train"] for name in configs}
    pairs = made.query("SELECT pair_id FROM dpo_pairs ORDER BY ALL")
    samples = made.query("SELECT sample_id FROM qrpo_samples ORDER BY ALL")
    for name in ("dpo", "qrpo_paired", "reward_model"):
        assert [(row["pair_id"],) for row in found[name]] == pairs, name
    for name in ("qrpo", "kto"):
        assert [(row["sample_id"],) for row in found[name]] == samples, name
    for rows in found.values():
        for row in rows:
            for column, value in row.items():
                if column.endswith("_id"):
                    assert isinstance(value, str) and str(UUID(value)) == value

    (first, *_) = found["dpo"]
    assert [message["role"] for message in first["chosen"]] == ["assistant"]
    assert first["prompt"][-1]["role"] == "user"
    counts = made.query(
        "SELECT prompt_tokens, completion_tokens FROM policy_tokens WHERE completion_id = $id",
        {"id": first["chosen_completion_id"]},
    )
    assert counts == [(first["prompt_tokens"], first["chosen_tokens"])]
    whole = {row["pair_id"]: row for row in found["qrpo_paired"]}[first["pair_id"]]
    assert whole["chosen"] == first["prompt"] + first["chosen"]
    assert whole["rejected"] == first["prompt"] + first["rejected"]
    assert {row["label"] for row in found["kto"]} == {True, False}
    assert sum(row["label"] for row in found["kto"]) == len(pairs)


def test_lines_of_json_are_what_openai_takes(exported: Path) -> None:
    (file,) = (exported / "openai_preference").iterdir()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    pairs = pq.read_table(exported / "dpo").to_pylist()
    assert lines == [
        {
            "input": {"messages": pair["prompt"], "tools": [], "parallel_tool_calls": True},
            "preferred_output": pair["chosen"],
            "non_preferred_output": pair["rejected"],
        }
        for pair in pairs
    ]


def test_pairs_without_both_log_probabilities_are_left_out_and_told(exported: Path) -> None:
    pairs = {row["pair_id"]: row for row in pq.read_table(exported / "dpo").to_pylist()}
    kept = {row["pair_id"]: row for row in pq.read_table(exported / "dpo_ref").to_pylist()}
    names = ("chosen_reference_logprob", "rejected_reference_logprob")
    whole = {key: row for key, row in pairs.items() if None not in [row[name] for name in names]}
    assert kept.keys() == whole.keys() and len(pairs) - len(kept) == 1
    for key, row in kept.items():
        stored = (row["ref_chosen_logps"], row["ref_rejected_logps"])
        assert stored == tuple(whole[key][name] for name in names)
    assert not {"chosen_reference_logprob", "rejected_reference_logprob"} & set(
        next(iter(kept.values()))
    )
    told = manifest(exported)["formats"]["dpo_ref"]["left_out"]
    assert told == [{"reason": "context_length", "rows": 1}]
    assert "context\\_length" in (exported / "README.md").read_text(encoding="utf-8")


def test_quantiles_are_the_definition_on_the_rewards(made: Graph, exported: Path) -> None:
    """By plain Python, of what selection goes by: rewards, or ranks where there are such."""
    rank = dict(made.query("SELECT completion_id, rank_reward FROM judge_rankings"))
    references: dict[str, list[float]] = defaultdict(list)
    reward: dict[str, float] = {}
    for prompt, completion, track, model, variant, value in made.query(
        "SELECT prompt_id, completion_id, track, model, variant, reward FROM rewards "
        "WHERE reward IS NOT NULL"
    ):
        used = value if track == "standard" else rank[completion]
        reward[completion] = used
        if (model, variant) == (POLICY, "reference"):
            references[prompt].append(used)

    def quantile(prompt: str, completion: str) -> float:
        return sum(one <= reward[completion] for one in references[prompt]) / len(
            references[prompt]
        )

    samples = pq.read_table(exported / "qrpo").to_pylist()
    for row in samples:
        assert row["reward"] == reward[row["completion_id"]]
        assert row["ref_rewards"] == sorted(references[row["prompt_id"]])
        assert row["quantile_reward"] == quantile(row["prompt_id"], row["completion_id"])
    for row in pq.read_table(exported / "dpo").to_pylist():
        for side in ("chosen", "rejected"):
            found = quantile(row["prompt_id"], row[f"{side}_completion_id"])
            assert row[f"{side}_quantile"] == found
    assert len({row["quantile_reward"] for row in samples}) > 2


def test_a_prompt_is_in_one_split_by_its_id_alone(split: Path, tmp_path: Path) -> None:
    found = loaded(split, "qrpo", tmp_path)
    train, test = of_prompts(found["train"]), of_prompts(found["test"])
    drawn = {
        prompt
        for prompt in train | test
        for key in [hashlib.sha256(f"{RECIPE.seed}\x1ftest split\x1f{prompt}".encode()).hexdigest()]
        if int(key[:13], 16) < 0.3 * 2**52
    }
    assert test == drawn and not train & test and len(test) > 3
    for name in FORMATS - {"openai_preference", "qrpo"}:
        for one, prompts in (("train", train), ("test", test)):
            files = sorted((split / name).glob(f"{one}-*.parquet"))
            rows = [row for file in files for row in pq.read_table(file).to_pylist()]
            assert of_prompts(rows) <= prompts


def test_files_are_small_sorted_and_together_all(exported: Path, split: Path) -> None:
    for name in ("dpo", "qrpo"):
        key = "pair_id" if name == "dpo" else "sample_id"
        files = [pq.read_table(file).to_pylist() for file in sorted((split / name).iterdir())]
        assert len(files) > 4
        for rows in files:
            assert [row[key] for row in rows] == sorted(row[key] for row in rows)
        together = sorted((row for rows in files for row in rows), key=lambda row: str(row[key]))
        assert together == pq.read_table(exported / name).to_pylist()


# -- the same bytes, and what says what they are ---------------------------------------------------


def test_the_same_tables_give_the_same_bytes_whatever_the_threads(
    made: Graph, split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards.write_formats, "__defaults__", (9,))
    again = tmp_path / "again"
    again.mkdir()
    warehouse = made.warehouse.model_copy(update={"connection_config": {"threads": 4}})
    with warehouse.read() as connection:
        source = Source(connection, "alignment", POLICY, RECIPE.settings(), 0.3)
        write_export(source, RECIPE, formats(), again)
    assert contents(again) == contents(split)


def test_the_manifest_lists_every_file_with_its_hash_and_columns(exported: Path) -> None:
    found, there = manifest(exported), contents(exported)
    assert found["formats"].keys() == FORMATS
    for name, one in found["formats"].items():
        columns = [column["name"] for column in one["columns"]]
        for file in one["files"]:
            text = there.pop(file["path"])
            assert file["bytes"] == len(text)
            assert file["sha256"] == hashlib.sha256(text).hexdigest()
            if name != "openai_preference":
                table = pq.read_table(exported / file["path"])
                assert (table.column_names, table.num_rows) == (columns, file["rows"])
    assert {name for name in there if not name.startswith("images/")} == {
        *("README.md", "manifest.json", "croissant.json"),
    }
    assert found["recipe"]["fingerprint"] == RECIPE.fingerprint
    assert found["policy"]["model_fingerprint"]
    assert set(found["licences"]["sources"].values()) == {"apache-2.0"}
    assert found["selection"]["strategy"] == "published"


def test_the_manifest_has_the_commit_that_the_policys_revision_was_then(
    made: Graph, tmp_path: Path
) -> None:
    models = RECIPE.model_dump(mode="json")["models"]
    models[POLICY] |= {"weights": "hf:lab/policy", "revision": "main"}
    run = Run(changed_recipe({"models": models}), tmp_path)
    with made.warehouse.read() as connection:
        assert source_of(run, connection, "alignment", POLICY, 0.0).commit is None
        run.revisions.write_text(json.dumps({"model/lab/policy@main": "0123abc"}))
        source = source_of(run, connection, "alignment", POLICY, 0.0)
        (tmp_path / "demo").mkdir()
        write_export(source, run.recipe, formats(["kto"]), tmp_path / "demo")
    assert manifest(tmp_path / "demo")["policy"]["revision"] == "0123abc"


def test_where_a_folder_of_weights_stands_is_not_told_to_others(
    made: Graph, tmp_path: Path
) -> None:
    models = RECIPE.model_dump(mode="json")["models"]
    models[POLICY] |= {"weights": str(tmp_path / "lab" / "our-policy")}
    folder = export(made, tmp_path / "demo", ["dpo"], recipe=changed_recipe({"models": models}))
    told = contents(folder)
    assert manifest(folder)["policy"]["weights"] == str(tmp_path / "lab" / "our-policy")
    assert not any(str(tmp_path).encode() in told[name] for name in told.keys() - {"manifest.json"})
    assert "our-policy" in (folder / "README.md").read_text()
    shared = tmp_path / "shared"
    shared.mkdir()
    recipe = changed_recipe({"models": models})
    with made.warehouse.read() as connection:
        source = Source(connection, "alignment", POLICY, recipe.settings(), 0.0)
        write_export(source, recipe, formats(["dpo"]), shared, for_others=True)
    assert manifest(shared)["policy"]["weights"] == "our-policy"
    assert not any(str(tmp_path).encode() in text for text in contents(shared).values())


def test_the_card_loads_a_split_that_has_rows(made: Graph, tmp_path: Path) -> None:
    folder = export(made, tmp_path / "demo", ["dpo"], share=1 - 1e-9)
    assert '"dpo", split="test")' in (folder / "README.md").read_text()


def test_what_texts_hold_has_no_effect_in_the_card(made: Graph, tmp_path: Path) -> None:
    hostile = changed_recipe({"description": HOSTILE, "models.smollm2-135m.licence": "odc-by"})
    made_before = made.query("SELECT DISTINCT source FROM alignment_prompts")
    assert made_before
    with made.warehouse.get_connection() as connection:
        connection.begin()
        connection.execute("UPDATE alignment_prompts SET source = $text", {"text": HOSTILE})
        folder = tmp_path / "hostile"
        folder.mkdir()
        source = Source(connection, "alignment", POLICY, hostile.settings())
        write_export(source, hostile, formats(["dpo"]), folder)
        connection.rollback()
    _, _, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inside = [child for token in tokens for child in token.children or ()]
    assert {token.type for token in (*tokens, *inside)}.isdisjoint({"html_block", "link_open"})
    assert {token.content for token in inside if token.type == "html_inline"} <= {"<br>"}
    pictures = {token.attrs["src"] for token in inside if token.type == "image"}
    assert {str(picture).split("/")[0] for picture in pictures} <= {"images"}
    assert "\x1b" not in body
    assert body.count("alert(1)") >= 2
    assert manifest(folder)["recipe"]["description"] == HOSTILE
    tools = json.loads((folder / "croissant.json").read_bytes())["rai:machineAnnotationTools"]
    assert tools == ["smollm2-135m-judge"]
    front = front_matter(folder)
    assert front["configs"][0]["config_name"] == "dpo"
    assert (front["license"], front["license_name"]) == ("other", "apache-2.0-and-odc-by")


def test_another_policy_has_no_part_in_an_export(made: Graph, tmp_path: Path) -> None:
    models = RECIPE.model_dump(mode="json")["models"]
    models["other"] = {**models[POLICY], "licence": "odc-by"}
    both = {"models": models, "completions.policies": [POLICY, "other"]}
    folder = export(made, tmp_path / "mine", ["kto"], recipe=changed_recipe(both))
    assert "other" not in manifest(folder)["licences"]["models"]
    assert front_matter(folder)["license"] == "apache-2.0"


def test_the_card_tells_what_the_hub_and_people_ask(exported: Path) -> None:
    front = front_matter(exported)
    assert front["license"] == "apache-2.0"
    assert set(front["language"]) == {"ar", "de", "es", "fr", "hi", "ja"}
    assert front["size_categories"] == ["n<1K"]
    text = (exported / "README.md").read_text(encoding="utf-8")
    for heading in (
        *("How to load it", "Counts", "What was excluded, and why", "Known limits", "Licences"),
        *("Agreement with people, and judges", "Length, and who wins"),
    ):
        assert f"\n## {heading}\n" in text
    assert "apache-2.0" in text and "reward hacking" in text


@pytest.mark.needs("mlcroissant")
def test_croissant_is_valid_and_its_records_can_be_read(exported: Path) -> None:
    said = subprocess.run(
        [
            str(MLCROISSANT),
            "-c",
            "import sys, mlcroissant\n"
            "found = mlcroissant.Dataset(sys.argv[1])\n"
            "for one in found.metadata.record_sets:\n"
            "    print(one.id, len(list(found.records(one.id))))\n",
            str(exported / "croissant.json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = {name: sum(one["rows"].values()) for name, one in manifest(exported)["formats"].items()}
    del rows["openai_preference"]
    assert dict(line.split() for line in said.stdout.splitlines()) == {
        name: str(count) for name, count in rows.items()
    }
    assert "error" not in said.stderr.lower()


# -- folders that are replaced whole ---------------------------------------------------------------


def test_a_writer_that_is_killed_leaves_the_old_export_and_the_next_one_tidies_up(
    made: Graph, tmp_path: Path
) -> None:
    target = tmp_path / "exports" / "mine"
    target.parent.mkdir()
    before = contents(export(made, target, ["kto"]))
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from alignment_assets.exports.placing import placed\n"
            "with placed(Path(sys.argv[1])) as folder:\n"
            "    (folder / 'manifest.json').write_text('{}')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n",
            str(target),
        ]
    )
    assert killed.returncode == -signal.SIGKILL
    assert contents(target) == before
    assert len(list(target.parent.iterdir())) == 2

    own = target.parent / "2026-11-29.mine.part"  # somebody's, though named in the like way
    own.write_text("own")
    with placed(target) as folder:
        (folder / "new").write_text("new")
        assert contents(target) == before
    assert contents(target) == {"new": b"new"}
    assert sorted(target.parent.iterdir()) == [own, target]


def test_a_failure_leaves_the_old_export(made: Graph, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    before = contents(export(made, target, ["kto"]))
    with pytest.raises(OSError, match="full") as told, placed(target):
        raise OSError(errno.ENOSPC, "the disk is full")
    assert told.value.filename == str(tmp_path)
    assert contents(target) == before and [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_folder_that_is_no_export_is_left_alone(tmp_path: Path, name: str) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / name).write_text('{"name": "of a web page"}')
    with pytest.raises(ExportError, match="no export of ours"), placed(target):
        raise AssertionError("nothing may be written")
    assert [path.name for path in target.iterdir()] == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


# -- a format of one's own -------------------------------------------------------------------------


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Put a format into a copy of sql/ that this process reads; return its name."""
    shutil.copytree(REPOSITORY / "sql", tmp_path / "sql")
    monkeypatch.setattr(sql_files, "project_folder", lambda name: tmp_path / name)
    sql_files._names.cache_clear()

    def added(text: str) -> str:
        name = f"added_{abs(hash(text))}"  # files are read once in a process
        (tmp_path / "sql" / "exports" / f"{name}.sql").write_text(text, encoding="utf-8")
        sql_files._names.cache_clear()
        return name

    yield added
    sql_files._names.cache_clear()


def test_a_file_makes_a_format(made: Graph, add: Callable[[str], str], tmp_path: Path) -> None:
    name = add(
        "-- Lengths alone.\nSELECT sample_id, prompt_id, [sample_id] AS ids, "
        "len(completion[1].content) AS length, sum(length) OVER () AS total, "
        "'UUID'::ENUM('UUID') AS kind FROM qrpo_samples WHERE policy = $policy"
    )
    assert name in {one.name for one in formats()}
    folder = export(made, tmp_path / "out", [name], share=0.5)
    (rows, *_) = loaded(folder, name, tmp_path / "cache").values()
    assert rows[0].keys() == {"sample_id", "prompt_id", "ids", "length", "total", "kind"}
    assert type(rows[0]["total"]) is int and rows[0]["kind"] == "UUID"
    assert rows[0]["ids"] == [rows[0]["sample_id"]]
    assert manifest(folder)["formats"][name]["about"] == "Lengths alone."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT pair_id FROM dpo_pairs", "gives no column prompt_id: add it"),
        ("SELECT pair_id, prompt_id FROM dpo_pear", "fails: Catalog Error"),
        ("SELECT track, prompt_id FROM dpo_pairs", "42 rows have 2 values of track"),
        ("-- Lines: a, b\nSELECT pair_id, prompt_id, 1 AS a FROM dpo_pairs", "no column b"),
        ("SELECT pair_id, prompt_id FROM dpo_pairs WHERE policy = $polisy", "fails: no value"),
        ("SELECT pair_id, NULL AS prompt_id FROM dpo_pairs", "42 rows have no prompt_id"),
        ("SELECT completion_id, prompt_id FROM completions", "356 rows for all prompts together"),
        (
            "SELECT pair_id, prompt_id, sum(9223372036854775807) OVER () AS n FROM dpo_pairs",
            "fails: Conversion",
        ),
    ],
)
def test_a_format_that_cannot_be_written_is_told(
    made: Graph,
    add: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    message: str,
) -> None:
    name = add(text)
    monkeypatch.setattr(shards.write_formats, "__defaults__", (9,))
    with pytest.raises(ExportError, match=f"sql/exports/{name}.sql") as told:
        export(made, tmp_path / "out", [name])
    assert message in str(told.value)


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(ExportError, match="no format dpoo; sql/exports has dpo, dpo_ref, kto"):
        formats(["dpoo"])


# -- the asset -------------------------------------------------------------------------------------


def test_the_asset_writes_its_folder_again_where_that_is_gone(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    graph.materialize("key:training_export")
    folder = graph.run.exports / POLICY
    before = contents(folder)
    listed = graph.query("SELECT file, rows, bytes, sha256 FROM training_export ORDER BY ALL")
    assert listed == sorted(
        (file["path"], file["rows"], file["bytes"], file["sha256"])
        for one in manifest(folder)["formats"].values()
        for file in one["files"]
    )
    assert partition_statuses(graph, "training_export") == {POLICY: "fresh"}

    text = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(text.replace(b'"sha256": "', b'"sha256": "other'))
    assert partition_statuses(graph, "training_export") == {
        POLICY: f"stale: another export in {folder}"
    }
    (folder / "manifest.json").write_bytes(text)
    cut = folder / "dpo" / "train-00000-of-00001.parquet"
    cut.write_bytes(before["dpo/train-00000-of-00001.parquet"][:1000])
    (said,) = partition_statuses(graph, "training_export").values()
    assert said.startswith(f"stale: {cut} has 1,000 bytes of ")
    cut.write_bytes(before["dpo/train-00000-of-00001.parquet"])
    (folder / "kto" / "train-00000-of-00001.parquet").unlink()
    (said,) = partition_statuses(graph, "training_export").values()
    assert said.startswith("stale: ") and said.endswith("parquet is gone")
    shutil.rmtree(folder)
    assert partition_statuses(graph, "training_export") == {POLICY: f"stale: no export in {folder}"}
    (result,) = graph.materialize("key:training_export")
    assert contents(folder) == before
    assert partition_statuses(graph, "training_export") == {POLICY: "fresh"}
    (made,) = result.asset_materializations_for_node("training_export")
    said_of = {name: value.value for name, value in made.metadata.items()}
    assert said_of["folder"] == str(folder)
    assert said_of["rows of dpo"] == 42 and said_of["rows of qrpo"] == 84
    assert said_of["bytes"] == sum(map(len, before.values()))

    split = graph.with_recipe(changed_recipe({"export.test_share": 0.3}))
    assert partition_statuses(split, "training_export") == {POLICY: "stale: has a new code version"}
    split.materialize("key:training_export")
    counted = Counter(split for (split,) in graph.query("SELECT split FROM training_export"))
    assert counted == {"train": len(FORMATS), "test": len(FORMATS)}


# -- the command -----------------------------------------------------------------------------------


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["export", *arguments])


@pytest.fixture
def home(made: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished demo where the command looks, and the engine that made it."""
    monkeypatch.setenv("ALIGNMENT_HOME", str(made.home))
    of_it = {"inference": made.inference}
    monkeypatch.setattr("alignment_assets.commands.export.default_resources", lambda run: of_it)
    monkeypatch.chdir(tmp_path)
    return made.home


def test_the_command_writes_what_is_asked_where_it_is_asked(
    home: Path, exported: Path, tmp_path: Path
) -> None:
    result = call("--format", "dpo", "--format", "kto", "--to", "mine", "--split", "0.5")
    assert result.exit_code == 0, result.output
    assert "rows of dpo 42, kto 84" in " ".join(result.output.split())
    assert manifest(tmp_path / "mine")["formats"].keys() == {"dpo", "kto"}
    assert manifest(tmp_path / "mine")["test_share"] == 0.5

    assert call("--to", "mine").exit_code == 0  # an older export is replaced
    assert contents(tmp_path / "mine") == contents(exported)


def test_the_command_by_itself_writes_the_folder_of_the_asset(home: Path, exported: Path) -> None:
    shutil.rmtree(home / "exports")
    assert call().exit_code == 0
    assert contents(home / "exports" / POLICY) == contents(exported)


def test_rows_by_another_template_or_model_than_the_recipes_are_not_exported_as_by_it(
    made: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(made.home))
    monkeypatch.chdir(tmp_path)
    refused = call("--to", "mine")  # the demo's model, where an engine of tests has answered
    assert isinstance(refused.exception, ExportError)
    assert "is by another tokenizer, chat template or weights" in str(refused.exception)
    assert list(tmp_path.iterdir()) == []

    shutil.copytree(REPOSITORY / "recipes", "recipes")
    recipe = yaml.safe_load(Path("recipes/demo.yaml").read_text())
    recipe["models"][POLICY]["weights"] = "models/gone"
    Path("recipes/demo.yaml").write_text(yaml.safe_dump(recipe))
    exported = call("--recipe", "recipes/demo.yaml", "--to", "mine")
    assert exported.exit_code == 0, exported.exception
    said = " ".join(exported.stderr.split())
    assert f"not known whether {POLICY} is the model of the rows: " in said


def test_where_nothing_was_made_an_export_leaves_nothing(folder_of_its_own: None) -> None:
    result = call()
    assert "run `alignment-assets materialize`" in str(result.exception)
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_is_not_replaced_under_who_stands_in_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    result = call("--to", ".")
    assert "is where this was called from" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "dpo"], "add --to FOLDER"),
        (["--split", "1", "--to", "mine"], "give a share below 1"),
        (["--upload"], "add --to hub:owner/name"),
        (["--policy", "nobody"], f"no such policy; it has {POLICY}"),
        (["--format", "dpoo", "--to", "mine"], "no format dpoo"),
        (["--to", "."], "no export of ours"),
        (["--to", "/proc"], "is a mount point"),
        (["--to", "notes.txt"], "is a file or a link"),
        (["--to", "hub:pairs"], "hub:pairs names no owner: say hub:owner/name"),
        (["--to", "hub:"], "hub:: "),
        (["--to", "hub:me/my/pairs"], "Repo id must be in the form"),
        (["--to", "{home}/spool/mine"], "holds what the product keeps"),
    ],
)
def test_what_cannot_be_exported_is_told(
    home: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = call(*(one.format(home=home) for one in arguments))
    assert isinstance(result.exception, Expected)
    assert message in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# -- the hub ---------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    # As HF_HUB_DISABLE_XET=1 in the environment: the stand-in speaks plain LFS.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub() as found:
        monkeypatch.setenv("HF_ENDPOINT", found.url)
        yield found


# Of huggingface_hub, which uploads by httpx.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_what_arrives_at_the_hub_is_the_export_byte_for_byte(
    home: Path, exported: Path, hub: Hub
) -> None:
    shown = call("--to", "hub:me/pairs")
    assert shown.exit_code == 0, shown.output
    assert "Nothing was uploaded" in shown.output and "dpo/train-00000-of-00001" in shown.output
    assert not [path for path in hub.asked if "me/pairs" in path or "create" in path]

    done = call("--to", "hub:me/pairs", "--upload")
    assert done.exit_code == 0, done.output
    assert hub.files["me/pairs"] == contents(exported)
    assert hub.private == {"me/pairs": True}
    assert f"{hub.url}/datasets/me/pairs" in done.output
    hub.files["me/pairs"]["notes.md"] = b"somebody's own"

    assert call("--to", "hub:me/pairs", "--upload", "--format", "kto").exit_code == 0
    there = hub.files["me/pairs"]
    assert {name.split("/")[0] for name in there if "/" in name} == {"kto", "images"}
    assert there["notes.md"] == b"somebody's own"
    assert TOKEN not in shown.output + done.output


def test_a_password_in_the_hubs_address_is_not_shown(
    home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")
    for arguments in ([], ["--upload"]):
        result = call("--to", "hub:me/pairs", "--format", "kto", *arguments)
        told = f"{result.output}{result.exception}"
        assert "hub:me/pairs" in told or "http://127.0.0.1:9" in told
        assert "secret" not in told


def test_a_public_repository_gets_nothing(home: Path, hub: Hub) -> None:
    hub.files["me/pairs"], hub.private["me/pairs"] = {}, False
    result = call("--to", "hub:me/pairs", "--upload", "--format", "kto")
    assert isinstance(result.exception, ExportError)
    assert "is public" in str(result.exception)
    assert hub.files == {"me/pairs": {}}


def test_a_repository_of_something_else_is_left_as_it_is(home: Path, hub: Hub) -> None:
    own = {"README.md": b"mine", "data/train-00000-of-00001.parquet": b"rows"}
    hub.files["me/pairs"], hub.private["me/pairs"] = dict(own), True
    result = call("--to", "hub:me/pairs", "--upload", "--format", "kto")
    assert "files that are no export of ours" in str(result.exception)
    assert hub.files == {"me/pairs": own}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize(
    ("token", "answers", "message"),
    [
        ("", {}, "set HF_TOKEN"),
        ("hf_wrong", {}, "401: the hub does not take the token"),
        (TOKEN, {"/api/repos/create": 403}, "403: the token may not write there"),
        (TOKEN, {"/api/datasets/me/pairs/preupload": 404}, "404: no such owner or repository"),
        (TOKEN, {"/api/datasets/me/pairs/commit": 500}, "not uploaded"),
    ],
)
def test_what_the_hub_refuses_is_told_in_a_line(
    home: Path,
    hub: Hub,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    answers: dict[str, int],
    message: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "nowhere")
    hub.answers |= answers
    result = call("--to", "hub:me/pairs", "--upload", "--format", "kto")
    assert isinstance(result.exception, ExportError)
    told = str(result.exception)
    assert message in told and "\n" not in told
    assert not token or token not in told


def test_a_hub_that_is_not_there_is_told_in_a_line(
    home: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = call("--to", "hub:me/pairs", "--upload", "--format", "kto")
    assert isinstance(result.exception, ExportError)
    assert "hub:me/pairs" in str(result.exception) and "\n" not in str(result.exception)
