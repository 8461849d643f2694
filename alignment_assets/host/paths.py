"""Where the product's own files are, where a run's files go, and who may write there.

Nothing is created here.
"""

from __future__ import annotations

import os
import pwd
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
    return why_denied(there) if there.is_dir() else f"{there} is no folder"


def why_denied(there: Path) -> str | None:
    """Say why this user cannot write a file, or in a folder, that is there; None if that can be."""
    if os.access(there, os.W_OK | os.X_OK if there.is_dir() else os.W_OK):
        return None
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{there} is on a disk that is mounted read-only"
    owner, user = _name(there.stat().st_uid), _name(os.geteuid())
    return f"{there} belongs to {owner}, and this user, {user}, may not write"


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # of another host, or a container's
        return f"user {user}"
