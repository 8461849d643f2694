"""``alignment-assets query``: a question of ``sql/analysis``, or a SELECT of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.rows import chosen_format, write
from alignment_assets.commands.terminal import Format, console, tell
from alignment_assets.host.expected import Expected
from alignment_assets.host.shown import ascii_controls
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import (
    check_named,
    fetch_rows,
    parse_parameters,
    question_text,
    questions,
    run_query,
)


def query(
    question: str | None,
    recipe: str | None,
    format: Format | None,
    output: Path | None,
    param: Sequence[str],
    snapshot: bool,
    as_of: str | None,
    safe_csv: bool,
) -> None:
    """Do what the command says; its words are in `app`."""
    form = chosen_format(format, output)
    if safe_csv and form != "csv":
        raise Expected(f"--safe-csv is for CSV, not for {form}: add --format csv")
    if question is None:
        if param or snapshot or as_of:
            raise Expected("no question; `alignment-assets query` alone lists the questions")
        write(questions(), form, output, console, safe_csv)
        return
    if snapshot and as_of:
        raise Expected("--snapshot and --as-of name two states: give one")
    run = run_to_read(recipe)
    text = _standard_input() if question == "-" else question_text(question)
    given = parse_parameters(param)
    check_named(text, given)
    asked = database_of(run.database_settings), text, {**run.recipe.settings(), **given}
    run_it = run_query if form == "parquet" else fetch_rows
    rows = run_it(*asked, snapshot=snapshot, as_of=as_of)
    write(rows, form, output, console, safe_csv)
    if param and not rows.num_rows:
        tell(f"no row matches {', '.join(ascii_controls(argument[:100]) for argument in param)}")


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Expected(f"standard input: no UTF-8 text: {error}") from error
