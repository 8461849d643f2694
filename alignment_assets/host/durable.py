"""Files that are still there after the machine stops.

Here belongs what makes a written name or content durable; what is written is elsewhere.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

logger = logging.getLogger(__name__)

# What is put behind the name of a file that cannot be read.
TORN = ".torn"


def sync(path: Path) -> None:
    """Have the disk keep what a file holds, or which names a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(path: Path) -> dict[str, str]:
    """Return what a small file of ours keeps from run to run, names with their values.

    A file that cannot be read (cut off by a full disk, say) is put aside, which a warning tells,
    and counts as empty: its reader makes anew what it held.
    """
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            return found
        reason = "no names with texts"
    except FileNotFoundError:
        return {}
    except (RecursionError, ValueError) as error:
        reason = str(error)
    aside = path.replace(path.with_name(path.name + TORN))
    logger.warning("%s: cannot be read (%s); put aside as %s, made anew", path, reason, aside.name)
    return {}


def write_record(path: Path, content: Mapping[str, str]) -> None:
    """Write what `read_record` reads, by `written_whole`."""
    with written_whole(path) as file:
        file.write(json.dumps(dict(content), indent=2, sort_keys=True).encode())


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes ``path`` when the block ends well, synced.

    So it is there whole or not at all, also when the machine stops.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
