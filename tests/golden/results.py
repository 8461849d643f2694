"""The fixed database in a warehouse, by the product's own SQL, and what each file gives on it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from alignment_assets.assets.graders import compare_with_people, trials_query
from alignment_assets.assets.selection_report import draw_each
from alignment_assets.assets.training_sets import draw_pairs
from alignment_assets.inference.types import ANSWER_SCHEMA
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.comparison import Side, compare
from alignment_assets.warehouse.resource import Staging, Warehouse
from tests.golden.database import FOLDER, GOLDEN, Row, completion_parts
from tests.golden.names import IDS, NAMES, readable
from tests.support.tables import fill

SOURCES = (
    *("recipes", "source_prompts", "origin_consent", "personas", "human_labels", "wordings"),
    *("inference_runs", "inference_forecasts"),
)
UNPARTITIONED = (
    *("prompt_exclusions", "licensed_prompts", "controversy_labels", "controversy_agreement"),
    "alignment_prompts",
)
AGREEMENTS = ("controversy_agreement", "grader_agreement")
OF_MODELS = ("completion_requests", "completions", "rewards")
# Nothing is drawn for them here: tests/unit/test_calibration.py has their figures.
OF_SCORERS = ("degraded_answers", "calibration_answers", "judge_calibration")
TRACKS = ("standard", "controversial")
OF_POLICIES = (
    *("judge_comparisons", "judge_rankings", "policy_tokens", "quantile_rewards"),
    *("selected_pairs", "dpo_pairs", "qrpo_samples", "reference_logprobs", "selection_exclusions"),
    "selection_report",
)
OF_ONE_DATABASE = ("assets", "requests", "losses", "selection", "exports", "analysis")
KINDS = (*OF_ONE_DATABASE, "compare/answers")
# What a strategy drew, with what it goes by.
DRAWN = """
SELECT
    policy, prompt_id, pair_index, chosen, chosen_quantile, rejected, rejected_quantile
