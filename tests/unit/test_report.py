"""The report: one HTML page with what the database says, in which no text takes effect."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from typer.testing import CliRunner

from alignment_assets.commands.app import app
from alignment_assets.commands.report import EXCLUDED, report_page
from alignment_assets.commands.summary import print_next_steps
from alignment_assets.host.durable import write_record
from alignment_assets.host.expected import Expected
from alignment_assets.host.shown import cell_text
from alignment_assets.pages import pictures
from alignment_assets.pages.html import CHARACTERS, ROWS, cell
from alignment_assets.pages.questions import questions_of
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import fetch, opened_to_ask
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import Graph, changed_recipe, demo_graph

COOL, POLICY = "smollm2-135m-cool", "smollm2-135m-policy"
HOSTILE = (
    "<script>alert(1)</script> <img src=http://evil.example/x onerror=alert(2)> "
    "[a](javascript:alert(3)) ![](http://evil.example/y) \x1b[31mred\x07 \x00 \u202eevil "
    "{{ 7 * 7 }}"
)
SHOWN = (
    "<script>alert(1)</script> <img src=http://evil.example/x onerror=alert(2)> "
    "[a](javascript:alert(3)) ![](http://evil.example/y) \\x1b[31mred\\x07 \\x00 \\u202eevil "
    "{{ 7 * 7 }}"
)
FORMULA = '=HYPERLINK("http://evil.example/z")'
# All that a page is made of.
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section"),
    *("h1", "h2", "h3", "h4", "h5", "p", "ol", "li", "a", "dl", "div", "dt", "dd", "article"),
    *(
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "b",
        "code",
        "img",
        "details",
        "summary",
    ),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "aria-label", "href", "id", "class"),
    *("src", "alt", "scope", "dir"),
}


class Page(HTMLParser):
    """What is on a page: its elements, its texts, and the tables and texts below each heading."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.ids: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self._open.append(tag)
        if tag == "tr":
            self.tables.setdefault(self.ids[-1], []).append([])
        elif tag in ("td", "th"):
            self.tables[self.ids[-1]][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() not in (tag, "body"):
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.tables[self.ids[-1]][-1][-1] += data


@pytest.fixture(scope="module")
def home(made_once: Callable[[str | None], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose datasets and models have given texts that would do harm."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(made_once(None), folder, dirs_exist_ok=True)
    said = "[{'role': 'assistant', 'content': $text}]"
    with Warehouse(database=str(folder / "home" / "alignment.duckdb")).get_connection() as database:
        for statement in (
            f"UPDATE dpo_pairs SET chosen = {said}, track = '<i>', rejected_model = $text",
            "UPDATE completions SET text = repeat($text || 'x', 99)",
            f"UPDATE source_prompts SET source = $text, messages = {said}",
            "UPDATE prompt_exclusions SET detail = $text",
        ):
            database.execute(statement, {"text": HOSTILE})
        database.execute("UPDATE rewards SET variant = $text", {"text": FORMULA})
    return folder / "home"


@pytest.fixture(autouse=True)
def _no_records_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(scope="module")
def written(home: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        return report_page(Run(changed_recipe(), home))


@pytest.fixture(scope="module")
def page(written: str) -> Page:
    return Page(written)


def anchor(question: str) -> str:
    return question.replace("_", "-")


def page_questions() -> set[str]:
    return {one.name for table in sql_files.tables() for one in questions_of(table)}


def test_every_question_of_a_page_is_in_the_report_once(page: Page) -> None:
    asked = {*page_questions(), *EXCLUDED, "forecast_against_actual", "engines_by_model"}
    assert {name: page.ids.count(anchor(name)) for name in asked} == dict.fromkeys(asked, 1)
    stages = ["prompts", "controversy", "completions", "rewards", "training-sets"]
    assert [one for one in page.ids if one in stages] == stages
    links = {value[1:] for name, value in page.attributes if name == "href"}
    assert links <= set(page.ids) and "rewards-rewards" in links


def test_its_tables_have_the_figures_that_query_gives(home: Path, page: Page) -> None:
    run = Run(changed_recipe(), home)
    compared = 0
    with opened_to_ask(Warehouse(**run.database_settings)) as connection:
        for name in page_questions() | set(EXCLUDED):
            shown = page.tables.get(anchor(name))
            rows = fetch(connection, sql_files.read_sql("analysis", name), run.recipe.settings())
            if not shown or not rows.num_rows:
                continue
            assert shown[0] == [column.replace("_", " ") for column in rows.columns]
            assert shown[1:] == [[cell(value) for value in row] for row in rows.values[:ROWS]], name
            compared += len(shown)
        ((mean,),) = fetch(connection, "SELECT round(avg(reward), 4) FROM rewards", {}).values
    assert compared > 150
    assert f"mean reward{cell_text(mean)}reward deviation" in page.text.replace("\n", "")


def test_no_text_takes_effect(written: str, page: Page) -> None:
    assert page.tags <= TAGS
    assert {name for name, _ in page.attributes} <= ATTRIBUTES
    for name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/png;base64," if name == "src" else "#")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("content", policy) in page.attributes
    assert all(one == "\n" or one.isprintable() for one in written)
    assert page.text.count(SHOWN) > 10 and "49" not in SHOWN
    assert FORMULA in page.text
    # What is cut says how long it is.
    assert f"… ({len(HOSTILE + 'x') * 99:,} characters)" in page.text


def test_a_cell_is_text_and_no_longer_than_it_may_be() -> None:
    assert cell("a\r\nb\rc\x85d\u2028") == "a\nb\nc\\x85d\\u2028"
    assert (
        cell(1234567) == "1,234,567" and cell(None) == "" and cell([1, "\x1b"]) == '[1, "\\u001b"]'
    )
    assert cell("é" * (CHARACTERS + 1)) == f"{'é' * CHARACTERS}… ({CHARACTERS + 1:,} characters)"


def test_the_same_database_gives_the_same_report(home: Path, written: str) -> None:
    again = report_page(Run(changed_recipe(), home))
    made = re.compile(r"<dt>Made</dt><dd>.*?</dd>")
    assert len(made.findall(written)) == 1
    assert made.sub("", again) == made.sub("", written)


def test_who_left_is_left_out_and_what_was_published_and_read_stands_beside(home: Path) -> None:
    recipe = changed_recipe(
        {
            "completions.models": ["smollm2-135m"],
            "published_prompts": {"standard": 1000, "controversial": 0},
            "personas.dataset": "hf:lab/personas",
            "human_labels.dataset": "hf:lab/labels",
        }
    )
    run = Run(recipe, home)
    Warehouse(**run.database_settings).snapshot()
    write_record(run.revisions, {"dataset/lab/personas@main": "0123abcd"})
    page = Page(report_page(run, snapshot=True))
    assert re.search(r"Snapshot\S+\.duckdb, 20\d\d-", page.text)
    assert "What the snapshot holds." in page.text  # Dagster's records are of the present
    tables = page.tables
    told = [row for row in tables["in-detail"] if COOL in row]
    assert told and all("`alignment-assets tidy` removes it" in row[2] for row in told)
    assert {row[0] for row in tables["truncation-by-model"][1:]} == {"smollm2-135m", POLICY}
    (standard,) = (row for row in tables["prompts-beside-the-published"] if row[0] == "standard")
    assert standard[2] == "1,000" and float(standard[3]) == int(standard[1]) / 1000
    assert ["personas", "hf:lab/personas", "main", "0123abcd"] in tables["datasets"]
    assert ["human labels", "hf:lab/labels", "main", "not looked up yet"] in tables["datasets"]
    engines = {(row[0], row[1], row[2]) for row in tables["engines-by-model"][1:]}
    assert {("smollm2-135m", "generate", "fake"), (POLICY, "generate", "fake")} <= engines


def test_what_is_missing_is_told_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    none = CliRunner().invoke(app, ["report"])
    assert isinstance(none.exception, Expected)
    assert "run `alignment-assets materialize`" in str(none.exception)
    assert not (tmp_path / "home").exists()

    records = tmp_path / "home" / "dagster"
    records.mkdir(parents=True)
    with DagsterInstance.from_config(str(records)) as instance:
        graph: Graph = demo_graph(tmp_path, instance)
        graph.materialize("key:source_prompts", "prism_prompts")
        graph.materialize("key:wordings")

    told = CliRunner().invoke(app, ["report", "--recipe", "demo"])
    file = tmp_path / "home" / "report.html"
    assert told.output.startswith(f"{file}: ")
    page = Page(file.read_text(encoding="utf-8"))
    state = {row[0]: row[-1] for row in page.tables["tables"]}
    assert (state["source_prompts"], state["wordings"]) == ("2 missing, 1 fresh", "fresh")
    assert state["dpo_pairs"] == "missing"
    assert ["source_prompts", "preference_mix", "missing"] in page.tables["in-detail"]
    assert not [row for row in page.tables["in-detail"] if row[0] == "dpo_pairs"]
    assert "alignment-assets materialize --select '+key:dpo_pairs' --recipe demo" in page.text
    assert "Nothing is known yet: prompt_exclusions is not made." in page.text
    assert "exclusions-by-rule" not in page.tables
    assert "prompts-read" in page.ids and "bands-of-pairs" not in page.ids


def test_a_report_that_cannot_be_written_leaves_the_old_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(home))
    old = tmp_path / "report.html"
    old.write_text("the old one")
    output = tmp_path / "none" / "report.html"
    failed = CliRunner().invoke(app, ["report", "-o", str(output)])
    assert isinstance(failed.exception, Expected)
    assert str(failed.exception).startswith(f"-o {output}: No such file or directory; name a file")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert CliRunner().invoke(app, ["report", "-o", str(old)]).exit_code == 0
    assert old.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_a_run_ends_with_names_the_report(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMENT_RECIPE", "my recipe.yaml")
    monkeypatch.setenv("ALIGNMENT_LIMIT", "3")
    print_next_steps(Warehouse(**Run(changed_recipe(), home).database_settings))
    said = capsys.readouterr().out
    assert "alignment-assets report --recipe 'my recipe.yaml' --limit 3 " in said


def test_a_picture_of_many_numbers_adds_up_neighbours() -> None:
    for lowest, width in ((0, 1 / 7), (1000, 0.001), (-5, 400)):
        rows: list[tuple[Any, ...]] = [(lowest + n * width, 1, "a") for n in range(500)]
        steps = pictures._in_steps(rows, lowest, lowest + 499 * width)
        assert len({row[0] for row in steps}) == pictures.PLACES and len(steps) == 500
        ends = [row[0] - step[0] for row, step in zip(rows, steps, strict=True)]
        assert all(-width <= end < 14 * width for end in ends)
