"""The same rows whatever the number of threads and the order of the input.

On enough rows that DuckDB shares them out: a quarter of a million candidates, with ties.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from alignment_assets.assets.selection_report import draw_each, reported_draws
from alignment_assets.assets.training_sets import draw_pairs
from alignment_assets.recipe import wordings
from alignment_assets.warehouse import sql_files
from tests.conftest import changed_recipe

pytestmark = pytest.mark.slow

PROMPTS = 12_000
RECIPE = changed_recipe(name="apertus")
POLICY = RECIPE.completions.policies[0]
DERIVED = (
    "judge_rankings",
    "quantile_rewards",
    "selected_pairs",
    "dpo_pairs",
    "qrpo_samples",
    "selection_exclusions",
    "selection_report",
)

SOURCES = """
INSERT INTO alignment_prompts BY NAME
SELECT
    sha256(range::VARCHAR) AS prompt_hash,
    as_id(prompt_hash) AS prompt_id,
    CASE WHEN range % 6 = 0 THEN 'controversial' ELSE 'standard' END AS track,
    [{'role': 'user', 'content': 'question ' || range}] AS messages,
    sha256('messages' || range) AS messages_hash,
    'preference_mix' AS dataset,
    ['preference_mix'] AS datasets
FROM range($prompts);
INSERT INTO personas BY NAME
SELECT
    range AS row_number, sha256('persona' || range) AS persona_hash,
    as_id(persona_hash) AS persona_id, 'persona ' || range AS persona
FROM range(5000);
"""
# What engines would have said, with many equal texts and rewards.
COMPLETIONS = """
INSERT INTO completions BY NAME
SELECT
    completion_id, request_id, prompt_id, model, variant, sample_index,
    'text ' || hash(completion_id) % 40 AS text,
    normal_hash('text ' || hash(completion_id) % 40) AS normal_hash,
    CASE WHEN hash(completion_id) % 50 = 0 THEN 'length' ELSE 'stop' END AS finish_reason,
    10 AS prompt_tokens, 20 AS completion_tokens, 'engine' AS engine, '1' AS engine_version,
    '{}' AS engine_settings, model_fingerprint, TIMESTAMP '2026-01-01' AS answered_at
FROM completion_requests
"""
TOKENS = """
INSERT INTO policy_tokens BY NAME
SELECT
    $policy AS policy, prompt_id, completion_id, completion_id AS content_id,
    10 AS prompt_tokens, 20 AS completion_tokens, 'tokenizer' AS tokenizer_fingerprint
FROM completions
"""
REWARDS = """
INSERT INTO rewards BY NAME
SELECT
    completion_id, prompt_id, track, completions.model,
    completions.variant, completions.sample_index, 'scorer' AS scorer, 'rate' AS task,
    CASE WHEN hash(prompt_id) % 30 = 0 THEN 5.0  -- all alike: no pair
        ELSE (hash('reward' || completion_id) % 8)::DOUBLE END AS reward
FROM completions
JOIN completion_requests USING (completion_id, prompt_id)
"""
COMPARISONS = """
INSERT INTO judge_comparisons BY NAME
WITH best AS (
    SELECT prompt_id, completion_id, row_number() OVER (
        PARTITION BY prompt_id
        ORDER BY reward DESC, sample_key(
            $seed, 'ranking', completion_hash(prompt_hash, model, variant, sample_index))) AS place
    FROM rewards
    JOIN (SELECT prompt_id, prompt_hash FROM alignment_prompts) USING (prompt_id)
    WHERE track = 'controversial'
)
SELECT
    $policy AS policy, prompt_id, a.completion_id AS first_completion_id,
    b.completion_id AS second_completion_id,
    as_id(sha256(a.completion_id || b.completion_id)) AS request_id,
    -(1 + hash(a.completion_id || b.completion_id) % 5) / 3 AS first_logprob,
    -(1 + hash(b.completion_id || a.completion_id) % 5) / 3 AS second_logprob,
    'judge' AS judge
FROM best AS a
JOIN best AS b USING (prompt_id)
WHERE a.place <= 5 AND b.place <= 5 AND a.completion_id <> b.completion_id
"""


def build(threads: int, shuffled: int | None = None) -> dict[str, tuple[int, int]]:
    """Make all tables from requests on; return each one's rows and what their hashes add to.

    Args:
        threads: DuckDB's.
        shuffled: tables that others are made from are put in an order drawn by it.
    """
    settings = {**RECIPE.settings(), "policy": POLICY}
    with duckdb.connect(
        config={"threads": threads, "preserve_insertion_order": "false"}
    ) as connection:
        connection.execute(sql_files.macros())
        for table in sql_files.tables().values():
            connection.execute(table.ddl)
        sources, personas = SOURCES.split(";\n")[:2]
        connection.execute(sources, {"prompts": PROMPTS})
        connection.execute(personas)
        for wording in wordings.read_wordings(RECIPE):
            names = ", ".join(f"${name} AS {name}" for name in wording)
            connection.execute(f"INSERT INTO wordings BY NAME SELECT {names}", wording)

        def insert(table: str, query: str, **parameters: object) -> None:
            connection.execute(
                f"INSERT INTO {table} BY NAME ({query}\n)",
                sql_files.named_parameters(query, {**settings, **parameters}),
            )

        def shuffle(table: str) -> None:
            if shuffled is not None:
                connection.execute(
                    f"CREATE OR REPLACE TABLE {table} AS "
                    f"FROM {table} ORDER BY hash(rowid + {shuffled} * 1_000_003)"
                )

        shuffle("alignment_prompts")
        shuffle("personas")
        for model in RECIPE.answering_models:
            insert(
                "completion_requests",
                sql_files.read_sql("assets", "completion_requests"),
                **{f"{track}_variants": v for track, v in RECIPE.variants(model).items()},
                model=model,
                model_fingerprint="fingerprint",
                sampling="{}",
            )
        for table, query in (
            ("completions", COMPLETIONS),
            ("policy_tokens", TOKENS),
            ("rewards", REWARDS),
            ("judge_comparisons", COMPARISONS),
        ):
            shuffle("completion_requests")
            connection.execute(query, sql_files.named_parameters(query, settings))
            shuffle(table)
        for table in DERIVED:
            if table == "selected_pairs":
                draw_pairs(connection, settings)
            if table == "selection_report":
                draw_each(connection, reported_draws(RECIPE), table, settings)
            insert(table, sql_files.read_sql("assets", table))
            shuffle(table)
        found = {}
        for table in ("completion_requests", *DERIVED):
            columns = ", ".join(column.name for column in sql_files.tables()[table].columns)
            found[table] = connection.execute(
                f"SELECT count(*), sum(hash(one)) FROM (SELECT {columns} FROM {table}) AS one"
            ).fetchone() or (0, 0)
        return found


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, tuple[int, int]]]:
    """What one thread makes of the input as it came."""
    yield build(1)


def test_there_are_rows_enough_to_share_out(alone: dict[str, tuple[int, int]]) -> None:
    assert all(rows for rows, _ in alone.values())
    assert alone["quantile_rewards"][0] > 2 * 122_880  # more than two row groups


@pytest.mark.parametrize(("threads", "shuffled"), [(2, None), (8, None), (8, 7)])
def test_more_threads_and_another_order_make_the_same_rows(
    alone: dict[str, tuple[int, int]], threads: int, shuffled: int | None
) -> None:
    assert build(threads, shuffled) == alone
