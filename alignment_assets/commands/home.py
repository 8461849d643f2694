"""The home of a recipe as commands find it: whether it can be used, and Dagster's records in it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from dagster import DagsterInstance

from alignment_assets.commands.dagster_private import postgres_url
from alignment_assets.commands.dead_runs import end_dead_runs
from alignment_assets.commands.postgres_records import alone_in
from alignment_assets.commands.terminal import say
from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import locked
from alignment_assets.host.paths import dagster_settings, why_denied, why_unwritable
from alignment_assets.recipe.environment import limit_from_environment
from alignment_assets.recipe.run import Run

# Making the records of a home takes a second; a machine may be busy.
FIRST_USE_SECONDS = 120.0
_LOCK = ".first_use.lock"
# How Dagster says that `env: NAME` in its settings names nothing.
_UNSET = re.compile(r'environment variable "(\w+)" which is not set')
# What every run writes of Dagster's records.
_WRITTEN = (
    *(_LOCK, "storage", "history", "history/runs", "schedules"),
    *("history/runs.db", "history/runs/index.db", "schedules/schedules.db"),
)


def check_home(run: Run) -> None:
    """Refuse a home that a run could not write, or that holds something else.

    Raises:
        Expected: the message says what is in the way.
    """
    for folder in (run.home, run.spool, run.work, run.staging, run.logs):
        reason = why_unwritable(folder)
        if reason:
            raise Expected(
                f"{reason}; a run writes in {run.home}: mend that, or set ALIGNMENT_HOME to a "
                f"folder of your own"
            )
    reason = _why_closed(_records_folder(run))
    if reason:
        raise Expected(_no_records(reason))


def dagster_home(run: Run) -> Path:
    """Return the folder of Dagster's records: ``<home>/dagster``, or what DAGSTER_HOME says.

    So that no recipe is shown another's records. The folder is made where it is missing, with a
    link to the ``dagster.yaml`` beside the recipe, else to the product's; a file of the user's own
    in its place is left alone, and so is a folder of the user's own without one.
    """
    folder = _records_folder(run)
    if folder == run.home / "dagster" or not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        beside = run.recipe.file.with_name("dagster.yaml")
        _link(folder / "dagster.yaml", beside if beside.is_file() else dagster_settings())
    return folder


@contextmanager
def dagster_instance(run: Run) -> Iterator[DagsterInstance]:
    """Open Dagster's records of a run's home, made at first use.

    Of SQLite's records that this user cannot write a copy is opened: what SQLite reads, it locks.

    Raises:
        Expected: they cannot be opened.
    """
    folder = _records_folder(run)
    reason = _why_closed(folder)
    if reason is None or _database(folder):
        with _opened(folder if reason else dagster_home(run)) as instance:
            yield instance
        return
    if os.environ.get("DAGSTER_HOME") and not (folder / "history").is_dir():
        raise Expected(_no_records(reason))  # they are elsewhere
    with tempfile.TemporaryDirectory() as copy:
        try:
            _copy_records(folder, Path(copy))
        except PermissionError as error:
            raise Expected(_no_records(reason)) from error
        with DagsterInstance.from_config(copy) as instance:
            yield instance


@contextmanager
def records_in_home(run: Run) -> Iterator[DagsterInstance | None]:
    """Open the records in the home itself, where DAGSTER_HOME names others; else give None.

    Raises:
        Expected: they cannot be opened.
    """
    own = run.home / "dagster"
    if _records_folder(run) == own or not (own / "history").is_dir():
        yield None
        return
    with _opened(own) as instance:
        yield instance


def end_killed(instance: DagsterInstance) -> None:
    """End the runs of this host whose process is gone, and say so."""
    for ended in end_dead_runs(instance):
        say(f"run {ended} was killed and is ended now; what it had answered is kept")


def _records_folder(run: Run) -> Path:
    """Return DAGSTER_HOME, but for a small run if that holds the whole run's records."""
    named, own = os.environ.get("DAGSTER_HOME"), run.home / "dagster"
    folder = Path(named).expanduser().absolute() if named else own
    small = limit_from_environment() is not None
    return own if small and folder == run.home.parent / "dagster" else folder


def _why_closed(folder: Path) -> str | None:
    """Say why this user cannot write Dagster's records in a folder; None if that can be done."""
    reason = why_unwritable(folder)
    if reason is None:
        parts = (folder / name for name in _WRITTEN)
        denied = (why_denied(part) for part in parts if part.exists())
        reason = next(filter(None, denied), None)
    return reason


def _no_records(reason: str) -> str:
    return (
        f"{reason}; a run writes Dagster's records there: set DAGSTER_HOME to a folder of your own "
        f"(of users who share a home, each needs one)"
    )


def _opened(folder: Path) -> DagsterInstance:
    url = _database(folder)
    if url is None:
        # Two processes that make the same SQLite files at once may wait for each other for good.
        alone: AbstractContextManager[object] = locked(
            folder / _LOCK,
            exclusive=True,
            timeout=FIRST_USE_SECONDS,
            purpose="makes Dagster's records",
        )
    else:
        alone = alone_in(url, folder / "dagster.yaml", FIRST_USE_SECONDS)
    with alone, _told_of(folder):
        return DagsterInstance.from_config(str(folder))


def _database(folder: Path) -> str | None:
    """Return the URL of the PostgreSQL database of a folder's records; None if they are files."""
    if not os.access(folder / "dagster.yaml", os.R_OK):
        return None
    with _told_of(folder):
        return postgres_url(folder)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    """Tell in a line why Dagster refuses a folder: its settings, what they load, or a database."""
    try:
        yield
    except Expected:
        raise
    except Exception as error:
        unset = _UNSET.search(str(error))
        if unset:
            raise Expected(
                f"{folder / 'dagster.yaml'} takes a value from the environment variable {unset[1]},"
                f" which is not set: set it, or set DAGSTER_HOME to another folder"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Expected(
            f"{folder}: Dagster cannot open its records there ({reason}); put its dagster.yaml "
            f"right, or set DAGSTER_HOME to another folder"
        ) from error


def _link(link: Path, settings: Path) -> None:
    if link.exists():
        return
    link.unlink(missing_ok=True)  # what it led to has moved
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
