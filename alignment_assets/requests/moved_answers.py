"""The answers of engines taken from one place of a spool to another, files as they are.

A file of answers has a name of its own and never changes, so a name that is there already is that
file. Here belongs a spool's move alone; keeping a folder and its objects the same is
`inference.stored_spool`'s part.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alignment_assets.host.durable import written_whole
from alignment_assets.host.machine import ensure_room
from alignment_assets.inference.spool import whole_files
from alignment_assets.inference.spool_files import EMPTY_FILE
from alignment_assets.inference.stored_spool import GONE, stored_folder
from alignment_assets.recipe.run import Run
from alignment_assets.requests.spool_care import spool_folders

Report = Callable[[str], None]


@dataclass
class MovedAnswers:
    """What was copied.

    Attributes:
        files: how many files.
        bytes: of them.
        there: how many were there already.
    """

    files: int = 0
    bytes: int = 0
    there: int = 0


def move_answers(source: Run, target: Run, report: Report) -> MovedAnswers | None:
    """Copy all answers to the place of another run's spool, those of who left the recipe too.

    Answers that were withdrawn in a source on object storage go from the target as well.

    Args:
        source: the run that has them; all stay there.
        target: the run that gets them.
        report: told what is done.

    Returns:
        What was copied; None if both runs have one place.

    Raises:
        SpoolError: a file cannot be read.
        StoreError: object storage cannot be asked.
        OSError: the disk has no room.
    """
    if source.spool.resolve() == target.spool.resolve():
        return None
    moved = MovedAnswers()
    folders = {folder.path for folder in spool_folders(source)}
    # Where all answers were withdrawn, only that is left.
    folders.update(path.parent for path in source.spool.glob(f"*/*/*{GONE}"))
    for folder in sorted(folders):
        place = folder.relative_to(source.spool)
        report(f"copying answers of {place}")
        _move(folder, target.spool / place, moved, report)
    return moved


def _move(folder: Path, into: Path, moved: MovedAnswers, report: Report) -> None:
    there = stored_folder(into)
    files = [path for path in whole_files(folder) if path.name != EMPTY_FILE]
    if there:
        there.settle(report)
    into.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not (into / file.name).exists()]
    needed = sum(file.stat().st_size for file in missing)
    ensure_room(into, needed, f"{into}: copying answers")
    for file in missing:
        with file.open("rb") as read, written_whole(into / file.name) as written:
            shutil.copyfileobj(read, written)
    here = stored_folder(folder)
    withdrawn = [into / name for name in (here.gone() if here else ()) if (into / name).exists()]
    if there:
        if withdrawn:
            there.retire(withdrawn)
        there.settle(report)
    else:
        for file in withdrawn:
            file.unlink()
    moved.files += len(missing)
    moved.bytes += needed
    moved.there += len(files) - len(missing)
