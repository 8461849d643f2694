"""Sending an export to the Hugging Face hub: a private data set.

Prompts are words of people, so nothing is made public from here: a repository that is, is refused.
The token is the one that ``huggingface_hub`` finds (``HF_TOKEN``, or its file), and stands in no
message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from alignment_assets.exports import croissant, manifest
from alignment_assets.exports.formats import ExportError

T = TypeVar("T")
KIND = "dataset"
# What the hub itself puts into a new repository.
_BEGUN = {".gitattributes"}
# What an older export has in a repository, and the new one may not.
OURS = [*(f"*/{split}-?????-of-?????.*" for split in ("train", "test")), "images/*.png"]


def files_of(folder: Path) -> dict[str, int]:
    """Return the files of an export with their sizes, by name."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}


def check(repository: str, *, upload: bool) -> None:
    """Look whether something can be uploaded, before it is made.

    Raises:
        ExportError: that is no name of a repository, or there is no token to upload with.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ExportError(f"hub:{repository}: {str(error).splitlines()[0]}") from None
    if "/" not in repository:
        raise ExportError(f"hub:{repository} names no owner: say hub:owner/name")
    if upload and not get_token():
        raise ExportError(
            "no token for the hub: set HF_TOKEN to one that may write, or call `hf auth login`"
        )


def upload(folder: Path, repository: str) -> str:
    """Upload an export as one commit; return where it is.

    Files of formats that an older export left in the repository go.

    Args:
        folder: the export.
        repository: ``owner/name``; made if it is missing.

    Raises:
        ExportError: there is no token, the repository is public or has files of somebody, or the
            hub refuses or is not there.
    """
    from huggingface_hub import HfApi, get_token

    check(repository, upload=True)
    token = get_token() or ""
    api = HfApi(endpoint=endpoint(), token=token)

    def ask(what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # refused, missing, offline: all end the same way
            reason = shown(_reason(error).replace(token, "…"))
            raise ExportError(f"hub:{repository}: {what}: {reason}") from None

    ask(
        "the repository cannot be made",
        lambda: api.create_repo(repository, repo_type=KIND, private=True, exist_ok=True),
    )
    found: Any = ask(
        "the repository cannot be read", lambda: api.repo_info(repository, repo_type=KIND)
    )
    if not found.private:
        raise ExportError(
            f"hub:{repository} is public, and prompts are words of people: make it private in its "
            f"settings, or name another"
        )
    there = {file.rfilename for file in found.siblings or ()}
    if there - _BEGUN and not {manifest.NAME, croissant.NAME} <= there:
        raise ExportError(
            f"hub:{repository} has files that are no export of ours (no {manifest.NAME} and "
            f"{croissant.NAME}), and is left as it is; name another repository"
        )
    made: Any = ask(
        "not uploaded",
        lambda: api.upload_folder(
            repo_id=repository,
            repo_type=KIND,
            folder_path=folder,
            commit_message="An export of alignment-assets",
            delete_patterns=OURS,
        ),
    )
    return shown(str(made.commit_url))


def endpoint() -> str:
    """Return the hub that is asked."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def shown(text: str) -> str:
    """Return a text without what URLs in it name of a user and a password."""
    return re.sub(r"(://)[^/@\s]*@", r"\1", text)


def _reason(error: Exception) -> str:
    """Return what is wrong in a line, with what to do where that is known."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    known = {
        401: "401: the hub does not take the token; look at HF_TOKEN",
        403: "403: the token may not write there; take one that may",
        404: "404: no such owner or repository, or the token may not see it",
    }
    if status in known:
        return known[status]
    while error.__cause__ and isinstance(error.__cause__, Exception):
        error = error.__cause__  # an upload tells which file, and not why
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
