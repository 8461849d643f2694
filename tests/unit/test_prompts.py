"""Which prompts stay, which go and why: the rules over rows, on hand-written sources."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alignment_assets.commands.summary import consent_line
from alignment_assets.host.paths import project_folder
from alignment_assets.pages.answers import ask_published
from alignment_assets.recipe.load import load_recipe
from alignment_assets.sources.origins import suffix_list_version
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import opened_to_ask
from tests.conftest import Graph
from tests.support.prompt_sources import GRADED, READ, RULED, on_sources, row

AGENTS = load_recipe("apertus").consent.agents


def rules(graph: Graph, dataset: str = "preference_mix") -> dict[str, tuple[str, str]]:
    """Return each excluded row's rule and detail by its id."""
    rows = graph.query(
        "SELECT upstream_id, rule, detail FROM prompt_exclusions WHERE dataset = $dataset",
        {"dataset": dataset},
    )
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name: (rule, detail) for name, rule, detail in rows}


def licensed(graph: Graph, dataset: str = "preference_mix") -> set[str]:
    rows = graph.query(
        "SELECT upstream_id FROM licensed_prompts WHERE dataset = $dataset", {"dataset": dataset}
    )
    return {name for (name,) in rows}


# -- one rule at a time ----------------------------------------------------------------------------


def conversation(*messages: Any) -> Any:
    return [
        {"role": message[0], "content": message[1]} if isinstance(message, tuple) else message
        for message in messages
    ]


MALFORMED = {
    "no conversation": None,
    "not a list of messages: dict": {"role": "user", "content": "x"},
    "not a list of messages: int": 5,
    "a text, not a conversation: user: x": "user: x",
    "a conversation's JSON text is broken: [{'role'": "[{'role'",
    "lists of different lengths in a conversation": {
        "role": ["user", "assistant"],
        "content": ["x"],
    },
    "no assistant turn": conversation(("user", "only a question")),
    "no user message": conversation(("system", "rules"), ("assistant", "a")),
    "does not end with a user message": conversation(
        ("user", "q"), ("assistant", "a"), ("assistant", "b")
    ),
    "an empty text: message 0": conversation(("user", " \n\u2003"), ("assistant", "a")),
    "not a text: message 0: int": conversation(("user", 5), ("assistant", "a")),
    "no text: message 0": conversation({"role": "user"}, ("assistant", "a")),
    "a message is no object: message 1: str": conversation(
        ("user", "q"), "what?", ("user", "q"), ("assistant", "a")
    ),
    "an unknown role: message 0: tool": conversation(
        ("tool", "42"), ("user", "q"), ("assistant", "a")
    ),
    "a NUL character: message 0": conversation(("user", "a\x00b"), ("assistant", "a")),
    "a placeholder: n/a": conversation(("user", "n/a"), ("assistant", "a")),
    "a part of a message is no text: message 0: image_url": conversation(
        ("user", [{"type": "text", "text": "See"}, {"type": "image_url"}]), ("assistant", "a")
    ),
    "invalid Unicode: message 0": conversation(("user", "half \ud83d"), ("assistant", "a")),
}

LICENCE = {  # (id, source): the subsets seen
    ("ai2-adapt-dev/flan_v2_converted_1", None): "flan_v2",
    ("flan_v2", "allenai/mix"): "flan_v2",
    ("off_policy_1", "ai2-adapt-dev/FLAN_V2_converted"): "flan_v2",
    ("ai2/no_robots/7", "x"): "no_robots",
    ("tulu_no_robots", None): "no_robots",
    ("flan_v2_7", "no_robots"): "flan_v2, no_robots",
    ("flan_v22_converted_1", None): None,
    ("xflan_v2_converted_1", None): None,
    ("flan-v2", "flan v2"): None,
    ("flan", "v2"): None,
    ("no_robots2", "canno_robots"): None,
    ("noarobots", "flan.v2"): None,
}


