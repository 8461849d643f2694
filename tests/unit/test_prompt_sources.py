"""Prompt sources are a list: an entry in the recipe is all that a new one takes."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_assets.commands.materialize import plan_launches
from alignment_assets.commands.status import table_status
from alignment_assets.recipe.datasets import PROVENANCE_COLUMNS
from alignment_assets.recipe.load import find_recipe, load_recipe
from alignment_assets.requests.forecast import count_prompts
from alignment_assets.warehouse.lineage import InconsistentError
from tests.conftest import Graph, changed_recipe
from tests.support.prompt_sources import GRADED, READ, RULED, StatedGrader, row, write_lines

ALL = f"{READ} or {RULED} or {GRADED}"
Entry = dict[str, Any]

# What somebody writes into a recipe who has three collections of their own.
ENTRIES = """
  - name: town-hall
    dataset: town_hall.jsonl
    form: text
    track: controversial
    columns: {prompt: question, topic: topic, votes: votes}
    keep: {topic: [taxes, schools]}
  - name: homework
    dataset: homework.jsonl
    form: text
    track: standard
    columns: {prompt: task, source: subject}
  - name: chats
    dataset: chats.jsonl
    form: conversation
    track: graded
    columns: {conversation: messages, upstream_id: id}
"""


def texts(folder: Path, name: str, track: str, *prompts: str, **keys: Any) -> Entry:
    """Return an entry of ``prompts`` with a file of texts behind it."""
    lines = [{"text": prompt} for prompt in prompts]
    columns = {"prompt": "text"}
    dataset = write_lines(folder / f"{name}.jsonl", lines)
    own = {"name": name, "dataset": dataset, "form": "text", "track": track, "columns": columns}
    return {**own, **keys}


def reading(graph: Graph, *entries: Entry, **changes: Any) -> Graph:
    """The graph on these sources, with a grader that does what prompts say."""
    recipe = changed_recipe({"prompts": list(entries), **changes})
    return replace(graph, recipe=recipe, inference=StatedGrader(log=graph.inference.log))


def aligned(graph: Graph) -> dict[str, tuple[str, str, list[str]]]:
    """Return track, dataset and datasets of each prompt by its text."""
    rows = graph.query(
        "SELECT messages[-1].content, track, dataset, datasets FROM alignment_prompts"
    )
    return {text: (track, dataset, datasets) for text, track, dataset, datasets in rows}


def exclusions(graph: Graph) -> set[tuple[Any, ...]]:
    return set(graph.query("SELECT dataset, row_number, rule, detail FROM prompt_exclusions"))


def statuses(graph: Graph) -> dict[str, str]:
    """Return what `status` says of each table, a partition in brackets."""
    rows = table_status(graph.warehouse, graph.run, graph.defs, graph.instance).to_pylist()
    return {
        f"{row['table']}[{row['partition']}]" if row["partition"] else row["table"]: row["status"]
        for row in rows
    }


def test_a_new_source_takes_an_entry_in_the_recipe_and_nothing_else(
    graph: Graph, tmp_path: Path
) -> None:
    shutil.copytree(find_recipe("demo").parent / "demo", tmp_path / "demo")
    recipe = tmp_path / "mine.yaml"
    shutil.copy(find_recipe("demo"), recipe)
    write_lines(
        tmp_path / "town_hall.jsonl",
        [
            {"question": "Shall we raise the dog tax?", "topic": "taxes", "votes": 3},
            {"question": "Where is the town hall?", "topic": "places", "votes": 0},
        ],
    )
    write_lines(tmp_path / "homework.jsonl", [{"task": "Add 17 and 4.", "subject": "sums"}])
    turns = row("grade 3: Shall cars leave the centre?", "chat 1")["chosen"]
    calm = row("grade 0: How wide is the road?", "chat 2")["chosen"]
    write_lines(
        tmp_path / "chats.jsonl",
        [{"messages": turns, "id": "chat 1"}, {"messages": calm, "id": "chat 2"}],
    )

    before, after = recipe.read_text(encoding="utf-8").split("personas:\n", 1)
    recipe.write_text(f"{before.rstrip()}{ENTRIES}personas:\n{after}", encoding="utf-8")
    mine = replace(
        graph, recipe=load_recipe(str(recipe)), inference=StatedGrader(log=graph.inference.log)
    )
    results = mine.with_checks().materialize(ALL)

    assert [e for r in results for e in r.get_asset_check_evaluations() if not e.passed] == []
    new = "dataset IN ('town-hall', 'homework', 'chats')"
    assert mine.query(
        f"SELECT dataset, row_number, source, upstream_id, extra FROM source_prompts WHERE {new} "
        "ORDER BY ALL"
    ) == [
        ("chats", 0, "chats.jsonl", "chat 1", None),
        ("chats", 1, "chats.jsonl", "chat 2", None),
        ("homework", 0, "sums", None, None),
        ("town-hall", 0, "town_hall.jsonl", None, '{"topic": "taxes", "votes": 3}'),
        ("town-hall", 1, "town_hall.jsonl", None, '{"topic": "places", "votes": 0}'),
    ]
    assert mine.query(
        f"SELECT dataset, row_number, track FROM licensed_prompts WHERE {new} ORDER BY ALL"
    ) == [
        ("chats", 0, "graded"),
        ("chats", 1, "graded"),
        ("homework", 0, "standard"),
        ("town-hall", 0, "controversial"),
    ]
    assert dict(
        mine.query(f"SELECT messages[-1].content, track FROM alignment_prompts WHERE {new}")
    ) == {
        "Shall we raise the dog tax?": "controversial",
        "Add 17 and 4.": "standard",
        "grade 3: Shall cars leave the centre?": "controversial",
        "grade 0: How wide is the road?": "standard",
    }
    # The grader is asked about the graded one, beside the demo's 30.
    asked = [request["messages"][-1]["content"] for request in mine.asked()]
    assert len(asked) == 30 + 2
    assert not any("dog tax" in text or "17 and 4" in text for text in asked)


def test_a_value_of_extra_answers_questions_and_survives_what_no_column_holds(
    graph: Graph, tmp_path: Path
) -> None:
    lines = [
        {"text": "one", "about": {"half \ud83d": ["a\x00b", None, 1.5, math.nan]}},
        {"text": "two", "about": "ünï"},
        {"text": "three"},
    ]
    source = texts(tmp_path, "mine", "standard", columns={"prompt": "text", "about": "about"})
    write_lines(tmp_path / "mine.jsonl", lines)
    on_mine = reading(graph, source)
    on_mine.materialize(READ)
    rows = on_mine.query("SELECT extra FROM source_prompts ORDER BY row_number")
    assert [json.loads(extra)["about"] for (extra,) in rows] == [
        {"half ?": ["ab", None, 1.5, None]},
        "ünï",
        None,
    ]
    assert on_mine.query("SELECT extra ->> 'about' FROM source_prompts WHERE row_number = 1") == [
        ("ünï",)
    ]


def test_the_recipes_order_decides_who_keeps_a_prompt(graph: Graph, tmp_path: Path) -> None:
    first = texts(tmp_path, "first", "standard", "is  shared", "is first")
    second = texts(tmp_path, "second", "standard", "is second", "is shared")
    straight = reading(graph, first, second)
    straight.materialize(ALL)
    assert aligned(straight) == {
        "is  shared": ("standard", "first", ["first", "second"]),
        "is first": ("standard", "first", ["first"]),
        "is second": ("standard", "second", ["second"]),
    }

    turned = reading(graph, second, first)
    assert statuses(turned)["licensed_prompts"].startswith("stale")
    turned.materialize(f"{RULED} or {GRADED}")  # nothing is read again
    assert aligned(turned)["is shared"] == ("standard", "second", ["second", "first"])


def test_controversial_wins_whoever_says_so(graph: Graph, tmp_path: Path) -> None:
    calm = texts(tmp_path, "calm", "standard", "grade 0: a", "grade 3: b", "grade 0: c", "d", "e")
    graded = texts(tmp_path, "graded", "graded", "grade 0: a", "grade 3: b", "grade 0: c", "f 3")
    heated = texts(tmp_path, "heated", "controversial", "grade 0: c", "d")
    on_three = reading(graph, calm, graded, heated)
    on_three.materialize(ALL)
    assert {text: track for text, (track, _, _) in aligned(on_three).items()} == {
        "grade 0: a": "standard",
        "grade 3: b": "controversial",
        "grade 0: c": "controversial",
        "d": "controversial",
        "e": "standard",
        "f 3": "standard",
    }
    assert {dataset for _, dataset, _ in aligned(on_three).values()} == {"calm", "graded"}
    assert len(on_three.asked()) == 4

    calmer = reading(graph, calm, graded, {**heated, "track": "standard"})
    assert statuses(calmer)["licensed_prompts"].startswith("stale")
    assert statuses(calmer)["source_prompts[heated]"] == "fresh"
    calmer.materialize(f"{RULED} or {GRADED}")
    controversial = [text for text, (track, _, _) in aligned(calmer).items() if track != "standard"]
    assert controversial == ["grade 3: b"]


def test_a_prompt_of_two_graded_sources_is_asked_about_once(graph: Graph, tmp_path: Path) -> None:
    one = texts(tmp_path, "one", "graded", "grade 2:  both", "grade 0: one")
    two = texts(tmp_path, "two", "graded", "grade 2: both", "grade 3: two")
    on_both = reading(graph, one, two)
    on_both.materialize(ALL)
    asked = [request["messages"][-1]["content"] for request in on_both.asked()]
    assert len(asked) == 3
    assert [text for text in asked if "grade 2:  both" in text]  # as the first source has it
    assert aligned(on_both)["grade 2:  both"] == ("controversial", "one", ["one", "two"])
    with on_both.warehouse.read() as connection:
        assert count_prompts(connection, on_both.recipe).graded == 3
    (status,) = (
        row
        for row in table_status(
            on_both.warehouse, on_both.run, on_both.defs, on_both.instance
        ).to_pylist()
        if row["table"] == "controversy_labels"
    )
    assert (status["requested"], status["missing"]) == (3, 0)


def test_keep_goes_by_our_columns_and_by_extra_ones(graph: Graph, tmp_path: Path) -> None:
    lines = [
        {"text": "stays", "kind": "a", "subject": "law", "number": 3},
        {"text": "other kind", "kind": "b", "subject": "law", "number": 3},
        {"text": "no kind", "subject": "law", "number": 3},
        {"text": "other subject", "kind": "a", "subject": "art", "number": 3},
        {"text": "other number", "kind": "c", "subject": "law", "number": 4},
    ]
    source = texts(
        tmp_path,
        "mine",
        "standard",
        columns={"prompt": "text", "source": "subject", "kind": "kind", "count": "number"},
        keep={"kind": ["a", "c"], "source": ["law"], "count": ["3"]},
    )
    write_lines(tmp_path / "mine.jsonl", lines)
    on_mine = reading(graph, source)
    on_mine.materialize(f"{READ} or {RULED}")
    assert exclusions(on_mine) == {
        ("mine", 1, "keep", "kind is b"),
        ("mine", 2, "keep", "kind is NULL"),
        ("mine", 3, "keep", "source is art"),
        ("mine", 4, "keep", "count is 4"),
    }
    assert on_mine.query("SELECT messages[1].content FROM licensed_prompts") == [("stays",)]


@pytest.mark.parametrize("column", PROVENANCE_COLUMNS)
def test_each_column_of_ours_can_be_kept_by(graph: Graph, tmp_path: Path, column: str) -> None:
    values = ["https://yes.example/a", "https://yes.example/b"]
    lines = [{"text": f"prompt {value}", "said": value} for value in values]
    columns = {"prompt": "text", column: "said"}
    source = texts(tmp_path, "mine", "standard", columns=columns, keep={column: values[:1]})
    write_lines(tmp_path / "mine.jsonl", lines)
    on_mine = reading(graph, source)
    on_mine.materialize(f"{READ} or {RULED}")
    assert exclusions(on_mine) == {("mine", 1, "keep", f"{column} is {values[1]}")}


def test_licence_and_consent_hold_for_a_source_of_texts(graph: Graph, tmp_path: Path) -> None:
    robots = tmp_path / "robots"
    robots.mkdir()
    (robots / "no.example.txt").write_text("User-agent: *\nDisallow: /\n")
    (robots / "yes.example.txt").write_text("User-agent: *\nDisallow: /admin\n")
    lines = [
        {"text": "from a subset", "id": "x/no_robots/1"},
        {"text": "from a closed page", "url": "https://no.example/page"},
        {"text": "from an open page", "url": "https://yes.example/page"},
        {"text": "from nowhere"},
    ]
    columns = {"prompt": "text", "upstream_id": "id", "origin_url": "url"}
    source = texts(tmp_path, "mine", "controversial", columns=columns)
    write_lines(tmp_path / "mine.jsonl", lines)
    # The file's name stands in for the source that no column tells.
    consent = {"consent.robots": str(robots), "consent.sources": {"mine.jsonl": "refused"}}
    on_mine = reading(graph, source, **consent)
    on_mine.materialize(f"{READ} or {RULED}")
    (agents,) = on_mine.query("SELECT blocked_agents FROM origin_consent WHERE status = 'blocked'")
    assert exclusions(on_mine) == {
        ("mine", 0, "licence", "subset no_robots"),
        ("mine", 1, "consent", f"no.example blocks {', '.join(agents[0])}"),
        ("mine", 3, "consent", "no origin known, and the recipe refuses the source mine.jsonl"),
    }
    assert on_mine.query("SELECT messages[1].content, consent_basis FROM licensed_prompts") == [
        ("from an open page", "robots_txt")
    ]


def test_a_source_that_is_read_again_leaves_the_others_fresh(graph: Graph, tmp_path: Path) -> None:
    one = texts(tmp_path, "one", "standard", "first")
    two = texts(tmp_path, "two", "standard", "second")
    on_two = reading(graph, one, two)
    on_two.materialize(ALL)
    behind = ("origin_consent", "prompt_exclusions", "licensed_prompts")
    # No origins, and nothing is dropped.
    assert [statuses(on_two)[table] for table in behind] == ["empty", "empty", "fresh"]

    on_two.materialize("key:source_prompts", "two")
    assert statuses(on_two)["licensed_prompts"] == "fresh"  # the same rows

    texts(tmp_path, "two", "standard", "second", "third")
    on_two.materialize("key:source_prompts", "two")
    found = statuses(on_two)
    assert (found["source_prompts[one]"], found["source_prompts[two]"]) == ("fresh", "fresh")
    assert found["origin_consent"].startswith("stale")  # of no origin, as before
    assert all(found[table].startswith("inconsistent") for table in behind[1:])

    on_two.materialize(f"key:origin_consent or {RULED} or {GRADED}")
    assert set(aligned(on_two)) == {"first", "second", "third"}

    on_three = reading(graph, one, two, texts(tmp_path, "three", "standard", "fourth"))
    found = statuses(on_three)
    assert [found[f"source_prompts[{name}]"] for name in ("one", "two", "three")] == [
        *("fresh", "fresh", "missing")
    ]
    assert found["licensed_prompts"].startswith("stale")


def test_a_source_that_leaves_the_recipe_takes_its_prompts_along(
    graph: Graph, tmp_path: Path
) -> None:
    one = texts(tmp_path, "one", "standard", "first")
    two = texts(tmp_path, "two", "standard", "second")
    reading(graph, one, two).materialize(ALL)
    left = reading(graph, one)
    left.materialize(f"{RULED} or {GRADED}")
    assert set(aligned(left)) == {"first"}


def test_rules_wait_until_every_source_is_read(graph: Graph, tmp_path: Path) -> None:
    one = texts(tmp_path, "one", "standard", "first")
    two = texts(tmp_path, "two", "standard", "second")
    on_two = reading(graph, one, two)
    on_two.materialize("key:source_prompts", "one")
    with pytest.raises(InconsistentError, match=r"source_prompts\[two\] has not been made"):
        on_two.materialize("key:origin_consent or key:prompt_exclusions")


def test_runs_cover_sources_models_and_policies_each_once(graph: Graph) -> None:
    sources = [source.name for source in graph.recipe.prompts]
    made = [
        (key.to_user_string(), run.partition)
        for run in plan_launches(graph.defs)
        for key in run.assets
    ]
    assert len(set(made)) == len(made)
    assert [partition for table, partition in made if table == "source_prompts"] == sources
    assert made.index(("source_prompts", sources[-1])) < made.index(("prompt_exclusions", None))
    alone = plan_launches(graph.defs, partition=sources[0])
    assert [run.label for run in alone] == [f"source_prompts [{sources[0]}]"]
