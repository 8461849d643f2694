"""What a shell is offered after TAB: recipes, partitions, assets, questions, snapshots, formats.

A shell calls the command anew for each TAB and shows what it prints. So these import little, and
say nothing where they cannot tell.
"""

from __future__ import annotations

import re
from pathlib import Path

import typer

from alignment_assets.host.paths import project_folder

# Files of Dagster's that stand beside recipes.
DAGSTERS = {"dagster.yaml", "workspace.yaml"}


def recipes(incomplete: str) -> list[str]:
    """Return recipes that come along, and files here and in ``recipes``."""
    known = [path.stem for path in project_folder("recipes").glob("*.yaml")]
    found = [path for place in (Path(), Path("recipes")) for path in place.glob("[!.]*.yaml")]
    files = [str(path) for path in found if path.name not in DAGSTERS]
    return _begun([*known, *files], incomplete)


def partitions(context: typer.Context, incomplete: str) -> list[str]:
    """Return the sources, models and policies of the recipe that the command line names."""
    from alignment_assets.recipe.load import load_recipe

    try:
        members = load_recipe(context.params.get("recipe")).members
    except Exception:  # a shell has no place for what is wrong with a recipe
        return []
    return _begun([name for names in members.values() for name in names], incomplete)


def questions(incomplete: str) -> list[str]:
    """Return the questions of ``sql/analysis``."""
    return _begun(_files("analysis"), incomplete)


def formats(incomplete: str) -> list[str]:
    """Return the formats of ``sql/exports``."""
    return _begun(_files("exports"), incomplete)


def tables(incomplete: str) -> list[str]:
    """Return the tables of ``sql/schema``."""
    return _begun(_files("schema"), incomplete)


def states(context: typer.Context, incomplete: str) -> list[str]:
    """Return the snapshots of the recipe that the command line names, and ``now``."""
    from alignment_assets.recipe.load import load_recipe
    from alignment_assets.recipe.run import Run
    from alignment_assets.warehouse.snapshots import all_snapshots

    try:
        home = Run.of(load_recipe(context.params.get("recipe"))).home
    except Exception:  # a shell has no place for what is wrong with a recipe
        return []
    snapshots = [path.stem for path in all_snapshots(home)]
    return _begun(["now", *snapshots], incomplete)


def assets(incomplete: str) -> list[str]:
    """Return selections that end in an asset: its name, or ``key:`` and its name in a longer one.

    Bash takes a colon for the end of a word, but not within quotes.
    """
    from alignment_assets.warehouse.schema import RECORDS

    begun = re.search(r"(key:)?\w*$", incomplete)
    assert begun  # it may be empty
    before, name = incomplete[: begun.start()], begun[0].removeprefix("key:")
    key = "key:" if before or begun[1] else ""
    made = sorted(set(_files("schema")) - RECORDS)
    return [f"{before}{key}{asset}" for asset in _begun(made, name)]


def _files(kind: str) -> list[str]:
    return [path.stem for path in (project_folder("sql") / kind).glob("*.sql")]


def _begun(names: list[str], incomplete: str) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})