def test_each_rule_drops_its_rows_and_says_what_it_saw(graph: Graph, tmp_path: Path) -> None:
    mix = [row("x", f"malformed {reason}", chosen=chosen) for reason, chosen in MALFORMED.items()]
    for number, (name, source) in enumerate(LICENCE):
        mix.append(row(f"licence {number}", name, source=source))
    mix += [
        row("long: " + "é" * 40, "too_long"),
        row("b" * 40, "just_fits"),
        {"id": "too_long_in_all", "chosen": conversation(
            ("system", "c" * 20), ("user", "d" * 21), ("assistant", "e" * 90))},
        {"id": "long_answer", "chosen": conversation(("user", "f"), ("assistant", "g" * 90))},
        row("What is  a\tcafé?\n", "first"),
        row("What is a café?", "spaces"),
        row("What is a cafe\u0301?", "nfd"),
        row("what is a café?", "other_case"),
        {"id": "with_system", "chosen": conversation(
            ("system", "Be brief."), ("user", "What is a café?"), ("assistant", "x"))},
        row("What is a café?", "spaces_again"),
    ]  # fmt: skip
    graph = on_sources(graph, tmp_path, mix, changes={"max_prompt_characters": 40})
    graph.materialize(f"{READ} or {RULED}")

    found = rules(graph)
    for reason in MALFORMED:
        assert found.pop(f"malformed {reason}") == ("malformed", reason)
    for (name, _), subsets in LICENCE.items():
        wanted = ("licence", f"subset {subsets}") if subsets else None
        assert found.pop(name, None) == wanted, name
    first = [line["id"] for line in mix].index("first")
    repeat = ("repeat", f"row {first} asks the same")
    assert found == {
        "too_long": ("too_long", "46 of 40 characters"),
        "too_long_in_all": ("too_long", "41 of 40 characters"),
        "spaces": repeat,
        "nfd": repeat,
        "spaces_again": repeat,
    }
    # Nothing is lost, and the row that stays keeps its text to the character.
    assert len(rules(graph)) + len(licensed(graph)) == len(mix)
    assert {"just_fits", "long_answer", "other_case", "with_system"} < licensed(graph)
    assert graph.query(
        "SELECT messages[1].content FROM licensed_prompts WHERE upstream_id = 'first'"
    ) == [("What is  a\tcafé?\n",)]


def test_the_first_rule_that_applies_is_named_and_dropped_rows_hide_no_repeat(
    graph: Graph, tmp_path: Path
) -> None:
    robots = tmp_path / "robots"
    robots.mkdir()
    (robots / "no.example.txt").write_text("User-agent: *\nDisallow: /\n")
    long, blocked = "word " * 20, "https://no.example/page"
    mix = [
        row(None, "flan_v2_a", url=blocked),
        row(long, "flan_v2_b", url=blocked),
        row(long, "c", url=blocked),
        row(long, "d"),
        row(long, "e"),
        row("short", "no_robots_f"),
        row("short", "g", url=blocked),
        row("short", "h"),
        row("short", "i"),
    ]
    changes = {"max_prompt_characters": 50, "consent.robots": str(robots)}
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    graph.materialize(f"{READ} or {RULED}")

    assert {name: rule for name, (rule, _) in rules(graph).items()} == {
        "flan_v2_a": "malformed",
        "flan_v2_b": "licence",
        "c": "consent",
        "d": "too_long",
        "e": "too_long",
        "no_robots_f": "licence",
        "g": "consent",
        "i": "repeat",
    }
    assert rules(graph)["i"] == ("repeat", "row 7 asks the same")  # not the dropped row 5
    assert licensed(graph) == {"h"}


def test_the_demo_drops_what_its_readme_tells(graph: Graph) -> None:
    graph.materialize(f"{READ} or {RULED}")
    readme = (project_folder("recipes") / "demo" / "README.md").read_text("utf-8")
    table = [
        (cells[1].strip(), cells[2].strip(), re.findall("`([^`]+)`", cells[3]))
        for cells in (line.split("|") for line in readme.splitlines() if line.count("|") == 4)
    ]
    told = {name: int(count) for name, count, _ in table if count.isdigit()}
    assert told.pop("kept") == len(licensed(graph)) == 30
    found = rules(graph)
    for name, _, ids in table:
        rule = name.split(":")[0].replace(" ", "_").replace("repeat_of_an_earlier_row", "repeat")
        if rule in ("licence", "consent", "repeat", "too_long"):
            assert {found.pop(upstream_id)[0] for upstream_id in ids} == {rule}
    assert {rule for rule, _ in found.values()} == {"malformed"}
    assert len(found) == told["malformed"] == 6
    assert sum(told.values()) + 30 == 48
    assert all(upstream_id in readme for upstream_id in found)
    blocked = dict(
        graph.query(
            "SELECT origin_domain, blocked_agents FROM origin_consent WHERE status = 'blocked'"
        )
    )
    assert blocked["river-gazette.example"] == ["CCBot", "CCBot/2.0", "CCBot/1.0", "GPTBot"]
    assert blocked["closed-archive.example"] == list(AGENTS)
    assert blocked["recipe-corner.example"] == ["Google-Extended"]


