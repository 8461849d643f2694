"""What `materialize` shows when it fails: one block, and a log that has the traceback."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alignment_assets.commands.terminal import Ended, complain
from alignment_assets.host.expected import EXPECTED, Expected, told
from alignment_assets.host.machine import MEBI
from alignment_assets.recipe.run import Run

# So many logs of failures are kept.
KEPT = 10

_UNFORESEEN = "This was not foreseen, and may be a mistake of the product: report it with the log."
_GO_ON = "What was made and answered before is kept: the same command goes on from there."


class LaunchFailed(Exception):
    """A launch failed; the message names the step, with its partition, and the cause says why."""


@contextmanager
def told_in_a_block(run: Run, show_traceback: bool) -> Iterator[None]:
    """Tell in one block how the body failed.

    What is refused before any step runs is passed on as it is.

    Args:
        run: what the body runs; a log with the traceback goes to its folder of logs.
        show_traceback: whether the traceback is printed too.

    Raises:
        Expected: a step failed, or what was not foreseen did; the message is the block.
    """
    try:
        yield
    except Ended:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, LaunchFailed) else None
        text = "".join(traceback.format_exception(cause or error))
        if show_traceback:
            complain(text)
        if isinstance(error, Expected) or (isinstance(error, OSError) and error.filename):
            raise
        label = str(error) if cause else f"materialize in {run.home}"
        block = f"{_said(label, cause or error, run)}\nTraceback: {_write_log(run.logs, text)}"
        raise Expected(block.replace("\n", "\n  ")) from error


def _said(label: str, error: BaseException, run: Run) -> str:
    """Return what is told of an error, and what follows from it."""
    message = told(error)
    if isinstance(error, EXPECTED):
        return f"{message if message.startswith(label) else f'{label}: {message}'}\n{_GO_ON}"
    there = next(folder for folder in (run.home, *run.home.parents) if folder.exists())
    full = shutil.disk_usage(there).free < MEBI  # Dagster's records tell it in many ways
    hint = f"The disk of {run.home} is full: make room and run this again." if full else _UNFORESEEN
    return f"{label}: {type(error).__name__}: {message.splitlines()[0]}\n{hint}"


def _write_log(folder: Path, text: str) -> str:
    """Write a log and remove old ones; return where it is, or why it is not."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    log = folder / f"materialize-{now}-{os.getpid()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log.write_text(text, encoding="utf-8")
        for old in sorted(folder.glob("materialize-*.log"))[:-KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        return f"add --traceback; it could not be written ({told(error)})"
    return str(log)