FROM taken
JOIN (
    SELECT policy, prompt_id, completion_id AS chosen, quantile AS chosen_quantile
    FROM quantile_rewards
) USING (chosen)
JOIN (
    SELECT policy, prompt_id, completion_id AS rejected, quantile AS rejected_quantile
    FROM quantile_rewards
) USING (rejected, prompt_id, policy)
WHERE policy = $policy
"""
TRACED = "pair(policy; war; 0)"
# What sets the database that `compare` takes for B apart from the filled one.
LATER = (
    # moon: beta's answer is chosen in place of alpha's.
    f"""
    UPDATE dpo_pairs SET
        chosen_completion_id = '{IDS["moon/beta/default/0"]}', chosen_model = 'beta',
        chosen = [{{'role': 'assistant', 'content': 'One light-second.'}}], chosen_tokens = 4
    WHERE prompt_id = '{IDS["moon"]}'
    """,
    # war: the same two, with another reward.
    f"UPDATE dpo_pairs SET chosen_reward = chosen_reward + 1 WHERE prompt_id = '{IDS['war']}'",
    # tea has a pair, which it had too few references for; sum fell to a licence.
    f"""
    INSERT INTO dpo_pairs BY NAME
    SELECT
        * REPLACE (
            '{IDS["pair(policy; tea; 0)"]}'::UUID AS pair_id, '{IDS["tea"]}'::UUID AS prompt_id,
            'alpha' AS chosen_model)
    FROM dpo_pairs
    WHERE prompt_id = '{IDS["sum"]}'
    """,
    f"DELETE FROM dpo_pairs WHERE prompt_id = '{IDS['sum']}'",
    f"DELETE FROM alignment_prompts WHERE prompt_id = '{IDS['sum']}'",
    f"DELETE FROM licensed_prompts WHERE prompt_id = '{IDS['sum']}'",
    f"""
    INSERT INTO prompt_exclusions
    VALUES ('preference_mix', 1, '{IDS["sum"]}', 'facts', 'facts_2', 'licence', 'source facts')
    """,
)


def build(warehouse: Warehouse) -> None:
    """Fill every table: the sources as written, then each asset by its SELECT, in their order."""
    for table in SOURCES:
        fill(warehouse, table, GOLDEN[table])
    for table, partition in steps():
        _build(warehouse, table, partition)


def steps() -> Iterator[tuple[str, Row]]:
    """Yield each asset of sql/assets with each of its partitions, in an order that works."""
    yield from ((table, {}) for table in UNPARTITIONED)
    candidates = GOLDEN["settings"]["controversy_candidates"]
    yield from (("grader_trials", {"candidate": name}) for name in candidates)
    yield "grader_agreement", {}
    yield from ((table, {"model": model}) for table in OF_MODELS for model in GOLDEN.models)
    yield from ((table, {"scorer": track}) for table in OF_SCORERS for track in TRACKS)
    yield from ((table, {"policy": policy}) for table in OF_POLICIES for policy in GOLDEN.policies)


def results(warehouse: Warehouse, kind: str) -> dict[str, str]:
    """Return what each file of a kind gives on the filled warehouse, as an expected file says it.

    Tables and requests have no order of their own, so their rows are sorted by what is shown.
    """
    given = {
        **GOLDEN["settings"],
        "pair_id": IDS[TRACED],
        "pending": json.dumps(GOLDEN["pending"]),
        **{"labels": 3, "stratum": "source"},
        "policy": GOLDEN.policies[0],
    }
    if kind == "selection":
        return {name: _drawn(warehouse, name) for name in sql_files.sql_names(kind)}
    if kind == "compare/answers":
        return _compared(warehouse)
    if kind == "assets":
        asked = {name: [(f"FROM {name}", {})] for name in sql_files.sql_names(kind)}
    elif kind == "requests":
        asked = {name: [] for name in sql_files.sql_names(kind)}
        for table, partition in steps():
            for name, values in questions(table, partition):
                asked[name].append((sql_files.read_sql(kind, name), values))
        # A lab may have scorers of its own, which nobody asks here.
        asked = {name: queries for name, queries in asked.items() if queries}
    else:
        asked = {
            name: [(sql_files.read_sql(kind, name), given)] for name in sql_files.sql_names(kind)
        }
    with warehouse.read() as connection:
        found = {
            name: pa.concat_tables(
                connection.execute(
                    query, sql_files.named_parameters(query, values)
                ).to_arrow_table()
                for query, values in queries
            )
            for name, queries in asked.items()
        }
    return {name: _text(rows, ordered=kind == "analysis") for name, rows in found.items()}


def _compared(warehouse: Warehouse) -> dict[str, str]:
    """Return how the filled database differs from one that came `LATER`."""
    later = warehouse.snapshot()
    with duckdb.connect(str(later)) as connection:
        for change in LATER:
            connection.execute(change)
    sides = Side("before", warehouse.path), Side("later", later)
    found = compare(warehouse, *sides, sql_files.sql_names("compare/answers"))
    return {name: _lines(rows.columns, rows.records, ordered=True) for name, rows in found.items()}


def _drawn(warehouse: Warehouse, strategy: str) -> str:
    """Return the pairs that a strategy draws, two a prompt where it finds so many."""
    rules = {"selection_strategy": strategy, "selection_pairs_per_prompt": 2}
    tables = []
    with warehouse.read() as connection:
        for policy in GOLDEN.policies:
            draw_pairs(connection, {**GOLDEN["settings"], **rules, "policy": policy})
            tables.append(connection.execute(DRAWN, {"policy": policy}).to_arrow_table())
    return _text(pa.concat_tables(tables), ordered=False)


def broken_rules(warehouse: Warehouse) -> list[str]:
    """Return the rules of sql/checks that find an offence in the filled warehouse."""
    with warehouse.read() as connection:
        return [
            rule
            for rule in sql_files.sql_names("checks")
            for query in [sql_files.read_sql("checks", rule)]
            if connection.execute(
                query, sql_files.named_parameters(query, GOLDEN["settings"])
            ).fetchall()
        ]


def columns() -> str:
    """Return every column of sql/schema with its type, as DuckDB understands the files."""
    rows = [
        {"table": table.name, "column": c.name, "type": c.type, "nullable": c.nullable}
        for table in sql_files.tables().values()
        for c in table.columns
    ]
    return _text(pa.Table.from_pylist(rows), ordered=True)


def expected(kind: str) -> dict[str, str]:
    """Return the texts of the expected files of a kind."""
    folder = FOLDER / "expected" / kind
    return {
        str(path.relative_to(folder).with_suffix("")): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.csv"))
    }


def _text(rows: pa.Table, *, ordered: bool) -> str:
    return _lines(rows.column_names, rows.to_pylist(), ordered=ordered)


def _lines(columns: Sequence[str], rows: Iterable[Row], *, ordered: bool) -> str:
    shown = [[readable(value) for value in row.values()] for row in rows]
    if not ordered:
        shown.sort(key=lambda row: [cell.zfill(9) if cell.isdigit() else cell for cell in row])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *shown])
    return text.getvalue()


def asset_parameters(partition: Row) -> Row:
    """Return what the SELECT of an asset's partition may name."""
    variants = GOLDEN["variants"].get(partition.get("model"), [None, None])
    return {
        **GOLDEN["settings"],
        **partition,
        "standard_variants": variants[0],
        "controversial_variants": variants[1],
        "model_fingerprint": f"{partition.get('model')}@commit",
        "sampling": "answer sampling",
        "tokenizer_fingerprint": "tokenizer",
    }