def test_rows_without_a_snapshot_follow_their_sources_rule(graph: Graph, tmp_path: Path) -> None:
    robots = tmp_path / "robots"
    robots.mkdir()
    (robots / "yes.example.txt").write_text("User-agent: *\nDisallow: /admin\n")
    (robots / "no.example.txt").write_text("User-agent: CCBot\nDisallow: /\n")
    places = {
        "yes": "https://yes.example/a",
        "no": "https://no.example/a",
        "unseen": "https://elsewhere.example/a",
        "none": None,
        "broken": "no url",
    }
    mix = [
        row(f"{place} {source}", f"{place} {source}", url=url, source=source)
        for place, url in places.items()
        for source in ("refused/a", "admitted/b", "other/c", None)
    ]
    changes = {
        "consent.robots": str(robots),
        "consent.sources": {"refused/a": "refused", "admitted/b": "admitted"},
    }
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    graph.materialize(f"{READ} or {RULED}")

    dropped = {f"no {source}" for source in ("refused/a", "admitted/b", "other/c", None)}
    refused = {f"{place} refused/a" for place in ("unseen", "none", "broken")}
    assert set(rules(graph)) == dropped | refused
    assert {rules(graph)[name] for name in dropped} == {
        ("consent", "no.example blocks CCBot, CCBot/2.0, CCBot/1.0")
    }
    assert {rules(graph)[name] for name in refused} == {
        ("consent", f"{why}, and the recipe refuses the source refused/a")
        for why in (
            "no robots.txt of elsewhere.example is at hand",
            "no origin known",
            "the origin 'no url' cannot be read",
        )
    }
    basis = (
        "SELECT DISTINCT consent_basis FROM licensed_prompts "
        "WHERE dataset = 'preference_mix' AND upstream_id {} 'yes %'"
    )
    assert graph.query(basis.format("LIKE")) == [("robots_txt",)]
    assert graph.query(basis.format("NOT LIKE")) == [("source_rule",)]

    strict = graph.with_recipe(
        on_sources(
            graph, tmp_path, mix, changes={**changes, "consent.unknown_origins": "refused"}
        ).recipe
    )
    strict.materialize(RULED)
    places.pop("no")
    assert licensed(strict) == {f"{place} admitted/b" for place in places} | {
        f"yes {source}" for source in ("refused/a", "other/c", None)
    }
    assert rules(strict)["none other/c"] == (
        "consent",
        "no origin known, and the recipe refuses unknown origins",
    )


