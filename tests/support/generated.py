"""The files that are made from code: `make docs` writes them, tests compare them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import typer
from typer.cli import get_docs_for_click
from typer.core import TyperCommand, TyperGroup

from alignment_assets.commands.app import app
from alignment_assets.inference.backends.recipe_schema import recipe_schema

REPOSITORY = Path(__file__).resolve().parents[2]


def schema_file() -> str:
    """Return what recipes/recipe.schema.json holds."""
    return json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"


def commands_page() -> str:
    """Return what docs/commands.md holds: typer's own reference of the command."""
    command = typer.main.get_command(app)
    for _, each in walk("alignment-assets", command):
        # Lists of commands show the whole sentence; typer would cut it at 45 characters.
        each.short_help = (each.help or "").split("\n\n")[0].replace("\n", " ")
    page = get_docs_for_click(
        obj=command, ctx=typer.Context(command), name="alignment-assets", title="Commands"
    )
    return f"<!-- Made from alignment_assets/commands by `make docs`. -->\n\n{page.strip()}\n"


def walk(path: str, command: TyperCommand | TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    """Yield each command below one, itself included, with the words that call it."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from walk(f"{path} {name}", each)


GENERATED: dict[str, Callable[[], str]] = {
    "recipes/recipe.schema.json": schema_file,
    "docs/commands.md": commands_page,
}

if __name__ == "__main__":
    for name, make in GENERATED.items():
        (REPOSITORY / name).write_text(make(), encoding="utf-8")
        print(name)
