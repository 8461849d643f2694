"""`query` and `trace`: what they take, how they show rows, and that texts stay texts."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from typer.testing import CliRunner, Result

from alignment_assets.commands import doctor as doctor_command
from alignment_assets.commands import terminal
from alignment_assets.commands.app import app
from alignment_assets.commands.progress import shown_progress
from alignment_assets.commands.rows import as_csv, as_markdown, show, write
from alignment_assets.commands.summary import print_summary
from alignment_assets.host.expected import Expected
from alignment_assets.inference.backend import Finding
from alignment_assets.inference.progress import Progress, listeners
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import Rows
from tests.conftest import Graph

ESCAPE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnp.exe"
MARKED = "[bold]loud[/bold] :warning: [link=http://x]here[/link] [/]"
MARKDOWN = "a|b `c` <b>d</b> &lt; [e](http://f.g) ![h](i) *j* _k_ **l** ~~m~~ \\| www.n.org $o$"
texts = st.text() | st.text(st.sampled_from("|\\`*_[]()<>!&#~:/@.$=+-'\"\x1b\x9b\r\n\t\x00 ab"))


def run(*arguments: str, typed: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=typed)


def refused(*arguments: str, typed: str | bytes | None = None) -> str:
    result = run(*arguments, typed=typed)
    assert isinstance(result.exception, Expected), (result.output, result.exception)
    return str(result.exception)


def rows_of(*values: Any) -> Rows:
    return Rows(["id", "text"], ["BIGINT", "VARCHAR"], [[n, v] for n, v in enumerate(values)])


def shown(rows: Rows, width: int, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, **options)
    show(rows, console)
    return console.file.getvalue().splitlines()


# -- what a query is -------------------------------------------------------------------------------


def test_sql_is_an_argument_or_standard_input(made: Graph) -> None:
    text = "SELECT count(*) AS pairs FROM dpo_pairs"
    ((pairs,),) = made.query(text)
    assert run("query", text, "--format", "csv").output == f"pairs\n{pairs}\n"
    assert run("query", "-", "--format", "csv", typed=text).output == f"pairs\n{pairs}\n"
    long = f"SELECT '{'x' * 10_000}' AS text"
    assert json.loads(run("query", long, "--format", "json").output) == [{"text": "x" * 10_000}]
    assert 'syntax error at or near "SELEC"' in refused("query", "SELEC 1")
    assert refused("query", "SELECT '\udcff'").startswith("the SQL is no UTF-8 text")
    no_text = "the value of the parameter {} is no UTF-8 text"
    assert refused("query", "SELECT $x", "--param", "x=\udcff") == no_text.format("x")
    assert refused("trace", "\udcff") == no_text.format("id")
    assert refused("query", "-", typed="") == "no statement in it: write a SELECT"
    assert refused("query", "-", typed=b"SELECT '\xff'").startswith("standard input: no UTF-8")
    assert "a query is a SELECT, this is DELETE" in refused("query", "DELETE FROM dpo_pairs")


def test_a_file_and_a_question_are_not_taken_for_sql(made: Graph) -> None:
    Path("my pairs").write_text("SELECT 7 AS seven")
    assert run("query", "my pairs", "--format", "csv").output == "seven\n7\n"


def test_no_question_lists_them_without_a_database(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "none"))
    listed = run("query", "--format", "json")
    about = {row["question"]: row["about"] for row in json.loads(listed.output)}
    assert sorted(about) == sorted(sql_files.sql_names("analysis"))
    assert about["losses"] == (
        "What was lost on the way from sources to training sets, and how much of it may be lost "
        "before a step refuses?"
    )
    assert all(text[-1] in ".?" for text in about.values())
    monkeypatch.setattr(terminal.console, "width", 80)
    lines = run("query").output.splitlines()
    assert max(map(len, lines)) <= 80 and "│" in lines[3]
    file = tmp_path / "questions.parquet"
    assert run("query", "-o", str(file)).exit_code == 0
    assert pq.read_table(file).num_rows == len(about)
    assert "lists the questions" in refused("query", "--param", "a=1")


def test_a_name_that_is_nearly_a_questions_is_suggested(made: Graph) -> None:
    asked = refused("query", "win_rate")
    assert asked == "no question 'win_rate'; did you mean win_rate_by_model?"
    assert "did you mean exclusions_by_rule?" in refused("query", "exclusions")
    assert "alone lists the questions" in refused("query", "zzzzzz")
    assert refused("query", "losses.sql") == "no file losses.sql"


# -- parameters ------------------------------------------------------------------------------------


def test_a_parameter_that_the_query_does_not_name_is_refused(made: Graph) -> None:
    wrong = refused("query", "pair_trace", "--param", "pair=1")
    assert "--param pair: the query has no such parameter" in wrong and "has licence_ex" in wrong
    assert "pair_id" in wrong
    assert "it has none" in refused("query", "SELECT 1", "--param", "seed=1")
    assert run("query", "SELECT $seed AS seed", "--param", "seed=1", "--format", "csv").output == (
        "seed\n1\n"
    )


def test_values_that_match_nothing_are_told(made: Graph) -> None:
    text = "SELECT pair_id FROM dpo_pairs WHERE policy = $policy AND track <> $track"
    given = ("--param", "policy=no\x1b[1mne", "--param", "track=x\ny")
    nothing = run("query", text, *given, "--format", "csv")
    assert nothing.exit_code == 0 and nothing.stdout == "pair_id\n"
    assert nothing.stderr == "no row matches policy=no\\x1b[1mne, track=x\\ny\n"
    ((policy,),) = made.query("SELECT min(policy) FROM dpo_pairs")
    assert run("query", text, "--param", f"policy={policy}", "--param", "track=x").stderr == ""
    assert run("query", "SELECT 1 WHERE false").stderr == ""


# -- formats ---------------------------------------------------------------------------------------


def test_the_suffix_of_the_file_is_the_format(made: Graph) -> None:
    text = "SELECT 1 AS one, 'x|y' AS two"
    for suffix in ("csv", "json", "parquet", "md"):
        assert run("query", text, "-o", f"rows.{suffix}").exit_code == 0
    assert Path("rows.csv").read_text() == "one,two\n1,x|y\n"
    assert json.loads(Path("rows.json").read_text()) == [{"one": 1, "two": "x|y"}]
    assert pq.read_table("rows.parquet").to_pylist() == [{"one": 1, "two": "x|y"}]
    assert Path("rows.md").read_text() == "| one | two |\n| ---: | --- |\n| 1 | x\\|y |\n"

    assert run("query", text, "-o", "rows.CSV", "--format", "json").exit_code == 0
    assert json.loads(Path("rows.CSV").read_text()) == [{"one": 1, "two": "x|y"}]
    assert run("query", text, "-o", "rows.txt", "--format", "table").exit_code == 0
    assert "│" in Path("rows.txt").read_text()

    for command in (["query", text], ["spool", "list"], ["forecast"]):
        wrong = refused(*command, "-o", "rows.xlsx")
        assert "rows.xlsx" in wrong and ".csv, .json, .parquet, .md" in wrong
    assert not Path("rows.xlsx").exists()
    assert "-o FILE" in refused("query", text, "--format", "parquet")
    assert "No such file" in refused("query", text, "-o", "none/rows.parquet")


def test_wide_rows_are_a_block_each_and_narrow_ones_a_table() -> None:
    names = [f"column_{number}" for number in range(12)]
    wide = Rows(names, ["BIGINT"] * 12, [range(12), range(100, 112)])
    lines = shown(wide, 80)
    assert max(map(len, lines)) <= 80
    assert [line.split("│")[0].strip() for line in lines[1:13]] == names
    assert lines[2].split("│")[1].strip() == "1" and len(lines) == 2 * 13
    assert shown(wide, 160)[0].startswith("┏")
    # Texts share the width that there is, as long as they can be read.
    assert shown(rows_of("word " * 20), 80)[0].startswith("┏")
    texts = Rows(["a", "b", "c"], ["VARCHAR"] * 3, [["word " * 50] * 3])
    assert not shown(texts, 80)[0].startswith("┏")
    assert shown(Rows(names, ["BIGINT"] * 12, []), 80)  # no rows: what the columns are


def test_cells_stand_close_before_a_name_is_cut() -> None:
    names = ["completion_requests", "controversy_agreement", "polyglot_toxicity_prompts"]
    rows = Rows(["a", "b", "c"], ["VARCHAR"] * 3, [names])
    for width in (76, 73, 69):
        assert all(name in "".join(shown(rows, width)) for name in names), width
    assert f"│{names[0]} │ {names[1]} │ {names[2]}│" in shown(rows, 73)
    assert f"│{'│'.join(names)}│" in shown(rows, 69)


def test_a_number_or_an_id_is_never_divided(made: Graph) -> None:
    ((pair,),) = made.query("SELECT min(pair_id) FROM dpo_pairs")
    text = (
        "SELECT min(pair_id) AS pair_id, 123456789012 AS n, repeat('word ', 60) AS t FROM dpo_pairs"
    )
    for width in (70, 80, 100, 160):
        terminal.console.width = width
        try:
            output = run("query", text).output
        finally:
            terminal.console.width = 160
        assert pair in output and "123,456,789,012" in output
        assert max(map(len, output.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 160])
def test_long_cells_are_cut_where_people_read_and_nowhere_else(width: int) -> None:
    long = Rows(["a", "b", "c"], ["VARCHAR"] * 3, [["x" * 5000, "y" * 5000, "z" * 5000]])
    text = "".join(shown(long, width))
    assert text.count("x") == 299 and text.count("…") == 3
    assert next(csv.DictReader(io.StringIO(as_csv(long))))["c"] == "z" * 5000


def test_safe_csv_has_no_formula(made: Graph) -> None:
    text = (
        "SELECT -1 AS n, '=1+1' AS a, '+1' AS b, '-1' AS c, '@x' AS d, chr(9) AS e, "
        "chr(13) AS f, 'x=1' AS g, '''=1' AS h, ['=1'] AS \"=i\""
    )
    plain = next(csv.reader(io.StringIO(as_csv(rows_of("=1")).splitlines()[1])))
    assert plain == ["0", "=1"]
    assert run("query", text, "--safe-csv", "-o", "safe.csv").exit_code == 0
    with Path("safe.csv").open(newline="") as file:
        names, cells = csv.reader(file)
    assert names == [*"nabcdefgh", "'=i"]
    assert cells == ["-1", "'=1+1", "'+1", "'-1", "'@x", "'\t", "'\r", "x=1", "'=1", '["=1"]']
    assert "--safe-csv is for CSV" in refused("query", text, "--safe-csv", "--format", "json")


# -- trace -----------------------------------------------------------------------------------------


def test_a_pair_is_traced_by_the_id_of_anything_in_it(made: Graph) -> None:
    columns = "pair_id, prompt_id, chosen_completion_id, rejected_completion_id, chosen_model"
    (*ids, model), *others = made.query(f"SELECT {columns} FROM dpo_pairs ORDER BY pair_id")
    first = run("trace")
    assert first.exit_code == 0, first.exception
    assert all(each in first.output for each in ids)
    assert re.search(r"^pair ─+$", first.output, re.MULTILINE)
    block = first.output.split("completion, chosen ─")[1].split("\n")
    assert [part.strip() for part in block[1].split("│")] == ["model", model]
    for each in ids:
        assert run("trace", each).output == first.output
    assert run("trace", others[-1][0]).output != first.output


def test_all_pairs_of_a_prompt_are_traced(made: Graph) -> None:
    with made.warehouse.get_connection() as connection:
        connection.execute(
            "INSERT INTO dpo_pairs BY NAME SELECT * REPLACE (uuid() AS pair_id, 1 AS pair_index) "
            "FROM dpo_pairs ORDER BY pair_id LIMIT 1"
        )
    pairs = made.query(
        "SELECT prompt_id, pair_id FROM dpo_pairs "
        "WHERE prompt_id = (SELECT prompt_id FROM dpo_pairs WHERE pair_index = 1)"
    )
    traced = run("trace", pairs[0][0]).output
    assert len(pairs) == 2 and all(pair in traced for _, pair in pairs)
    assert run("trace", pairs[0][1]).output in traced


def test_an_id_that_is_nowhere_is_said(made: Graph) -> None:
    nowhere = "00000000-0000-0000-0000-000000000000"
    assert refused("trace", nowhere).startswith(f"no pair has the id {nowhere}, ")
    assert "'moon' is no id" in refused("trace", "moon")
    assert "'' is no id" in refused("trace", "")
    with made.warehouse.get_connection() as connection:
        connection.execute("DELETE FROM dpo_pairs")
    assert "dpo_pairs has no rows" in refused("trace")


# -- texts stay texts ------------------------------------------------------------------------------


@given(texts)
@example(ESCAPE)
@example(MARKED)
def test_nothing_in_a_text_takes_effect_in_a_terminal(text: str) -> None:
    rows = Rows(["id", text, "texts"], ["BIGINT", "VARCHAR", "VARCHAR[]"], [[1, text, [text]]])
    for width in (8, 200):
        terminal = {"force_terminal": True, "color_system": None, "width": width}
        for form in ("table", "csv", "json", "markdown"):
            console = Console(file=io.StringIO(), **terminal)  # type: ignore[arg-type]
            write(rows, form, None, console)  # type: ignore[arg-type]
            written = console.file.getvalue()  # type: ignore[attr-defined]
            assert all(one == "\n" or one.isprintable() for one in written), (form, written)
            if form == "json":
                assert json.loads(written)[0]["texts"] == [text]


@given(texts)
@example(MARKDOWN)
def test_nothing_in_a_text_takes_effect_in_markdown(text: str) -> None:
    page = as_markdown(Rows([text], ["VARCHAR"], [[text], [text]]))
    assert page.count("\n") == 4
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(page)
    inlines = [token for token in tokens if token.type == "inline"]
    assert [token.type for token in tokens].count("td_open") == 2 and len(inlines) == 3
    for inline in inlines:
        found = ""
        for part in inline.children or ():
            ours = part.type == "html_inline" and part.content == "<br>"
            assert ours or part.type == "text", (page, part)
            found += "\n" if ours else part.content
        lines = re.split(r"\r\n|\r|\n", text)
        assert found == "\n".join(map(terminal.ascii_controls, lines)).strip(" ")


def test_addresses_in_markdown_are_no_links() -> None:
    page = as_markdown(rows_of(MARKDOWN))
    assert "http\\://f.g" in page and "www\\.n.org" in page and "\\$o\\$" in page


def test_files_and_pipes_have_texts_as_they_are(made: Graph) -> None:
    text = "SELECT chr(27) || '[31m' || chr(155) AS text"
    assert "\x1b[31m\x9b" in run("query", text, "--format", "csv").output
    assert run("query", text, "-o", "rows.json").exit_code == 0
    assert json.loads(Path("rows.json").read_text()) == [{"text": "\x1b[31m\x9b"}]


CALL = """
import sys
from alignment_assets.commands.app import main
sys.argv[0] = "alignment-assets"
main()
"""


@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown", "error"])
def test_a_terminal_gets_no_escape_sequence_of_a_model(made: Graph, form: str) -> None:
    text = "SELECT chr(27) || '[2J' || chr(155) || chr(7) || ' :smile: [bold]loud[/]' AS answer"
    if form == "error":
        text = f"SELECT error(answer) FROM ({text})"
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CALL,
            "query",
            text,
            *(() if form == "error" else ("--format", form)),
        ],
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    written = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(master)
    assert done.wait() == (form == "error")
    shown = written.decode().replace("\\[", "[").replace("\\]", "]")
    assert "[2J" in shown and ":smile: [bold]loud[/]" in shown
    assert "\x1b[2J" not in shown and "\x9b" not in shown and "\x07" not in shown


def test_example_pairs_and_findings_are_shown_as_text(
    made: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made.warehouse.get_connection() as connection:
        connection.execute(
            "UPDATE dpo_pairs SET chosen = [{'role': 'assistant', 'content': $text}]",
            {"text": f"{ESCAPE}\n{MARKED}"},
        )
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    print_summary(made.warehouse, made.run, console)
    summary = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b[31mred" in summary and MARKED in summary
    assert all(one == "\n" or one.isprintable() for one in summary)

    found = [Finding("[b]x[/b]", "warning", f"{ESCAPE} {MARKED}")]
    monkeypatch.setattr(doctor_command, "examine", lambda *_: found)
    doctor = run("doctor").output
    assert doctor.startswith("warning [b]x[/b]: \\x1b[31mred") and MARKED in doctor


def test_progress_names_the_model() -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with shown_progress(console, 3):
        progress = Progress("completions[smollm2-135m]", 10)
        progress.answering()
        listeners[-1](progress)
        (live,) = console._live_stack
        console.print(live.get_renderable())
    assert "completions[smollm2-135m]: 0/10 done" in console.file.getvalue()  # type: ignore[attr-defined]


def test_arrows_rows_are_shown_as_duckdbs_are() -> None:
    table = pa.table({"id": [0], "text": ["x"]})
    console = Console(file=io.StringIO(), width=80)
    show(table, console)
    assert console.file.getvalue().splitlines() == shown(rows_of("x"), 80)  # type: ignore[attr-defined]


def test_a_file_stays_until_the_new_one_is_whole(made: Graph, tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    run("query", "SELECT 1 AS a", "-o", str(file))
    before = file.read_bytes()
    refused("query", "SELECT INTERVAL 1 DAY AS b", "-o", str(file))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "x.parquet" in path.name] == ["x.parquet"]


def test_a_long_query_that_is_interrupted_is_no_fault_of_its_text(
    made: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        *(sys.executable, "-m", "alignment_assets.commands.app", "query"),
        "SELECT sum(hash(a.range) % 7) FROM range(9000000) AS a, range(9000) AS b",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as asking:
        try:
            time.sleep(4)
            for _ in range(20):  # one that comes while Python still imports may be lost
                asking.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    asking.wait(3)
                    break
            _, told = asking.communicate(timeout=3)
        finally:
            asking.kill()
    assert (told, asking.returncode) == ("ended by SIGINT\n", 130)
