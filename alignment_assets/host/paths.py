"""Where the product's own files are, where a run's files go, and who may write there.

Nothing is created here.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def project_folder(name: str) -> Path:
    """Return the folder ``sql`` or ``recipes``.

    A checkout has it beside the package, a wheel in it.
    """
    beside = PACKAGE.parent / name
    return beside if beside.is_dir() else PACKAGE / name


def dagster_settings() -> Path:
    """Return ``dagster.yaml``: how Dagster runs the product."""
    beside = PACKAGE.parent / "dagster.yaml"
    return beside if beside.is_file() else PACKAGE / "dagster.yaml"


def home_folder(recipe_name: str) -> Path:
    """Return the folder of a recipe's database and spool.

    ``ALIGNMENT_HOME`` names it; without it, ``data/<recipe>`` below the working directory.
    """
    named = os.environ.get("ALIGNMENT_HOME")
    return Path(named).expanduser().absolute() if named else Path.cwd() / "data" / recipe_name


def why_unwritable(folder: Path) -> str | None:
    """Say why this user cannot write in a folder; None if that can be done.

    Of a folder that is missing, the one counts that it would be made in.
    """
    there = folder
    while not os.path.lexists(there):  # also where this user may not look
        there = there.parent
    if not there.is_dir():
        return f"{there} is no folder"
    if os.access(there, os.W_OK | os.X_OK):
        return None
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{there} is on a disk that is mounted read-only"
    return f"{there} belongs to {_user(there)}, and this user, {getpass.getuser()}, may not write"


def _user(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:  # of another host, say
        return f"user {path.stat().st_uid}"
