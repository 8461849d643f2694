"""`compare`: what became of each pair from one state of a training set to another, and why."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from alignment_assets.commands.app import app
from alignment_assets.commands.compare import ANSWERS
from alignment_assets.host.expected import Expected
from alignment_assets.warehouse.comparison import Side, compare, find_side
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import Graph, changed_recipe
from tests.support.ids import named, uid
from tests.support.tables import new_warehouse

POLICY = "smollm2-135m-policy"
Row = dict[str, Any]

# What is another of a prompt's pair in B, and what that is called.
OTHERS: dict[str, tuple[Row, str]] = {
    "same": ({}, "same"),
    "rated": ({"chosen_reward": 9.0}, "other_rewards"),
    "ranked": ({"rejected_quantile": 0.25}, "other_rewards"),
    "chosen": ({"chosen_completion_id": uid("x"), "chosen_model": "new"}, "other_chosen"),
    "rejected": ({"rejected_completion_id": uid("x")}, "other_rejected"),
    "both": (
        {"chosen_completion_id": uid("x"), "rejected_completion_id": uid("y")},
        "other_completions",
    ),
    "swapped": (
        {
            "chosen_completion_id": uid("swapped rejected"),
            "rejected_completion_id": uid("swapped chosen"),
        },
        "swapped",
    ),
    "answered": ({"rejected": [{"role": "assistant", "content": "Again."}]}, "other_text"),
    "spoken": ({"chosen": [{"role": "tool", "content": "chosen"}]}, "other_text"),
    "spelled": ({"prompt": [{"role": "user", "content": "SPELLED"}]}, "other_prompt_text"),
}
KEPT = {"same", "other_rewards"}
EXCLUDED = "INSERT INTO prompt_exclusions VALUES ('d', 0, '{id}', NULL, NULL, '{rule}', '')"
IN_GRAPH = """
INSERT INTO alignment_prompts BY NAME
SELECT '{id}' AS prompt_id, 'h' AS prompt_hash, 'standard' AS track,
    [{{'role': 'user', 'content': 'q'}}] AS messages, 'h' AS messages_hash, 'd' AS dataset,
    ['d'] AS datasets