def questions(table: str, partition: Row) -> list[tuple[str, Row]]:
    """Return each file of sql/requests that an asset's partition asks, with its parameters."""
    given = {
        **GOLDEN["settings"],
        **partition,
        "judge_fingerprint": "judge@commit",
        "model_fingerprint": f"{partition.get('policy')}@commit",
        "thinking": None,
    }
    if table in ("controversy_labels", "grader_trials"):
        wording = partition.get("candidate", "judge.controversy").rpartition(".")[2]
        fixed = {"model_fingerprint": "judge@commit", "sampling": "grade sampling"}
        said = GOLDEN.said_by(wording) if partition else GOLDEN["grades"]
        again = [IDS[prompt] for prompt, attempts in said.items() if len(attempts) > 1]
        fixed |= {"controversy_wording": wording, **partition}
        return [
            (
                f"{table}/grade",
                {**fixed, "answer_schema": "grade schema", "attempt": n, "only_prompts": only},
            )
            for n, only in enumerate((None, again))
        ]
    if table in OF_SCORERS:
        given |= {"scorer_fingerprint": "judge@commit", "sampling": "answer sampling"}
    if table == "rewards":
        judge = {"rubric": "judge_charter_system", "scorer_fingerprint": "judge@commit"}
        return [
            (
                "rewards/classify",
                {**given, "track": "standard", "scorer_fingerprint": "scorer@commit"},
            ),
            ("rewards/rate", {**given, "track": "controversial", **judge}),
        ]
    files = [name for name in sql_files.sql_names("requests") if name.startswith(f"{table}/")]
    return [(name, given) for name in files]


def _build(warehouse: Warehouse, table: str, partition: Row) -> None:
    parameters = asset_parameters(partition)
    with warehouse.stage(table, partition) as staging:
        asked = [
            staging.connection.execute(
                f"SELECT *, $task AS task, $asked_model AS model_fingerprint FROM ({text}\n)",
                {
                    **sql_files.named_parameters(text, values),
                    "task": name.rsplit("/", 1)[-1],
                    "asked_model": values.get("scorer_fingerprint", values["model_fingerprint"]),
                },
            ).to_arrow_table()
            for name, values in questions(table, partition)
            for text in [sql_files.read_sql("requests", name)]
        ]
        if asked:
            requests = pa.concat_tables(asked)
            answers = pa.Table.from_pylist(
                [_answer(request) for request in requests.to_pylist()], schema=ANSWER_SCHEMA
            )
            for name, rows in (("requests", requests), ("answers", answers)):
                staging.connection.register("given", rows)
                staging.connection.execute(f"CREATE TEMP TABLE {name} AS FROM given")
                staging.connection.unregister("given")
        if table in AGREEMENTS:
            compare_with_people(staging.connection, table, parameters)
        if table == "policy_tokens":
            _count_tokens(staging)
        if table == "selected_pairs":
            draw_pairs(staging.connection, parameters)
        if table == "selection_report":
            draws = [(name, parameters["seed"]) for name in sql_files.sql_names("selection")]
            other = (parameters["selection_strategy"], parameters["seed"] + 1)
            before = f"{staging.reads}.main.{table}"
            draw_each(staging.connection, [*draws, other], before, parameters)
        query = trials_query() if table == "grader_trials" else sql_files.read_sql("assets", table)
        staging.insert(query, parameters)
        staging.publish(parameters)


