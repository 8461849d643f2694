"""``alignment-assets compare``: how the training set changed from one state to another."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.rows import as_markdown, chosen_format, show, write, written
from alignment_assets.commands.terminal import Format, console, tell
from alignment_assets.warehouse import comparison, sql_files
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import Rows

# What is shown, in this order, of sql/compare/answers.
ANSWERS = ("sides", "kinds", "reasons", "models", "kinds_by_model", "moves", "means")


def compare(
    a: str | None,
    b: str,
    recipe: str | None,
    format: Format | None,
    output: Path | None,
    pairs: bool,
) -> None:
    """Do what the command says; its words are in `app`."""
    form = chosen_format(format, output)
    database = database_of(run_to_read(recipe).database_settings)
    named = comparison.find_side(database, a), comparison.find_side(database, b)
    # Shown when the databases are closed: a pager may keep this process waiting.
    answers = comparison.compare(database, *named, ("sides", "pairs") if pairs else ANSWERS)
    _tell_recipes(*answers["sides"].records)
    if pairs:
        write(answers["pairs"], form, output, console)
    elif form in ("table", "markdown"):
        _write_each(answers, form, output)
    else:
        write(_as_one(answers), form, output, console)


def _tell_recipes(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    if not a["recipe"] or not b["recipe"]:  # not told
        return
    if a["recipe"] != b["recipe"]:
        tell(f"A is of the recipe {a['recipe']} and B of the recipe {b['recipe']}")
    elif a["recipe_fingerprint"] != b["recipe_fingerprint"]:
        tell(f"the recipe {a['recipe']} is another in B than in A")


def _write_each(answers: Mapping[str, Rows], form: Format, output: Path | None) -> None:
    """Write each answer that has rows below a title."""
    page = console if output is None else Console(file=io.StringIO(), width=200)
    for name, rows in answers.items():
        title = sql_files.comment(sql_files.read_sql("compare", f"answers/{name}"))
        if not rows.num_rows:
            continue
        if form == "markdown":
            page.file.write(f"## {title}\n\n{as_markdown(rows)}\n")
        else:
            page.print(Text(title, style="bold"))
            show(rows, page)
    if isinstance(page.file, io.StringIO) and output is not None:
        with written(output) as file:
            file.write(page.file.getvalue().encode())


def _as_one(answers: Mapping[str, Rows]) -> Rows:
    """Return all answers as one, whose first column says which; what a row lacks is NULL."""
    types = {"answer": "VARCHAR"}
    for rows in answers.values():
        types |= dict(zip(rows.columns, rows.types, strict=True))
    records = [
        {"answer": name, **record} for name, rows in answers.items() for record in rows.records
    ]
    values = [[record.get(column) for column in types] for record in records]
    return Rows([*types], [*types.values()], values)
