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
from alignment_assets.recipe.consequences import CONSEQUENCES, Consequence

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


STALENESS = """<!-- Made from alignment_assets/recipe/consequences.py by `make docs`. -->

# What a changed recipe makes stale

`alignment-assets status` compares the recipe with what each table and partition was made with:

- **fresh**: its rows are those that the recipe asks for.
- **empty**: so it is, and rightly has no rows, such as `human_labels` where the recipe names
  none.
- **inconsistent**: it was made of other rows than stand there now; nothing is built on it.
- **stale**, with the reasons: it was made by other code, other settings or other rows, or its
  rows are not as many as were recorded.
- **missing**: it was never made, or its last materialization is another recipe's or another
  database's.

A field of the recipe is in the code version of tables (*graph*), in a hash that is kept with
partitions (*partition*), or in neither. Dagster has one code version for all partitions of an
asset, so a setting of one model, policy or source must not be in it: all partitions would be
stale. Dagster's own UI knows nothing of the hash and goes on showing such a partition as fresh;
the partition's page shows the hash, as `settings of …`, and `status` says `stale: settings of
this model changed`. What is made from a stale table becomes stale when that is made again and its
rows differ. `recipes`, which has the recipe as it was last made, is stale after any change, and
makes nothing else so.

The hash is of the recipe's words. What they stand for is looked up when a partition is made: the
commit of a hub branch, the files of a folder, the value of an environment variable. The text of a
chat template and of a wording counts by its content.

| field | in the code version of | in the hash kept with partitions of | which, or why not |
| --- | --- | --- | --- |
"""


def staleness_page() -> str:
    """Return what docs/staleness.md holds: a table of the fields by what they make stale."""
    rows: dict[tuple[str, Consequence], list[str]] = {}
    for place, consequence in CONSEQUENCES.items():
        parent, _, field = place.replace("*.*", "…").rpartition(".")
        rows.setdefault((parent.replace("*", "NAME"), consequence), []).append(field)
    lines = []
    for (parent, consequence), fields in rows.items():
        named = ", ".join(f"`{field}`" for field in fields)
        place = f"`{parent}`: {named}" if parent else named
        tables = (consequence.graph, consequence.partition)
        cells = [", ".join(f"`{table}`" for table in each) for each in tables]
        lines.append(f"| {' | '.join((place, *cells, consequence.why))} |".replace("  ", " "))
    return STALENESS + "\n".join(lines) + "\n"


GENERATED: dict[str, Callable[[], str]] = {
    "recipes/recipe.schema.json": schema_file,
    "docs/commands.md": commands_page,
    "docs/staleness.md": staleness_page,
}

if __name__ == "__main__":
    for name, make in GENERATED.items():
        (REPOSITORY / name).write_text(make(), encoding="utf-8")
        print(name)
