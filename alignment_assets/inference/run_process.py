"""Which process executes a Dagster run, which may hold the slot for engines."""

from __future__ import annotations

from collections.abc import Mapping

from alignment_assets.host.processes import describe, is_gone, this_process

PROCESS_TAG = "alignment_assets/process"


def process_tag(run_id: str) -> dict[str, str]:
    """Return the tag which says that this process executes a run."""
    # With the run's id, since a run that repeats another takes over its tags.
    return {PROCESS_TAG: f"{run_id} {this_process()}"}


def was_killed(run_id: str, tags: Mapping[str, str]) -> bool:
    """Return whether a run that has not ended has lost its process, by its tags."""
    told, _, process = tags.get(PROCESS_TAG, "").partition(" ")
    return told == run_id and is_gone(process)


def describe_process(tags: Mapping[str, str]) -> str | None:
    """Return the process that executes a run, for people; None if its tags do not tell."""
    return describe(tags.get(PROCESS_TAG, "").partition(" ")[2])