def test_each_rule_about_a_source_or_sub_collection_is_named_by_what_it_drops(
    graph: Graph, tmp_path: Path
) -> None:
    robots = tmp_path / "robots"
    robots.mkdir()
    (robots / "yes.example.txt").write_text("User-agent: *\nAllow: /\n")
    (robots / "page.example.txt").write_text("<html>Welcome</html>")
    (robots / "paid.example.txt").write_text("License: https://paid.example/terms\n")
    (robots / "told.example.txt").write_text("User-agent: *\nContent-Usage: train-ai=n\n")
    (tmp_path / "list.txt").write_text("listed.example\n")
    mix = [
        row("a", "1", source="lab/sold"),
        row("b", "2", source="lab/known"),
        row("c", "lab_chats_3", source="lab/known"),
        row("d", "lab_chats_4", source="lab/known", url="https://yes.example/"),
        row("e", "lab_forum_5", source="lab/unheard"),
        row("f", "forum_chats_6", source="lab/known"),
        row("g", "7", source="lab/unheard"),
        row("h", "8", source="lab/unheard", url="https://yes.example/a"),
        row("i", "9", source="lab/unheard", url="https://page.example/a"),
        row("j", "10", source="lab/known", url="https://paid.example/a"),
        row("k", "11", source="lab/known", url="told.example/a"),
        row("l", "12", source="lab/known", url=["https://listed.example/a"]),
        row("m", "13", source="lab/known", url="here and there"),
        row("n", "14"),
    ]
    seen = {"evidence": "https://lab.example/terms", "date": "2026-01-02"}
    changes = {
        "licence.excluded_sources": ["lab/sold"],
        "consent.robots": str(robots),
        "consent.blocked_domains": {
            "letters": {"file": str(tmp_path / "list.txt"), "date": "2026-02-03"}
        },
        "consent.unknown_origins": None,
        "consent.sources": {
            "lab/known": "admitted",
            "polyglot_toxicity_prompts": "admitted",
            "prism_prompts": {"decision": "refused", **seen},
        },
        "consent.subsets": {"chats": {"decision": "refused", **seen}, "forum": "admitted"},
    }
    graph = on_sources(graph, tmp_path, mix, changes=changes)
    made = [
        event.metadata
        for result in graph.materialize(f"{READ} or {RULED}")
        for event in result.get_asset_materialization_events()
        for event in [event.materialization]
        if event.asset_key.to_user_string() == "origin_consent"
    ]
    assert made[0]["public_suffix_list"].value == suffix_list_version()
    assert made[0]["status: not_robots_txt"].value == 1

    no_rule = "and the recipe names no rule for the source"
    chats = "the recipe refuses the subset chats (https://lab.example/terms, 2026-01-02)"
    assert rules(graph) == {
        "1": ("licence", "source lab/sold"),
        "lab_chats_3": ("consent", f"no origin known, and {chats}"),
        "forum_chats_6": ("consent", f"no origin known, and {chats}"),
        "7": ("consent", f"no origin known, {no_rule} lab/unheard"),
        "9": ("consent", f"what page.example answered is no robots.txt, {no_rule} lab/unheard"),
        "11": ("consent", "told.example signals train-ai=n"),
        "12": ("consent", "listed.example is on the list letters of 2026-02-03"),
        "14": ("consent", f"no origin known, {no_rule} NULL"),
    }
    assert set(rules(graph, "prism_prompts").values()) == {
        (
            "consent",
            "no origin known, and the recipe refuses the source prism_prompts "
            "(https://lab.example/terms, 2026-01-02)",
        )
    }
    assert dict(graph.query("SELECT upstream_id, consent_basis FROM licensed_prompts")) == {
        "2": "source_rule",
        "lab_chats_4": "robots_txt",
        "lab_forum_5": "subset_rule",
        "8": "robots_txt",
        "10": "source_rule",
        "13": "source_rule",
        None: "source_rule",
    }
    assert graph.query(
        "SELECT origin_url, origin_pages, origin_domain FROM source_prompts "
        "WHERE dataset = 'preference_mix' AND upstream_id IN ('11', '12', '13') ORDER BY ALL"
    ) == [
        ('["https://listed.example/a"]', ["https://listed.example/a"], "listed.example"),
        ("here and there", [], None),
        ("told.example/a", ["https://told.example/a"], "told.example"),
    ]
    with opened_to_ask(graph.warehouse) as connection:
        told = ask_published(connection, ["consent_decisions"], graph.recipe.settings())
    assert consent_line(told["consent_decisions"]).startswith(
        "Consent, by rows: robots.txt decided about 3 (2 admitted, 1 refused), "
        "their source's rule about 5 (4 admitted, 1 refused), "
    )
    decisions = sql_files.read_sql("analysis", "consent_decisions")
    asked = (
        f"SELECT decided_by, sum(admitted)::INT, sum(refused)::INT FROM ({decisions}) GROUP BY 1"
    )
    settings = sql_files.named_parameters(decisions, graph.recipe.settings())
    assert set(graph.query(asked, settings)) == {
        ("blocked_list", 0, 1),
        ("no_rule", 0, 3),
        ("robots_txt", 2, 1),
        ("source_rule", 4, 1),
        ("subset_rule", 1, 2),
    }


# -- additions, tracks and the limit ---------------------------------------------------------------