"""
# Prompts that have a pair in A alone: what B says of each, and what that comes to.
GONE: dict[str, tuple[list[str], str]] = {
    "few": (
        [f"INSERT INTO selection_exclusions VALUES ('{POLICY}', '{{id}}', 't', 'few', 0, 0, 0)"],
        "few",
    ),
    "refused": ([EXCLUDED.replace("{rule}", "consent")], "consent"),
    "limited": ([EXCLUDED.replace("{rule}", rule) for rule in ("licence", "limit")], "limit"),
    "ungraded": (
        [
            """
            INSERT INTO licensed_prompts BY NAME
            SELECT 'd' AS dataset, 0 AS dataset_order, 0 AS row_number, '{id}' AS prompt_id,
                'h' AS prompt_hash, 'graded' AS track, [] AS messages, 'h' AS messages_hash,
                'none' AS consent_basis
            """
        ],
        "no_grade",
    ),
    "unmade": ([IN_GRAPH], "not_made"),
    "unread": ([], "not_read"),
}


def pair(prompt: str, /, policy: str = POLICY, index: int = 0, **other: Any) -> Row:
    """Return a row of dpo_pairs."""
    sides = {
        f"{side}_{name}": value
        for side in ("chosen", "rejected")
        for name, value in {
            "completion_id": uid(f"{prompt} {side}"),
            "model": "old",
            "variant": "default",
            "reward": float(side == "chosen"),
            "quantile": float(side == "chosen"),
            "band": "best",
            "tokens": 7,
        }.items()
    }
    return {
        "pair_id": uid(f"pair of {policy} {prompt} {index}"),
        "policy": policy,
        "prompt_id": uid(prompt),
        "track": "standard",
        "pair_index": index,
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": "chosen"}],
        "rejected": [{"role": "assistant", "content": "rejected"}],
        **sides,
        "reference_rewards": [0.0],
        **other,
    }


def put(path: Path, pairs: list[Row], *statements: str) -> None:
    """Put rows of dpo_pairs in place of those that stand in a database, and change other tables."""
    with duckdb.connect(str(path)) as connection:
        connection.register("pairs", pa.Table.from_pylist(pairs))
        connection.execute("DELETE FROM dpo_pairs; INSERT INTO dpo_pairs BY NAME FROM pairs")
        for statement in statements:
            connection.execute(statement)


@dataclass(frozen=True)
class States:
    """A home whose last snapshot is A, and whose database is B; with an export of each."""

    warehouse: Warehouse
    a: Side
    b: Side
    exported_a: Side
    exported_b: Side


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    home = tmp_path_factory.mktemp("compared")
    warehouse = new_warehouse(home)
    warehouse.prepare()
    kept = [pair(prompt) for prompt in OTHERS] + [pair("twice")]
    gone = [pair("twice", index=1), pair("any", policy="second"), *map(pair, GONE)]
    put(warehouse.path, [*kept, *gone])
    before = warehouse.snapshot(home / "snapshots" / "before.duckdb")
    export(home / "exported_a", warehouse.path)
    put(
        warehouse.path,
        [pair(prompt, **other) for prompt, (other, _) in OTHERS.items()] + [pair("twice")],
        *(
            statement.format(id=uid(prompt))
            for prompt, (statements, _) in GONE.items()
            for statement in statements
        ),
    )
    export(home / "exported_b", warehouse.path)
    return States(
        warehouse,
        Side("before", before),
        find_side(warehouse, "now"),
        *(find_side(warehouse, str(home / f"exported_{side}")) for side in "ab"),
    )


def export(folder: Path, database: Path, policy: str = POLICY) -> Path:
    """Write an export with a policy's pairs, in two splits; messages have another order there."""
    (folder / "dpo").mkdir(parents=True)
    manifest = {"policy": {"name": policy}, "recipe": {"name": "demo", "fingerprint": "f" * 64}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ids = ("pair_id", "prompt_id", "chosen_completion_id", "rejected_completion_id")
    turned = ", ".join(
        f"list_transform({name}, lambda one: {{'content': one.content, 'role': one.role}}) "
        f"AS {name}"
        for name in ("prompt", "chosen", "rejected")
    )
    as_text = ", ".join(f"{name}::VARCHAR AS {name}" for name in ids)
    with duckdb.connect(str(database), read_only=True) as connection:
        for split, rows in (("train", "<>"), ("test", "=")):
            connection.execute(
                f"COPY (SELECT * REPLACE ({turned}, {as_text}) FROM dpo_pairs "
                f"WHERE policy = '{policy}' AND prompt_id {rows} '{uid('same')}') "
                f"TO '{folder}/dpo/{split}-00000-of-00001.parquet'"
            )
    return folder


def told(warehouse: Warehouse, a: Side, b: Side) -> dict[str, tuple[str, str]]:
    """Return kind and reason of each pair, by its name."""
    rows = compare(warehouse, a, b, ["pairs"])["pairs"].records
    return {named(row["pair_id"]): (row["kind"], row["reason"]) for row in rows}


def expected(kind: str, reason_of: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """Return what is to be told where all that is not on both sides is new, or gone."""
    both = {prompt: reason for prompt, (_, reason) in OTHERS.items()} | {"twice": "same"}
    return {
        **{
            f"pair of {POLICY} {prompt} 0": ("kept" if reason in KEPT else "changed", reason)
            for prompt, reason in both.items()
        },
        f"pair of {POLICY} twice 1": (kind, "fewer_pairs"),
        **{f"pair of {POLICY} {prompt} 0": (kind, reason_of(prompt)) for prompt in GONE},
    }


def test_each_pair_has_a_kind_and_a_reason(states: States) -> None:
    of_second = "pair of second any 0"
    forth = told(states.warehouse, states.a, states.b)
    assert forth.pop(of_second) == ("gone", "policy_missing")
    assert forth == expected("gone", lambda prompt: GONE[prompt][1])
    back = told(states.warehouse, states.b, states.a)
    assert back.pop(of_second) == ("new", "policy_missing")
    assert back == expected("new", lambda prompt: GONE[prompt][1])


def test_an_export_is_compared_with_an_export_or_a_database(states: States) -> None:
    warehouse, untold = states.warehouse, "not_told_by_an_export"
    found = told(warehouse, states.exported_a, states.exported_b)
    assert found == expected("gone", lambda _: untold)
    # The database says why, and another policy of it does not count.
    found = told(warehouse, states.exported_a, states.b)
    assert found == expected("gone", lambda prompt: GONE[prompt][1])
    assert told(warehouse, states.exported_b, states.a) == expected("new", lambda _: untold)
    assert set(told(warehouse, states.a, states.exported_a).values()) == {("kept", "same")}


def test_policies_that_left_the_recipe_do_not_count(states: States, tmp_path: Path) -> None:
    left, of_second = Warehouse(database=str(tmp_path / "left.duckdb")), "pair of second any 0"
    shutil.copy(states.a.path, left.path)
    now = Side("now", left.home)
    assert told(left, states.a, now)[of_second] == ("kept", "same")
    without = left.model_copy(update={"members": {"policy": [POLICY]}})
    assert told(without, states.a, now)[of_second] == ("gone", "policy_missing")
    none = left.model_copy(update={"members": {"policy": ["third"]}})
    assert set(told(none, states.exported_a, now).values()) == {("gone", "policy_missing")}
    # A snapshot goes by its own recipe.
    settings = json.dumps({"completions": {"policies": [POLICY]}})
    with duckdb.connect(str(left.path)) as connection:
        connection.execute(f"INSERT INTO recipes VALUES ('demo', '', 'f', '{settings}')")
    assert of_second not in told(without, Side("old", left.snapshot()), now)


def test_what_is_counted_adds_up(states: States) -> None:
    found = compare(states.warehouse, states.a, states.b, ANSWERS)
    sizes = {row["side"]: row["pairs"] for row in found["sides"].records}
    kinds = {row["kind"]: row for row in found["kinds"].records if row["policy"] == POLICY}
    assert list(kinds) == ["kept", "changed", "new", "gone"]
    counts = {kind: row["pairs"] for kind, row in kinds.items()}
    assert counts == {"kept": 4, "changed": 7, "new": 0, "gone": 7}
    assert (sizes["A"], sizes["B"]) == (4 + 7 + 7 + 1, 4 + 7)
    assert kinds["gone"]["share_of_a"] == round(7 / 18, 4) and kinds["new"]["share_of_a"] is None
    by_kind: Counter[str] = Counter()
    for row in found["reasons"].records:
        by_kind[row["kind"]] += row["pairs"]
    assert by_kind == {"kept": 4, "changed": 7, "gone": 8}
    of_model = {(row["policy"], row["model"]): row for row in found["kinds_by_model"].records}
    for row in found["models"].records:
        assert row["difference"] == row["pairs_b"] - row["pairs_a"]
        became = of_model.get((row["policy"], row["model"]), Counter())
        assert row["pairs_a"] == became["kept"] + became["changed"] + became["gone"]
    moved = {(row["from_model"], row["to_model"]): row["pairs"] for row in found["moves"].records}
    assert moved == {("old", "new"): 1, ("old", "old"): 2}
    margin, *_ = (row for row in found["means"].records if row["policy"] == POLICY)
    assert (margin["figure"], margin["mean_a"]) == ("reward_margin", 1.0)
    assert margin["mean_b"] == round((9 + 10) / 11, 4)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def home(states: States, folder_of_its_own: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The states in the place where the command looks."""
    monkeypatch.setenv("ALIGNMENT_HOME", str(states.warehouse.home))
    return states.warehouse.home


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments])


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert isinstance(result.exception, Expected), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_the_last_snapshot_is_compared_with_the_database_as_it_is(home: Path) -> None:
    result = run()
    assert result.exit_code == 0 and result.output == run("before", "now").output
    assert run("before.duckdb").exit_code == 0
    for text in ("other_completions", "policy_missing", "share_of_a", "reward_margin"):
        assert text in result.output


def test_a_comparison_comes_in_every_format(home: Path) -> None:
    rows = json.loads(run("--format", "json").stdout)
    assert {row["answer"] for row in rows} == {*ANSWERS}
    (gone,) = (
        row["pairs"]
        for row in rows
        if (row["answer"], row["policy"], row["kind"]) == ("kinds", POLICY, "gone")
    )
    assert gone == 7
    for suffix in ("csv", "parquet", "md", "json"):
        assert run("-o", f"changes.{suffix}").exit_code == 0
    assert len(list(csv.reader(Path("changes.csv").read_text().splitlines()))) == len(rows) + 1
    assert pq.read_table("changes.parquet").to_pylist() == rows
    page = Path("changes.md").read_text()
    assert page.count("\n## ") == len(ANSWERS) - 1 and "| gone | few |" in page
    assert run("-o", "changes.txt", "--format", "table").exit_code == 0
    assert "policy_missing" in Path("changes.txt").read_text()


def test_single_pairs_are_listed(home: Path) -> None:
    rows = json.loads(run("--pairs", "--format", "json").stdout)
    assert [row["kind"] for row in rows if row["policy"] == POLICY] == (
        ["changed"] * 7 + ["gone"] * 7 + ["kept"] * 4
    )
    (moved,) = (row for row in rows if row["reason"] == "other_chosen")
    assert named(moved["prompt_id"]) == "chosen"
    assert (moved["chosen_model_a"], moved["chosen_model_b"]) == ("old", "new")
    assert run("--pairs", "-o", "pairs.parquet").exit_code == 0
    assert pq.read_table("pairs.parquet").to_pylist() == rows


def test_names_from_anywhere_do_nothing_to_a_terminal(
    folder_of_its_own: None, states: States
) -> None:
    for name, model in (("a", "one\x1b[31m"), ("b", "[bold]two\x07")):
        shutil.copy(states.a.path, f"{name}.duckdb")
        put(Path(f"{name}.duckdb"), [pair("any", chosen_model=model)])
    for arguments in ((), ("--pairs",)):
        shown = run("a.duckdb", "b.duckdb", *arguments).output
        assert "\\x1b[31m" in shown and "[bold]two\\x07" in shown
        assert not {"\x1b", "\x07"} & set(shown)


def test_different_recipes_are_told(home: Path, tmp_path: Path) -> None:
    exports = str(home / "exported_a"), str(home / "exported_b")
    assert run(*exports).stderr == ""
    other = tmp_path / "other"
    shutil.copytree(exports[1], other)
    for recipe, line in (
        ({"name": "demo", "fingerprint": "e"}, "the recipe demo is another in B than in A\n"),
        (
            {"name": "mine", "fingerprint": "e"},
            "A is of the recipe demo and B of the recipe mine\n",
        ),
    ):
        manifest = {"policy": {"name": POLICY}, "recipe": recipe}
        (other / "manifest.json").write_text(json.dumps(manifest))
        assert run(exports[0], str(other)).stderr == line


def test_two_exports_need_no_home(states: States, folder_of_its_own: None) -> None:
    result = run(str(states.exported_a.path), str(states.exported_b.path))
    assert result.exit_code == 0 and list(Path().iterdir()) == []


# -- what cannot be compared -----------------------------------------------------------------------


def test_what_is_not_there_is_told_in_a_line(home: Path, tmp_path: Path) -> None:
    there = home / "snapshots"
    assert refused("then") == f"no snapshot, database or export then; {there} has before"
    assert "is no export: it has no manifest.json" in refused(str(tmp_path))
    empty = export(tmp_path / "empty", home / "alignment.duckdb")
    shutil.rmtree(empty / "dpo")
    assert "export the format dpo, too" in refused(str(empty))
    for wrong in ("[]", "{", '{"policy": 1, "recipe": {}}'):
        (empty / "manifest.json").write_text(wrong)
        assert "its manifest.json names no recipe and policy" in refused(str(empty))
    assert refused("now") == "A and B are both now; name two to compare"
    assert "are both" in refused(str(home / "snapshots/before.duckdb"), "before")
    mine, second = (
        export(tmp_path / p, home / "snapshots/before.duckdb", p) for p in (POLICY, "second")
    )
    assert "which have no pair in common" in refused(str(mine), str(second))


def test_files_that_are_no_such_database_are_told_in_a_line(home: Path, tmp_path: Path) -> None:
    Path("text.duckdb").write_text("text" * 9000)
    assert "text.duckdb is no database; name a snapshot" in refused("text.duckdb")
    whole = (home / "snapshots/before.duckdb").read_bytes()
    Path("torn.duckdb").write_bytes(whole[:9000])
    assert "torn.duckdb cannot be opened: " in refused("torn.duckdb")
    duckdb.connect("other.duckdb").close()
    assert "other.duckdb is no database of alignment-assets" in refused("other.duckdb")
    with duckdb.connect(
        str(shutil.copy(home / "snapshots/before.duckdb", "later.duckdb"))
    ) as later:
        later.execute("ALTER TABLE dpo_pairs RENAME chosen_reward TO chosen_rewards")
        later.execute("UPDATE database_info SET product_version = '9.9'")
    wrong = refused("later.duckdb")
    assert wrong.startswith(
        "later.duckdb cannot be compared: it was written by alignment-assets 9.9"
    )
    shutil.rmtree(broken := shutil.copytree(home / "exported_a", tmp_path / "x") / "dpo")
    broken.mkdir()
    (broken / "train.parquet").write_text("no Parquet")
    assert "x cannot be read: " in refused(str(broken.parent))


def test_without_a_snapshot_or_a_database_the_command_to_run_is_named(
    folder_of_its_own: None, states: States
) -> None:
    assert "run `alignment-assets snapshot`" in refused()
    assert "no database" in refused(str(states.a.path))
    assert list(Path().iterdir()) == []


def test_an_older_snapshot_without_a_record_of_its_recipe_is_compared(
    states: States, tmp_path: Path
) -> None:
    old = tmp_path / "old.duckdb"
    shutil.copy(states.a.path, old)
    with duckdb.connect(str(old)) as connection:
        connection.execute("DROP TABLE recipes; ALTER TABLE dpo_pairs DROP reference_rewards")
    assert told(states.warehouse, Side("old", old), states.b) == told(
        states.warehouse, states.a, states.b
    )


# -- a run -----------------------------------------------------------------------------------------


def test_another_strategy_changes_what_it_should(materialized: Callable[..., Graph]) -> None:
    graph = materialized()
    warehouse = graph.warehouse
    before = warehouse.snapshot()
    changed = graph.with_recipe(changed_recipe({"selection.strategy": "best_worst"}))
    changed.materialize("key:selected_pairs or key:dpo_pairs")
    columns = "pair_id, chosen_completion_id, rejected_completion_id, chosen, rejected, prompt"
    question = f"SELECT {columns} FROM dpo_pairs"
    with duckdb.connect(str(before), read_only=True) as connection:
        old = {str(row[0]): [*map(str, row)] for row in connection.execute(question).fetchall()}
    new = {row[0]: [*map(str, row)] for row in graph.query(question)}
    found = {
        row["pair_id"]: row["kind"]
        for row in compare(
            changed.warehouse, Side("before", before), find_side(warehouse, "now"), ["pairs"]
        )["pairs"].records
    }
    assert found == {
        **dict.fromkeys(old.keys() - new.keys(), "gone"),
        **dict.fromkeys(new.keys() - old.keys(), "new"),
        **{one: "kept" if old[one] == new[one] else "changed" for one in old.keys() & new.keys()},
    }
    assert {"kept", "changed"} <= set(found.values())
