"""``alignment-assets query``: a question of ``sql/analysis``, or a SELECT of the user's own."""

from __future__ import annotations

from typing import Annotated

import typer

from alignment_assets.commands.rows import write
from alignment_assets.commands.terminal import (
    FormatOption,
    OutputOption,
    RecipeOption,
    chosen_run,
    console,
    expected,
)
from alignment_assets.definitions import default_resources
from alignment_assets.warehouse.query import (
    QueryError,
    parse_parameters,
    question_text,
    run_query,
)


def query(
    question: Annotated[
        str, typer.Argument(help="A question of sql/analysis, or a file with one SELECT.")
    ],
    recipe: RecipeOption = None,
    format: FormatOption = "table",
    output: OutputOption = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter of the query, name=value.")
    ] = None,
    snapshot: Annotated[
        bool, typer.Option("--snapshot", help="Ask the last snapshot; no writer waits for it.")
    ] = False,
) -> None:
    """Ask the database: read-only, and without access to any other file."""
    run = chosen_run(recipe)
    with expected(QueryError):
        values = {**run.recipe.settings(), **parse_parameters(param or [])}
        rows = run_query(
            default_resources(run)["warehouse"],
            question_text(question),
            values,
            snapshot=snapshot,
        )
        write(rows, format, output, console)