def test_additions_pass_the_same_rules_and_unguided_conversations_go(
    graph: Graph, tmp_path: Path
) -> None:
    guided, unguided = "controversy guided", "unguided"
    graph = on_sources(
        graph,
        tmp_path,
        [row("only in the mix", "flan_v2_x")],
        polyglot=("Grüße!", " Gru\u0308ße! ", "x" * 60, "\ud83d", "only in the mix"),
        prism=(("hi", guided), ("hi ", guided), ("hi", unguided), ("yo", unguided), ("", guided)),
        changes={"max_prompt_characters": 50},
    )
    graph.materialize(f"{READ} or {RULED} or {GRADED}")

    dropped = graph.query(
        "SELECT dataset, row_number, rule, detail FROM prompt_exclusions ORDER BY ALL"
    )
    assert dropped == [
        ("polyglot_toxicity_prompts", 1, "repeat", "row 0 asks the same"),
        ("polyglot_toxicity_prompts", 2, "too_long", "60 of 50 characters"),
        ("polyglot_toxicity_prompts", 3, "malformed", "invalid Unicode: prompt"),
        ("preference_mix", 0, "licence", "subset flan_v2"),
        ("prism_prompts", 1, "repeat", "row 0 asks the same"),
        ("prism_prompts", 2, "keep", "conversation_type is unguided"),
        ("prism_prompts", 3, "keep", "conversation_type is unguided"),
        ("prism_prompts", 4, "malformed", "an empty text: prompt"),
    ]
    kept = graph.query(
        "SELECT messages[1].content, track, datasets FROM alignment_prompts ORDER BY 1"
    )
    assert kept == [
        ("Grüße!", "controversial", ["polyglot_toxicity_prompts"]),
        ("hi", "controversial", ["prism_prompts"]),
        ("only in the mix", "controversial", ["polyglot_toxicity_prompts"]),
    ]


def test_a_prompt_on_both_tracks_is_controversial_and_names_its_datasets(
    graph: Graph, tmp_path: Path
) -> None:
    graph = on_sources(
        graph,
        tmp_path,
        [
            row("grade 0: shared  by all", "shared"),
            row("grade 0: calm", "calm"),
            row("grade 1: mild", "mild"),
            row("grade 2: heated", "heated"),
            row("grade 3: hottest", "hottest"),
        ],
        polyglot=("grade 0: shared by all", "grade 0: two additions"),
        prism=(
            ("grade 0: two additions", "values guided"),
            ("grade 0: shared by all", "values guided"),
        ),
    )
    graph.materialize(f"{READ} or {RULED} or {GRADED}")

    rows = graph.query(
        "SELECT messages[1].content, track, dataset, datasets FROM alignment_prompts"
    )
    mix, polyglot, prism = "preference_mix", "polyglot_toxicity_prompts", "prism_prompts"
    assert {text.split(": ")[1]: tuple(rest) for text, *rest in rows} == {
        "shared  by all": ("controversial", mix, [mix, polyglot, prism]),
        "two additions": ("controversial", polyglot, [polyglot, prism]),
        "calm": ("standard", mix, [mix]),
        "mild": ("standard", mix, [mix]),
        "heated": ("controversial", mix, [mix]),
        "hottest": ("controversial", mix, [mix]),
    }

    stricter = graph.with_recipe(
        graph.recipe.model_copy(
            update={"controversy": graph.recipe.controversy.model_copy(update={"threshold": 3})}
        )
    )
    asked = len(graph.asked())
    stricter.materialize(GRADED)
    assert stricter.query(
        "SELECT upstream_id FROM alignment_prompts WHERE track = 'controversial' "
        "AND len(datasets) = 1 AND dataset = 'preference_mix'"
    ) == [("hottest",)]
    assert len(stricter.asked()) == asked  # grades are kept, only the fold changes


def test_a_limit_takes_exact_nested_subsets_of_all_sources(graph: Graph, tmp_path: Path) -> None:
    mix = [row(f"shared {number}", f"m{number}") for number in range(12)]
    mix += [row("shared 0", "repeated"), row("dropped", "flan_v2")]
    polyglot = tuple(f"shared {n}" for n in range(4)) + tuple(f"addition {n}" for n in range(8))

    def prompts(limit: int | None, lines: list[dict[str, Any]], selection: str) -> set[str]:
        limited = on_sources(graph, tmp_path, lines, polyglot=polyglot, changes={"limit": limit})
        limited.materialize(selection)
        details = limited.query(
            "SELECT DISTINCT detail FROM prompt_exclusions WHERE rule = 'limit'"
        )
        assert details == ([(f"not among the first {limit} by hash",)] if limit else [])
        return {
            prompt
            for (prompt,) in limited.query("SELECT messages[1].content FROM licensed_prompts")
        }

    everything = prompts(None, mix, f"{READ} or {RULED}")
    assert len(everything) == 12 + 8 + 1
    few, more = prompts(4, mix, RULED), prompts(9, mix, RULED)
    assert (len(few), len(more)) == (4, 9)
    assert few < more < everything
    # Rows in another order, and rows that are dropped, make no difference.
    turned = [row("also dropped", "no_robots"), *reversed(mix)]
    assert prompts(9, turned, f"{READ} or {RULED}") == more
