"""The commands ``alignment-assets labels``; see `app` for what belongs here."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from alignment_assets.commands.options import LimitOption, RecipeOption, example

labels_app = typer.Typer(
    no_args_is_help=True, help="Labels of people, by Label Studio: what the grader is held against."
)


class Stratum(StrEnum):
    """What a sample has its share of each of."""

    SOURCE = "source"
    DATASET = "dataset"
    LANGUAGE = "language"


@labels_app.command("sample", epilog=example("labels sample 500 --by source -o tasks.json"))
def sample(
    number: Annotated[int, typer.Argument(min=1, help="How many prompts.", metavar="N")],
    by: Annotated[
        Stratum, typer.Option(help="Of each of these the sample has its share.")
    ] = Stratum.SOURCE,
    recipe: RecipeOption = None,
    limit: LimitOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file (default: standard output).")
    ] = None,
) -> None:
    """Write prompts that are to be graded as tasks for people, in Label Studio's JSON.

    The same recipe and prompts give the same sample, and a larger one has all of a smaller.
    """
    from alignment_assets.commands.labels import sample

    sample(number, by.value, recipe, output)


@labels_app.command("import", epilog=example("labels import export.json -o human_labels.csv"))
def import_labels(
    files: Annotated[
        list[Path], typer.Argument(help="Label Studio's JSON exports.", metavar="FILE...")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file that the recipe's human_labels names.")
    ] = Path("human_labels.csv"),
) -> None:
    """Make what a recipe's human_labels takes of tasks that came back labelled.

    Of several submissions of one person about a prompt the last counts, skipped ones do not. What
    is no label stays as a row, which the asset human_labels tells with its reason.
    """
    from alignment_assets.commands.labels import import_labels

    import_labels(files, output)
