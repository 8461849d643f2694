"""Options that several commands take: the recipe, a limit, and where and how rows are written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from alignment_assets.commands import completing
from alignment_assets.commands.terminal import Format, say
from alignment_assets.host.proposed import LIMIT, RECIPE


def set_variable(variable: str, context: typer.Context, value: str) -> None:
    """Give a variable to what this command opens and starts, until it ends."""
    if context.resilient_parsing:  # a shell asks what may follow
        return
    before = os.environ.get(variable)
    os.environ[variable] = value
    context.call_on_close(lambda: _restore(variable, before))


def _restore(variable: str, before: str | None) -> None:
    del os.environ[variable]
    if before is not None:
        os.environ[variable] = before


def set_recipe(context: typer.Context, recipe: str | None) -> str | None:
    """Let whatever this command opens, starts and proposes be of the recipe that it names."""
    if recipe is not None:
        set_variable(RECIPE, context, recipe)
    return recipe


def set_limit(context: typer.Context, limit: int | None) -> int | None:
    """Let whatever this command opens, starts and proposes have the limit that it names."""
    if limit is not None:
        set_variable(LIMIT, context, str(limit))
    return limit


RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="Name or path of the recipe (default: ALIGNMENT_RECIPE, then ./recipe.yaml, then "
        "demo).",
        callback=set_recipe,
        autocompletion=completing.recipes,
    ),
]


LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="<int>",
        min=1,
        callback=set_limit,
        help="Take so many prompts, in place of the recipe's limit and in a home of its own "
        "(default: ALIGNMENT_LIMIT).",
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="<format>",
        help="How rows are written: table, csv, json, parquet or markdown; by default as the "
        "file's suffix says, else a table.",
    ),
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file to write to.")]

SnapshotOption = Annotated[
    bool, typer.Option("--snapshot", help="Read the last snapshot; no writer waits for it.")
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="<moment>",
        help="Of a DuckLake, read an earlier state: a snapshot's number, or a moment such as "
        "2026-11-30T06:00Z.",
    ),
]


def example(arguments: str) -> str:
    """Return the last line of a command's help: a call of it that works as it stands."""
    return f"Example: `alignment-assets {arguments}`"


def show_version(asked: bool) -> None:
    """Print the version and end, if that is asked."""
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            say(f"alignment-assets {version('alignment-assets')}")
        except PackageNotFoundError:  # a checkout on the path
            say("alignment-assets, a checkout that is not installed")
        raise typer.Exit
