"""``alignment-assets init``: a folder to work in that needs no checkout.

Here belongs what such a folder begins with: a recipe with its schema and sample data, and Dagster's
settings.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import unicodedata
from pathlib import Path

import yaml

from alignment_assets.commands.terminal import say, say_next
from alignment_assets.commands.workspace import WORKSPACE
from alignment_assets.host.expected import Expected
from alignment_assets.host.paths import dagster_settings, project_folder, why_unwritable

GITIGNORE = """\
# What runs leave: databases, answers, Dagster's records
/data/
.tmp_dagster_home_*/
"""


def init(folder: Path) -> None:
    """Do what the command says; its words are in `app`."""
    place, recipes = folder.expanduser().absolute(), project_folder("recipes")
    if reason := why_unwritable(place):
        raise Expected(f"{reason}; name a folder of your own: alignment-assets init FOLDER")
    demo = (recipes / "demo.yaml").read_text(encoding="utf-8")
    named = yaml.safe_dump({"name": _recipe_name(place)})
    contents: dict[str, str | Path] = {
        "recipe.yaml": demo.replace("name: demo\n", named, 1),
        "recipe.schema.json": recipes / "recipe.schema.json",
        "demo": recipes / "demo",
        "dagster.yaml": dagster_settings(),
        "workspace.yaml": WORKSPACE,
        ".gitignore": GITIGNORE,
    }
    place.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        target = place / name
        if os.path.lexists(target):
            say(f"{folder / name}: there already, left as it is")
            continue
        if isinstance(content, str):
            target.write_text(content, encoding="utf-8")
        elif content.is_dir():
            shutil.copytree(content, target)
        else:
            shutil.copyfile(content, target)
        say(f"{folder / name}: written")
    enter = {} if place == Path.cwd() else {f"cd {shlex.quote(str(folder))}": ""}
    say_next(
        {
            **enter,
            "alignment-assets doctor": "what this machine lacks for it",
            "alignment-assets materialize": "the whole graph, on the sample prompts in demo",
            "alignment-assets dev": "the asset graph in the browser",
        }
    )


def _recipe_name(folder: Path) -> str:
    """Return a folder's name as a recipe may be called."""
    letters = unicodedata.normalize("NFKD", folder.resolve().name.lower())
    plain = "".join(one for one in letters if not unicodedata.combining(one))
    name = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("._-") or "recipe"
    # A recipe that comes along would be taken for it, in the same home.
    comes_along = {path.stem for path in project_folder("recipes").glob("*.yaml")}
    return f"my-{name}" if name in comes_along else name
