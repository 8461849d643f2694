"""A queue of processes for shared things, first come, first served.

A ticket is a numbered file that its owner has locked (``flock``), so the ticket of a dead owner no
longer counts. A thing is any name: a database's file, a GPU. Tickets for different things do not
wait for each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alignment_assets.host.locking import (
    is_held,
    locked,
    read_holder,
    take,
    write_holder,
)

TICKET_SECONDS = 60.0
_NUMBER = re.compile(r"\d{9,18}", re.ASCII)


class Ticket:
    """The ticket of a process in a queue; see `queued`."""

    def __init__(self, path: Path, descriptor: int, things: Collection[str], purpose: str) -> None:
        self._path = path
        self._descriptor = descriptor
        self._things = set(things)
        self._purpose = purpose
        self.wait_outside(None)

    def before(self, *, pass_outside: bool = False) -> Path | None:
        """Return the first ticket before this one that wants one of the same things.

        Args:
            pass_outside: pass tickets whose owner waits for a process that is not in the queue.

        Returns:
            The ticket's file, for `describe_holder`; None, if it is this ticket's turn.
        """
        # Tickets with lower numbers were complete when this one was made, and none is added there.
        for other in tickets(self._path.parent):
            if _number(other) >= _number(self._path):
                break
            if not is_held(other):
                with suppress(PermissionError):  # of another user, in a folder for all
                    other.unlink(missing_ok=True)  # its owner is gone
                continue
            theirs = read_holder(other)
            if self._things.isdisjoint(theirs.get("wants", self._things)):
                continue
            if not (pass_outside and theirs.get("outside")):
                return other
        return None

    def wait_outside(self, whom: str | None) -> None:
        """Tell the tickets behind this one which process outside the queue it waits for, if any."""
        details = {"wants": sorted(self._things), "outside": whom}
        write_holder(self._descriptor, self._purpose, details)


@contextmanager
def queued(
    folder: Path, things: Collection[str], purpose: str, *, for_all_users: bool = False
) -> Iterator[Ticket]:
    """Hold a ticket for some things, behind the earlier tickets that want one of them too.

    Args:
        folder: where the queue's tickets are.
        things: names of what is wanted.
        purpose: what for, told to those who wait.
        for_all_users: let every user of the host queue there; the folder is theirs too.
    """
    with locked(
        folder / "tickets.lock",
        exclusive=True,
        timeout=TICKET_SECONDS,
        purpose=purpose,
        for_all_users=for_all_users,
    ):
        # What is no ticket, but has a ticket's name, takes a number too.
        last = max(map(_number, folder.glob("*.ticket")), default=0)
        path = folder / f"{last + 1:09d}.ticket"
        descriptor = take(path, exclusive=True, for_all_users=for_all_users)
        assert descriptor is not None, f"{path} is new, and held"
        ticket = Ticket(path, descriptor, things, purpose)
    try:
        yield ticket
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def tickets(folder: Path) -> list[Path]:
    """Return the tickets of a queue in their order; what others put there is none."""
    found = (path for path in folder.glob("*.ticket") if _number(path))
    return sorted((one for one in found if one.is_file() and not one.is_symlink()), key=_number)


def _number(path: Path) -> int:
    return int(path.stem) if _NUMBER.fullmatch(path.stem) else 0


def outside(ticket: Path) -> str | None:
    """Return the process outside the queue that a ticket's owner waits for; None without one."""
    told = read_holder(ticket).get("outside")
    return str(told) if told else None
