"""The command and the README: what is printed works, and queries are closed in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from alignment_assets.assets import graph as graph_module
from alignment_assets.commands import materialize as materialize_module
from alignment_assets.commands.app import app
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.load import find_recipe
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from tests.conftest import REPOSITORY, Graph

IMPORT = """
import sys, time
start = time.process_time()
import alignment_assets.definitions
seconds = time.process_time() - start
engines = {"torch", "vllm", "ray", "transformers", "aiohttp", "uvloop", "orjson"}
scale = {"psycopg", "psycopg2", "dagster_postgres", "duckdb_extension_ducklake", "moto", "boto3"}
heavy = (engines | scale | {"datasets", "pandas"}) & set(sys.modules)
print(seconds, *sorted(heavy))
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def commands_of(document: Path) -> list[list[str]]:
    """Return the alignment-assets commands that a document prints, as words."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [
        shlex.split(line, comments=True) for line in lines if line.startswith("alignment-assets")
    ]


@pytest.mark.parametrize("document", ["README.md", "docs/using.md"])
def test_every_command_that_is_printed_exists_with_its_options(document: str) -> None:
    commands = commands_of(REPOSITORY / document)
    assert len(commands) >= 6
    for _, command, *arguments in commands:
        group = [command, arguments[0]] if command == "spool" else [command]
        shown = run(*group, "--help")
        assert shown.exit_code == 0, group
        for option in re.findall(r"(?<!\S)(--?[a-z]+)", " ".join(arguments)):
            assert option in shown.output, f"{command} {option}"
        if command == "query" and arguments:
            name = arguments[0]
            assert name in sql_files.sql_names("analysis") or name.startswith("SELECT ")


def test_every_make_target_of_the_readme_exists() -> None:
    targets = re.findall(
        r"^(?:\w+=\S+ )*make ([a-z-]+)", (REPOSITORY / "README.md").read_text(), re.MULTILINE
    )
    makefile = (REPOSITORY / "Makefile").read_text()
    assert {"demo", "test", "dev"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_a_query_comes_in_every_format(made: Graph, tmp_path: Path) -> None:
    expected = made.query("SELECT count(*) FROM completions WHERE model = 'smollm2-135m'")[0][0]
    name = "unanswered_requests"
    table = run("query", name)
    rows = json.loads(run("query", name, "--format", "json").output)
    text = run("query", name, "--format", "csv").output
    file = tmp_path / "rows.parquet"
    assert run("query", name, "--format", "parquet", "-o", str(file)).exit_code == 0

    assert table.exit_code == 0 and "smollm2-135m-policy" in table.output
    assert rows[0] == {
        "model": "smollm2-135m", "requested": expected, "completed": expected,
        "rewarded": expected, "prompts_not_asked": 0,
    }  # fmt: skip
    assert text.splitlines()[1] == f"smollm2-135m,{expected},{expected},{expected},0"
    assert pq.read_table(file).to_pylist() == rows


def test_ids_in_parquet_are_text(made: Graph, tmp_path: Path) -> None:
    question, file = tmp_path / "pairs.sql", tmp_path / "pairs.parquet"
    question.write_text("SELECT pair_id, chosen_completion_id FROM dpo_pairs ORDER BY 1 LIMIT 1")
    assert run("query", str(question), "--format", "parquet", "-o", str(file)).exit_code == 0
    (row,) = pq.read_table(file).to_pylist()
    assert [tuple(row.values())] == made.query(question.read_text())
    assert set(pq.read_schema(file).types) == {pa.string()}


def test_a_type_that_parquet_lacks_is_told_in_a_line(made: Graph, tmp_path: Path) -> None:
    file = tmp_path / "one.sql"
    file.write_text("SELECT INTERVAL 1 DAY AS wait")
    asked = ("query", str(file), "--format", "parquet", "-o", str(tmp_path / "one.parquet"))
    result = run(*asked)
    assert isinstance(result.exception, Expected) and "cast that column" in str(result.exception)


@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet"])
def test_a_file_that_cannot_be_written_is_told_in_a_line(
    made: Graph, tmp_path: Path, form: str
) -> None:
    for target, reason in {
        tmp_path / "none" / "rows": "No such file or directory",
        tmp_path: "Is a directory",
    }.items():
        failed = run("query", "prompts_by_track", "--format", form, "-o", str(target))
        assert isinstance(failed.exception, Expected)
        assert str(failed.exception).startswith(f"-o {target}: {reason}; name a file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "--recipe", "none"], "no recipe 'none'"),
        (["materialize", "--recipe", "none.yaml"], "no recipe 'none.yaml'"),
        (["materialize", "--select", "key:none"], "selects nothing"),
        (["materialize", "--partition", "none"], "no partition 'none'"),
        (["materialize"], "/dev/null is no folder"),
        (["dev"], "/dev/null is no folder"),
        (["tidy", "--apply"], "/dev/null is no folder"),
        (["forecast"], "/dev/null is no folder"),
        (["status"], "no database"),
        (["snapshot"], "no database"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", "/dev/null/home")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    failed = run(*words)
    assert isinstance(failed.exception, Expected)
    assert said in str(failed.exception) and "\n" not in str(failed.exception)


def test_a_parameter_leads_to_one_pair(made: Graph) -> None:
    ((pair, prompt),) = made.query("SELECT pair_id, prompt_id FROM dpo_pairs ORDER BY 1 LIMIT 1")
    assert (
        prompt in run("query", "pair_trace", "--param", f"pair_id={pair}", "--format", "csv").output
    )
    missing = run("query", "pair_trace")
    assert isinstance(missing.exception, Expected)
    assert "$pair_id" in str(missing.exception) and "--param" in str(missing.exception)
    for text in ("moon", "f" * 64):
        wrong = run("query", "pair_trace", "--param", f"pair_id={text}")
        assert isinstance(wrong.exception, Expected)
        assert f"'{text}' is no id" in str(wrong.exception) and "\n" not in str(wrong.exception)
    wrong = run("query", "pair_trace", "--param", "pair_id=12")
    assert "is no id" in str(wrong.exception)


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM completions",
        "DROP TABLE completions",
        "SELECT * FROM read_csv('/etc/hostname')",
        "COPY (SELECT 1) TO 'out.csv'",
        "ATTACH 'other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "SELECT * FROM nothing",
        "EXPLAIN ANALYZE SELECT 1",
        "explain -- a comment\n (format json, analyze) SELECT 1",
        "EXPLAIN COPY (SELECT 1) TO 'out.csv'; COPY (SELECT 1) TO 'out.csv'",
        "COPY (SELECT from_hex('00')) TO '{database}.wal' (FORMAT blob)",
        "COPY (SELECT 1) TO '{database}'",
        "EXPORT DATABASE 'out.csv'",
        "LOAD httpfs",
        "CREATE SECRET (TYPE s3)",
        "CREATE TEMP MACRO content_hash(parts) AS 1",
        "CREATE TEMP TABLE mine AS SELECT 1",
        "PREPARE mine AS SELECT 1",
        "CALL enable_logging()",
        "SELECT * FROM read_text('{database}')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''out.csv'' ')",
        "PIVOT completions ON variant USING count(*)",
    ],
)
def test_a_query_reads_this_database_and_nothing_else(made: Graph, text: str) -> None:
    before = made.query("SELECT count(*) FROM completions")
    Path("mine.sql").write_text(text.replace("{database}", str(made.warehouse.path)))
    refused = run("query", "mine.sql")
    assert isinstance(refused.exception, Expected), refused.output
    assert not made.warehouse.path.with_name(f"{made.warehouse.path.name}.wal").exists()
    assert made.query("SELECT count(*) FROM completions") == before
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    "text",
    [
        "FROM completions LIMIT 1",
        "VALUES (1)",
        "DESCRIBE completions",
        "SUMMARIZE completions",
        "SHOW TABLES",
        "EXPLAIN SELECT 'analyze'",
        "PIVOT completions ON variant IN ('default') USING count(*)",
    ],
)
def test_all_that_only_reads_is_a_query(made: Graph, text: str) -> None:
    Path("mine.sql").write_text(text)
    shown = run("query", "mine.sql", "--format", "json")
    assert shown.exit_code == 0 and json.loads(shown.output)


def test_what_is_no_query_is_told_in_a_line(made: Graph) -> None:
    Path("mine.sql").write_text("PIVOT completions ON variant USING count(*)")
    assert "IN (value" in str(run("query", "mine.sql").exception)
    Path("mine.sql").write_text("DELETE FROM completions")
    assert "a query is a SELECT, this is DELETE" in str(run("query", "mine.sql").exception)
    Path("mine.sql").write_bytes(b"SELECT '\xff'")
    assert "mine.sql: no file of UTF-8 text" in str(run("query", "mine.sql").exception)
    bad = run("query", "exclusions_by_rule", "--param", "values=[1,]")
    assert "--param values: [1,] is no JSON" in str(bad.exception)


def test_a_snapshot_answers_while_the_database_goes_on(made: Graph, tmp_path: Path) -> None:
    Path("count.sql").write_text("SELECT count(*) AS rows FROM completions")
    question = ("query", "count.sql", "--format", "csv")
    missing = run(*question, "--snapshot")
    assert "alignment-assets snapshot" in str(missing.exception)
    before = run(*question).output
    shown = run("snapshot")
    assert shown.exit_code == 0 and Path(shown.output.strip()).is_file()
    with made.warehouse.get_connection() as connection:
        connection.execute("DELETE FROM completions")
        assert run(*question, "--snapshot").output == before  # nobody waits for the writer
    assert run(*question).output == "rows\n0\n"
    assert run("snapshot", "-o", str(tmp_path / "mine.duckdb")).exit_code == 0
    assert run("snapshot", "--table", "rewards", "-o", str(tmp_path / "tables")).exit_code == 0
    assert pq.read_table(tmp_path / "tables" / "rewards.parquet").num_rows > 0
    assert "is there already" in str(
        run("snapshot", "--table", "rewards", "-o", str(tmp_path / "tables")).exception
    )


def test_another_recipe_does_not_use_the_database(made: Graph) -> None:
    assert run("status").exit_code == 0
    recipe = (REPOSITORY / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    mine = made.home.parent / "mine.yaml"
    mine.write_text(recipe.replace("name: demo", "name: mine", 1))
    refused = run("query", "exclusions_by_rule", "--recipe", str(mine))
    assert "of the recipe demo, not of mine" in str(refused.exception)


def test_an_unknown_question_lists_the_known(made: Graph) -> None:
    failed = run("query", "win_rates")
    assert "win_rate_by_model" in str(failed.exception)


def test_without_a_database_the_next_step_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "none"))
    failed = run("query", "exclusions_by_rule")
    assert "alignment-assets materialize" in str(failed.exception)
    assert not (tmp_path / "none").exists()


def test_status_shows_what_is_missing(made: Graph) -> None:
    made.warehouse.prepare()
    with made.warehouse.get_connection() as connection:
        connection.execute(
            "DELETE FROM completions "
            "WHERE completion_id = (SELECT min(completion_id) FROM completions)"
        )
    shown = run("status")
    assert shown.exit_code == 0
    lines = [
        line for line in shown.output.splitlines() if "│completions" in line.replace("│ ", "│")
    ]
    assert sum(" 1 │" in line for line in lines) == 1


@pytest.mark.slow
def test_pairs_of_nothing_are_refused_in_a_line(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    refused = run("materialize", "--select", "key:dpo_pairs")
    assert isinstance(refused.exception, Expected)
    assert "dpo_pairs[smollm2-135m-policy]: nothing was made" in str(refused.exception)
    assert "has not been made" in str(refused.exception)


def test_doctor_says_what_is_lacking(made: Graph, monkeypatch: Any) -> None:
    shown = run("doctor", "--recipe", "demo")
    assert "vLLM" in shown.output and "free to read" in shown.output
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("ALIGNMENT_HOME", str(made.home.parent / "apertus"))
    monkeypatch.delenv("APERTUS_8B_SFT", raising=False)
    lacking = run("doctor", "--recipe", "apertus")
    assert lacking.exit_code == 1
    assert "APERTUS_8B_SFT is not set" in lacking.output


def test_an_unknown_partition_or_asset_is_named(made: Graph) -> None:
    partition = run("materialize", "--select", "key:completions", "--partition", "gpt-5")
    assert "smollm2-135m-cool" in str(partition.exception)
    asset = run("materialize", "--select", "key:complétions")
    assert "completions" in str(asset.exception)


CALL = """
import sys
from alignment_assets.commands.app import main
sys.argv[0] = "alignment-assets"
try:
    main()
