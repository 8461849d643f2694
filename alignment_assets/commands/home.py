"""The home of a recipe as commands find it: whether it can be used, and Dagster's records in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance

from alignment_assets.commands.dead_runs import end_dead_runs
from alignment_assets.commands.terminal import Expected, expected, say
from alignment_assets.host.locking import LockTimeout, locked
from alignment_assets.host.paths import dagster_settings, why_unwritable
from alignment_assets.recipe.run import Run

# Making the records of a home takes a second; a machine may be busy.
FIRST_USE_SECONDS = 120.0


def check_home(run: Run) -> None:
    """Refuse a home that a run could not write, or that holds something else.

    Raises:
        Expected: the message says what is in the way.
    """
    for folder in (run.home, run.spool, run.work, run.staging, run.logs, run.home / "dagster"):
        reason = why_unwritable(folder)
        if reason:
            raise Expected(
                f"{reason}; a run writes in {run.home}: mend that, or set ALIGNMENT_HOME to a "
                f"folder of your own"
            )


def dagster_home(run: Run) -> Path:
    """Return the folder of Dagster's records: ``<home>/dagster``, or what DAGSTER_HOME says.

    So that no recipe is shown another's records. The folder is made where it is missing, with a
    link to the product's ``dagster.yaml``; a file of the user's own in its place is left alone.
    """
    named = os.environ.get("DAGSTER_HOME")
    if named:
        return Path(named).expanduser().absolute()
    folder = run.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    _link_settings(folder / "dagster.yaml")
    return folder


@contextmanager
def dagster_instance(run: Run) -> Iterator[DagsterInstance]:
    """Open Dagster's records of a run's home, made at first use.

    Of a home that this user cannot write a copy is opened: what SQLite reads, it locks.
    """
    if not os.environ.get("DAGSTER_HOME") and why_unwritable(run.home / "dagster"):
        with tempfile.TemporaryDirectory() as folder:
            _copy_records(run.home / "dagster", Path(folder))
            with DagsterInstance.from_config(folder) as instance:
                yield instance
        return
    with _opened(dagster_home(run)) as instance:
        yield instance


def end_killed(instance: DagsterInstance) -> None:
    """End the runs of this host whose process is gone, and say so."""
    for ended in end_dead_runs(instance):
        say(f"run {ended} was killed and is ended now; what it had answered is kept")


def _opened(folder: Path) -> DagsterInstance:
    folder.mkdir(parents=True, exist_ok=True)
    # Two processes that make the same SQLite files at once may wait for each other for good.
    with (
        expected(LockTimeout),
        locked(
            folder / ".first_use.lock",
            exclusive=True,
            timeout=FIRST_USE_SECONDS,
            purpose="makes Dagster's records",
        ),
    ):
        return DagsterInstance.from_config(str(folder))


def _link_settings(link: Path) -> None:
    if link.exists():
        return
    link.unlink(missing_ok=True)  # what it led to has moved
    settings = dagster_settings()
    # A checkout that is moved takes its homes along.
    within = link.parent.resolve().is_relative_to(settings.parent)
    target = os.path.relpath(settings, link.parent.resolve()) if within else settings
    try:
        link.symlink_to(target)
    except FileExistsError:  # another process was first
        pass
    except OSError:  # a file system without links
        shutil.copyfile(settings, link)


def _copy_records(folder: Path, target: Path) -> None:
    """Copy what tells of assets and runs, without the events of each run."""
    history = target / "history" / "runs"
    history.mkdir(parents=True)
    for found in (folder / "history").glob("runs.db*"):
        shutil.copy(found, history.parent)
    for found in (folder / "history" / "runs").glob("index.db*"):
        shutil.copy(found, history)
