"""Where the answers of engines are kept: in a folder, or on object storage beside copies of it.

The copies of ``s3://bucket/prefix`` are in ``<home>/spool.s3/bucket/prefix``. So whoever has a
folder of copies, in whichever process, knows where its objects are, and the copies of two stores
never mix. Here belong the two forms of the place; what is kept there is `inference`'s part.
"""

from __future__ import annotations

import re
from pathlib import Path

from alignment_assets.host.object_storage import SCHEME

COPIES = "spool.s3"

_ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9][A-Za-z0-9._=+-]*)*")


def check_place(said: str) -> str:
    """Return what a recipe says of the place.

    Raises:
        ValueError: it is neither a folder's path nor the address of a bucket and prefix.
    """
    if COPIES in said.split("/"):
        raise ValueError(f"{COPIES} is what folders of copies are known by; take another name")
    return check_address(said)


def check_address(said: str) -> str:
    """Return a folder's path, or the address of a bucket and prefix without a stroke at its end.

    Raises:
        ValueError: it is neither.
    """
    if "://" not in said:
        return said
    said = said.rstrip("/")
    if not _ADDRESS.fullmatch(said):
        raise ValueError(
            "names no bucket and prefix; write s3://bucket/prefix, with letters, digits and ._=+- "
            "alone, and keys in the environment; or a folder"
        )
    return said


def is_address(said: str) -> bool:
    """Return whether a place is on object storage."""
    return said.startswith(SCHEME)


def folder_of_copies(home: Path, address: str) -> Path:
    """Return the folder of a home that has the copies of an address."""
    return home.joinpath(COPIES, *address.removeprefix(SCHEME).split("/"))


def key_of(folder: Path) -> str | None:
    """Return the bucket and key of a folder of copies; None for any other folder."""
    parts = folder.parts
    if COPIES not in parts:
        return None
    place = len(parts) - parts[::-1].index(COPIES)
    return "/".join(parts[place:]) or None
