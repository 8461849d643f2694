"""How far `materialize` is, on the terminal: assets made of all, and requests answered of all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from alignment_assets.commands.terminal import as_text
from alignment_assets.inference.progress import Progress, listeners

PLAIN_SECONDS = 30.0


class Shown:
    """Shows how far a command is: bars on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console, bars: Bars, assets: int) -> None:
        self._console = console
        self._bars = bars
        self._assets = bars.add_task("assets", total=assets, about="")
        self._requests: TaskID | None = None
        self._shown_at = -PLAIN_SECONDS

    def began(self, label: str) -> None:
        """Assets are being made."""
        self._bars.update(self._assets, about=as_text(label).plain)

    def ended(self, assets: int) -> None:
        """So many assets more are made."""
        self._bars.advance(self._assets, assets)

    def __call__(self, progress: Progress) -> None:
        """Engines tell their present state."""
        line = as_text(progress.line())
        if progress.state == "done":
            self._drop_requests()
            self._console.print(Text("  ") + line)
        elif self._console.is_terminal:
            if self._requests is None:
                self._requests = self._bars.add_task("requests", total=None, about="")
            self._bars.update(
                self._requests,
                total=None if progress.state == "loading" else progress.total,
                completed=progress.done,
                about=line.plain,
            )
        elif time.monotonic() - self._shown_at >= PLAIN_SECONDS and (
            progress.state == "loading" or 0 < progress.done < progress.total
        ):
            self._shown_at = time.monotonic()
            self._console.print(Text("  ") + line)

    def _drop_requests(self) -> None:
        if self._requests is not None:
            self._bars.remove_task(self._requests)
            self._requests = None
        self._shown_at = -PLAIN_SECONDS


@contextmanager
def shown_progress(console: Console, assets: int) -> Iterator[Shown]:
    """Show the progress of all engines of this process while the body runs.

    Args:
        console: where.
        assets: how many are made, each partition counted.
    """
    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[about]}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        shown = Shown(console, bars, assets)
        listeners.append(shown)
        try:
            yield shown
        finally:
            listeners.remove(shown)
