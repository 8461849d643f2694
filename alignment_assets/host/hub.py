"""Hub revisions, resolved to a commit at first use and recorded, so that none moves under a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from alignment_assets.host.durable import read_record, write_record
from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import locked


class RevisionError(Expected):
    """A repository or revision that the hub does not give; the message says which and why."""


Kind = Literal["model", "dataset"]

# Whether the hub answers at all shows soon.
HUB_SECONDS = 30.0


def hub_commit(kind: Kind, repository: str, revision: str, record: Path) -> str:
    """Return the commit of a revision: the one recorded, else the hub's.

    Args:
        kind: what the repository holds.
        repository: ``owner/name``.
        revision: a branch, tag or commit.
        record: the file that keeps the commits.

    Raises:
        RevisionError: nothing is recorded, and the hub does not answer for it; or a local folder
            has that name.
    """
    if Path(repository).exists():
        raise RevisionError(
            f"{kind} hf:{repository}: {Path(repository).resolve()} has that name, which libraries "
            f"would read in place of the hub's; rename it, or start from another folder"
        )
    lock = record.with_name(f"{record.name}.lock")
    with locked(lock, exclusive=True, timeout=600, purpose="resolving a revision"):
        known = read_record(record)
        key = _key(kind, repository, revision)
        if key not in known:
            known[key] = ask_hub(kind, repository, revision)
            write_record(record, known)
        return known[key]


def ask_hub(kind: Kind, repository: str, revision: str, record: Path | None = None) -> str:
    """Return the commit of a revision as the hub tells it now; nothing is recorded.

    Args:
        kind: what the repository holds.
        repository: ``owner/name``.
        revision: a branch, tag or commit.
        record: a file that keeps commits: the one that it has is asked for.

    Raises:
        RevisionError: the hub does not answer for it.
    """
    from huggingface_hub import HfApi

    key = _key(kind, repository, revision)
    known = recorded_commit(kind, repository, revision, record) if record else None
    try:
        found = HfApi().repo_info(
            repository, revision=known or revision, repo_type=kind, timeout=HUB_SECONDS
        )
    except Exception as error:  # offline, gated, no such repository: all end the same way
        raise RevisionError(f"{key}: the hub does not answer for it: {error}") from error
    return str(found.sha)


def recorded_commit(kind: Kind, repository: str, revision: str, record: Path) -> str | None:
    """Return the commit of a revision that is recorded; None while it was never asked for."""
    return read_record(record).get(_key(kind, repository, revision))


def _key(kind: Kind, repository: str, revision: str) -> str:
    return f"{kind}/{repository}@{revision}"
