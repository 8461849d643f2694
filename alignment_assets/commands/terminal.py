"""What the commands share: the terminal, options, progress, and failures that a user can act on."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from alignment_assets.commands.rows import Format
from alignment_assets.definitions import open_run
from alignment_assets.inference.progress import Progress, listeners
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.run import Run

console = Console(width=None if sys.stdout.isatty() else 160)
errors = Console(stderr=True)

RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="Name or path of the recipe (default: ALIGNMENT_RECIPE, then demo)."
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How rows are written.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="A file to write to.")]

PLAIN_SECONDS = 10.0


def example(arguments: str) -> str:
    """Return the last line of a command's help: a call of it that works as it stands."""
    return f"Example: `alignment-assets {arguments}`"


class Expected(Exception):
    """A failure that the user can act on; shown without a traceback."""


class Ended(Exception):
    """A signal asked the command to end."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(
            f"ended by {number.name}; what was answered is kept: run this again to go on"
        )
        self.status = 128 + number


@contextmanager
def expected(*kinds: type[Exception]) -> Iterator[None]:
    """Show these errors without a traceback."""
    try:
        yield
    except kinds as error:
        raise Expected(str(error)) from error


def chosen_run(recipe: str | None) -> Run:
    """Return the run of the recipe that the user names."""
    with expected(RecipeError):
        return open_run(recipe)


def say(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class ProgressLine:
    """Shows progress on a console: live if it is a terminal, else a line now and then."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show the present state."""
        due = time.monotonic() - self._shown_at >= PLAIN_SECONDS
        if progress.state == "done":
            self._console.print(f"  {progress.line()}", markup=False, highlight=False)
        elif self._console.is_terminal:
            self._status.update(progress.line())
        elif (due and 0 < progress.done < progress.total) or progress.state == "loading":
            self._shown_at = time.monotonic()
            self._console.print(f"  {progress.line()}", markup=False, highlight=False)


@contextmanager
def shown_progress(console: Console) -> Iterator[None]:
    """Show the progress of all engines of this process while the body runs."""
    with console.status("starting") as status:
        listener = ProgressLine(console, status)
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
