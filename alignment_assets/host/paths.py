"""Where the product's own files are, and where a run's files go. Nothing is created here."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def project_folder(name: str) -> Path:
    """Return the folder ``sql`` or ``recipes``.

    A checkout has it beside the package, a wheel in it.
    """
    beside = PACKAGE.parent / name
    return beside if beside.is_dir() else PACKAGE / name


def home_folder(recipe_name: str) -> Path:
    """Return the folder of a recipe's database and spool.

    ``ALIGNMENT_HOME`` names it; without it, ``data/<recipe>`` below the working directory.
    """
    named = os.environ.get("ALIGNMENT_HOME")
    return Path(named).expanduser().absolute() if named else Path.cwd() / "data" / recipe_name
