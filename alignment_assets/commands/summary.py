"""What a run made, as the command shows it: rows, drops, rewards, example pairs, the next steps."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from alignment_assets.commands.rows import show
from alignment_assets.commands.terminal import as_text, say, say_next
from alignment_assets.host.proposed import proposed
from alignment_assets.pages.answers import Answer, ask_published
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.query import isolate, opened_to_ask, run_query

EXAMPLE_CHARACTERS = 320
# What decides about consent (sql/macros.sql, `consent_basis`), as a sentence names it.
DECIDED_BY = {
    "robots_txt": "robots.txt decided",
    "source_rule": "their source's rule",
    "subset_rule": "their sub-collection's rule",
    "blocked_list": "a list of domains",
    "no_rule": "no rule",
}
# What the summary shows of sql/analysis: as tables, with their titles, and in words of its own.
TABLES = {
    "exclusions_by_rule": "Rows dropped, and why",
    "reward_by_model_and_variant": "Rewards by model and variant",
}
TOLD = ("consent_decisions", "rules_without_rows", "sample_pairs")
EXAMPLES = 3


def print_rows(warehouse: Database, console: Console, tables: Iterable[str]) -> None:
    """Print how many rows tables have."""
    counts = " UNION ALL ".join(
        f"SELECT '{name}' AS \"table\", count(*) AS rows FROM {name}" for name in sorted(tables)
    )
    show(run_query(warehouse, counts, {}), console, "Rows per table")


def print_summary(warehouse: Database, run: Run, console: Console) -> None:
    """Print what is in a recipe's database."""
    recipe = run.recipe
    print_rows(warehouse, console, sql_files.tables())
    with opened_to_ask(warehouse) as connection:
        isolate(connection, warehouse.members)
        answers = ask_published(connection, (*TABLES, *TOLD), recipe.settings())
    for question, title in TABLES.items():
        show(answers[question].rows, console, title)
    console.print(consent_line(answers["consent_decisions"]), soft_wrap=True)
    for idle in answers["rules_without_rows"].rows.records:
        line = (
            f"No row is of {idle['about']!r}: the rule about it ({idle['rule']}) decides nothing."
        )
        console.print(as_text(line), soft_wrap=True)
    if recipe.published_prompts:
        console.print(f"The report had {json.dumps(recipe.published_prompts)} prompts per track.")
    for row in answers["sample_pairs"].rows.records[:EXAMPLES]:
        text = Text()
        for part, who in (("prompt", row["track"]), ("chosen", "chosen"), ("rejected", "rejected")):
            about = (
                f"{part}, {who} track"
                if part == "prompt"
                else (
                    f"{part}: {row[f'{who}_model']}, {row[f'{who}_variant']}, "
                    f"reward {row[f'{who}_reward']:.3f}"
                )
            )
            text.append(about + "\n", style="bold")
            text.append(as_text(_short(row[part]) + "\n"))
        text.rstrip()
        console.print(Panel(text, title="example pair", title_align="left"))


def consent_line(answer: Answer) -> str:
    """Return how many rows robots.txt decided about, how many their source's rule, and what else.

    Beside each number stands how many of them were admitted and how many refused.

    Args:
        answer: to the question ``consent_decisions``.
    """
    found = {name: [0, 0] for name in ("robots_txt", "source_rule")}
    for row in answer.rows.records:
        counted = found.setdefault(row["decided_by"], [0, 0])
        counted[0] += row["admitted"]
        counted[1] += row["refused"]
    parts = [
        f"{DECIDED_BY[name]} about {admitted + refused:,} "
        f"({admitted:,} admitted, {refused:,} refused)"
        for name, (admitted, refused) in found.items()
    ]
    return f"Consent, by rows: {', '.join(parts)}. `query consent_decisions` tells more."


def print_next_steps(warehouse: Database) -> None:
    """Print where the database is and what a user would do next."""
    say(f"Database: {warehouse.shown}")
    exports = warehouse.home / "exports"
    if exports.is_dir():
        say(f"Exports, for a trainer: {exports}")
    say_next(
        {
            proposed("dev"): "the asset graph in the browser",
            proposed("status"): "what is done, missing or stale",
            proposed("report"): "all of it as one HTML page",
            proposed("query win_rate_by_model"): "a question of sql/analysis",
        }
    )


def _short(text: str) -> str:
    return text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS] + " […]"
