"""What `materialize` shows when it fails: one block, and a log that has the traceback."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from alignment_assets.commands.terminal import Ended, complain
from alignment_assets.host.expected import EXPECTED, Expected, told

# So many logs of failures are kept.
KEPT = 10

_UNFORESEEN = "This was not foreseen: unless the message says what to do, report it with the log."
_GO_ON = "What was made and answered before is kept: the same command goes on from there."


class LaunchFailed(Exception):
    """A launch failed; the message names the step, with its partition, and the cause says why."""


@contextmanager
def told_in_a_block(logs: Path, show_traceback: bool) -> Iterator[None]:
    """Tell in one block how the body failed.

    What is expected before any step runs is passed on as it is.

    Args:
        logs: the folder for a log with the traceback, which the block names.
        show_traceback: whether it is printed too.

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
        if isinstance(error, EXPECTED):
            raise
        said = _said(str(error), cause) if cause else _said("materialize", error)
        block = f"{said}\nTraceback: {_write_log(logs, text)}"
        raise Expected(block.replace("\n", "\n  ")) from error


def _said(label: str, error: BaseException) -> str:
    if not isinstance(error, EXPECTED):
        return f"{label}: {type(error).__name__}: {error}\n{_UNFORESEEN}"
    message = told(error)
    return f"{message if message.startswith(label) else f'{label}: {message}'}\n{_GO_ON}"


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