def _count_tokens(staging: Staging) -> None:
    """Make the table of counts, as a tokenizer would have counted."""
    counts = {
        IDS[f"row({completion_parts(name)[0]}; {said['text']})"]: GOLDEN.policy_tokens(name)
        for name, said in GOLDEN["completions"].items()
        if said.get("text") is not None
    }
    rows = [
        {
            "content_id": content_id,
            "prompt_tokens": counted and counted[0],
            "completion_tokens": counted and counted[1],
            "missing_reason": None if counted else "the template refuses it",
        }
        for content_id, counted in counts.items()
    ]
    staging.connection.register("given", pa.Table.from_pylist(rows))
    staging.connection.execute(
        "CREATE TEMP TABLE counted AS SELECT * REPLACE (content_id::UUID AS content_id) FROM given"
    )
    staging.connection.unregister("given")


def _answer(request: Row) -> Row:
    """Return what an engine answers to a request, as the spool keeps it."""
    said = {
        "grade": _grade,
        "generate": _completion,
        "classify": _score,
        "rate": _score,
        "compare": _comparison,
        "loglikelihood": _loglikelihood,
    }[request["task"]](request)
    return {
        "request_id": request["request_id"],
        "task": request["task"],
        "finish_reason": "failed" if "error" in said else "stop",
        "cached_tokens": 0,
        "engine": "engine",
        "engine_version": "1",
        "engine_settings": "engine settings",
        "seconds": 1.0,
        "answered_at": datetime(2025, 9, 2),
        **said,
    }


def _grade(request: Row) -> Row:
    wording = re.match(r"grade\((?:(\w+); )?", NAMES[request["request_id"]])
    said = GOLDEN.said_by((wording and wording[1]) or "controversy")
    return {"text": said[NAMES[request["prompt_id"]]][request["attempt"]]}


def _completion(request: Row) -> Row:
    said = GOLDEN["completions"][NAMES[request["completion_id"]]]
    given, made = said.get("tokens", (None, None))
    return {
        **{key: said[key] for key in ("text", "finish_reason", "error") if key in said},
        "prompt_tokens": given,
        "completion_tokens": made,
    }


def _score(request: Row) -> Row:
    score = GOLDEN["completions"][NAMES[request["completion_id"]]].get("score")
    if score is None:
        return {"error": "the scorer failed"}
    return (
        {"value": score}
        if request["task"] == "classify"
        else _labels({label: math.log(probability) for label, probability in score.items()})
    )


def _loglikelihood(request: Row) -> Row:
    said = GOLDEN["completions"][NAMES[request["completion_id"]]]
    if "logprob" not in said:
        return {"error": "the policy failed"}
    given, made = GOLDEN.policy_tokens(NAMES[request["completion_id"]]) or (None, None)
    return {"value": said["logprob"], "prompt_tokens": given, "completion_tokens": made}


def _comparison(request: Row) -> Row:
    pair = [NAMES[request[f"{place}_completion_id"]] for place in ("first", "second")]
    (said,) = (row for row in GOLDEN["comparisons"] if [row["first"], row["second"]] == pair)
    return _labels({label: said[label] for label in "AB" if label in said})


def _labels(logprobs: dict[Any, float]) -> Row:
    return {
        "label_logprobs": [{"label": str(key), "logprob": value} for key, value in logprobs.items()]
    }
