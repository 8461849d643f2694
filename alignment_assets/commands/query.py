"""``alignment-assets query``: a question of ``sql/analysis``, or a SELECT of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.rows import write
from alignment_assets.commands.terminal import Format, console
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.query import (
    fetch_rows,
    parse_parameters,
    question_text,
    run_query,
)


def query(
    question: str,
    recipe: str | None,
    format: Format,
    output: Path | None,
    param: Sequence[str],
    snapshot: bool,
) -> None:
    """Do what the command says; its words are in `app`."""
    run = run_to_read(recipe)
    values = {**run.recipe.settings(), **parse_parameters(param)}
    asked = Database(**run.database_settings), question_text(question), values
    run_it = run_query if format == "parquet" else fetch_rows
    write(run_it(*asked, snapshot=snapshot), format, output, console)
