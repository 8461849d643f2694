"""``alignment-assets trace``: where a pair comes from, a block for each step on its way."""

from __future__ import annotations

from itertools import groupby

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.rows import show_record
from alignment_assets.commands.terminal import console
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import fetch, isolate, opened_to_ask

FIRST = "SELECT pair_id FROM dpo_pairs ORDER BY pair_id LIMIT 1"
FOUND = """
SELECT pair_id
FROM dpo_pairs
WHERE $id IN (pair_id, prompt_id, chosen_completion_id, rejected_completion_id)
ORDER BY pair_id
"""


def trace(id: str | None, recipe: str | None) -> None:
    """Do what the command says; its words are in `app`."""
    run = run_to_read(recipe)
    database = database_of(run.database_settings)
    question = sql_files.read_sql("analysis", "pair_trace")
    settings = run.recipe.settings()
    with opened_to_ask(database) as connection:
        isolate(connection, database.members)
        pairs = fetch(connection, FIRST if id is None else FOUND, {"id": id}).values
        # Shown when the database is closed: a pager may keep this process waiting.
        traces = [
            fetch(connection, question, {**settings, "pair_id": str(pair)}).values
            for (pair,) in pairs
        ]
    if not pairs:
        raise Expected(
            f"dpo_pairs has no rows; `{proposed('status')}` says what is missing"
            if id is None
            else f"no pair has the id {id}, nor a prompt or completion of one; "
            f"`{proposed('query selection_exclusions_by_reason')}` says why prompts have no pair"
        )
    for facts in traces:
        for (step, about), named in groupby(facts, key=lambda row: row[:2]):
            title = step if about == "both" else f"{step}, {about}"
            show_record(title, [(fact, value) for _, _, fact, value in named], console)
