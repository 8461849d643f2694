"""How far engines are, on the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.text import Text

from alignment_assets.commands.terminal import as_text
from alignment_assets.inference.progress import Progress, listeners

PLAIN_SECONDS = 10.0


class ProgressLine:
    """Shows progress on a console: live if it is a terminal, else a line now and then."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._shown_at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show the present state."""
        due = time.monotonic() - self._shown_at >= PLAIN_SECONDS
        line = as_text(progress.line())
        if progress.state == "done":
            self._console.print(Text("  ") + line)
        elif self._console.is_terminal:
            self._status.update(line)
        elif (due and 0 < progress.done < progress.total) or progress.state == "loading":
            self._shown_at = time.monotonic()
            self._console.print(Text("  ") + line)


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