finally:
    heavy = {"dagster", "pandas", "pyarrow", "datasets", "torch"} & set(sys.modules)
    print("loaded:", *sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["status", "--help"], ["query", "prompts_by_track"], ["trace"]],
    ids=" ".join,
)
def test_who_asks_waits_for_no_library_that_answers_nothing(made: Graph, words: list[str]) -> None:
    run("query", "prompts_by_track")  # the first use by a recipe enters its name
    done = subprocess.run([sys.executable, "-c", CALL, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr.split("loaded:")[1].strip() == ""


def test_numbers_in_a_table_stand_flush_right(made: Graph) -> None:
    query = made.home / "kinds.sql"
    query.write_text(
        "SELECT 7::UTINYINT AS wide_name, 'x' AS other_name, INTERVAL 1 DAY AS lasting"
    )
    row = run("query", str(query)).stdout.splitlines()[3]
    assert re.search(r"        7\D+x  ", row), row


def test_maps_come_as_json_whatever_their_keys(made: Graph) -> None:
    query = made.home / "map.sql"
    key = "00000000-0000-0000-0000-000000000001"
    query.write_text(f"SELECT MAP {{'{key}'::UUID: [1, 2]}} AS found, {2**100}::HUGEINT AS large")
    found = run("query", str(query), "--format", "json").stdout
    assert json.loads(found) == [{"found": {key: [1, 2]}, "large": 2**100}]


@pytest.mark.parametrize("command", ["status", "doctor", "forecast", "trace"])
def test_what_a_command_shows_is_of_one_moment(
    made: Graph, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    run("query", "prompts_by_track")  # the first use by a recipe enters its name
    opened: list[str] = []
    connect = Database.connect

    def counting(self: Database, database: str, **options: Any) -> Any:
        if database == str(made.home / "alignment.duckdb") and options.get("read_only"):
            opened.append(database)
        return connect(self, database, **options)

    monkeypatch.setattr(Database, "connect", counting)
    monkeypatch.setattr(graph_module, "InferenceByModel", lambda: made.inference)
    run(command)
    assert len(opened) == 1


@pytest.mark.slow
def test_definitions_load_light_and_fast() -> None:
    # Seconds of this process alone, and the fewest of three: the machine may be busy.
    lines = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", IMPORT],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(3)
    ]
    assert [line[1:] for line in lines] == [[], [], []]
    assert min(float(line[0]) for line in lines) < 2.5


@pytest.mark.integration
def test_dagster_accepts_the_definitions() -> None:
    command = Path(sys.executable).parent / "dg"
    checked = subprocess.run(
        [command, "check", "defs"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_plan_tells_what_would_be_asked_and_starts_nothing(
    materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = materialized('not (key:"completions"+)')
    graph.materialize("key:completions", "smollm2-135m")
    monkeypatch.setenv("ALIGNMENT_HOME", str(graph.home))
    default = graph_module.default_resources
    resources = {"inference": graph.inference}
    monkeypatch.setattr(
        materialize_module, "default_resources", lambda run: {**default(run), **resources}
    )
    (asked,) = graph.query(
        "SELECT count(*) FROM completion_requests WHERE model = 'smollm2-135m-cool'"
    )[0]
    before = len(graph.asked())
    told = run("materialize", "--plan", "--select", "key:completions or key:rewards")
    assert told.exit_code == 0, told.output
    lines = [line for line in told.output.splitlines() if "completions" in line and "│" in line]
    assert [line for line in lines if "smollm2-135m-cool" in line and f"{asked}" in line]
    assert "Nothing was started." in told.output
    assert len(graph.asked()) == before
    assert graph.query("SELECT count(*) FROM completions WHERE model = 'smollm2-135m-cool'") == [
        (0,)
    ]
    refused = run("materialize", "--plan", "--partition", "nobody")
    assert isinstance(refused.exception, Expected)
    assert "smollm2-135m-cool" in str(refused.exception)


def test_status_comes_as_json_and_help_by_its_letter(
    materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    graph = materialized("key:personas")
    monkeypatch.setenv("ALIGNMENT_HOME", str(graph.home))
    rows = json.loads(run("status", "--format", "json").output)
    (personas,) = (row for row in rows if row["table"] == "personas")
    assert personas["rows"] == graph.query("SELECT count(*) FROM personas")[0][0]
    assert run("status", "-o", str(tmp_path / "status.csv")).exit_code == 0
    assert (tmp_path / "status.csv").read_text().startswith("table,partition,rows,")
    assert run("status", "-h").output == run("status", "--help").output


def test_a_check_that_warns_does_not_fail_the_command(made: Graph, tmp_path: Path) -> None:
    path = find_recipe("demo")
    text = path.read_text(encoding="utf-8").replace(
        "threshold: 2", "threshold: 2\n  min_accuracy: 1.0"
    )
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("dataset: demo/", f"dataset: {path.parent}/demo/"))
    result = run("materialize", "--recipe", str(mine), "--select", "key:controversy_agreement")
    assert result.exit_code == 0, result.output
    assert "warning: checks warn: controversy_agreement: agreement_accuracy_bounds_check" in (
        result.output
    )


def test_what_is_proposed_names_the_recipe_and_limit_as_they_were_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path / "home"))
    missing = run("status", "--recipe", "demo", "--limit", "3")
    assert "`alignment-assets materialize --recipe demo --limit 3`" in str(missing.exception)
    assert not (tmp_path / "home").exists()  # a limit that is mistyped leaves nothing behind
    assert "ALIGNMENT_RECIPE" not in os.environ


def test_a_database_is_not_written_over(made: Graph) -> None:
    result = run("query", "SELECT 1 AS one", "--format", "csv", "-o", str(made.warehouse.path))
    assert "is a database, which would be lost" in str(result.exception)
    assert made.query("SELECT count(*) > 0 FROM rewards") == [(True,)]
