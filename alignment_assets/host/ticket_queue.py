"""Standing in line between processes, first come, first served.

A ticket is a file that its owner has locked, so a dead owner's no longer counts.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from alignment_assets.host.locking import (
    is_held,
    locked,
    read_holder,
    take,
    write_holder,
)

TICKET_SECONDS = 60.0


class Place:
    """A place in a line; see `in_line`."""

    def __init__(
        self, ticket: Path, descriptor: int, things: Collection[str], purpose: str
    ) -> None:
        self._ticket = ticket
        self._descriptor = descriptor
        self._things = set(things)
        self._purpose = purpose
        self.wait_outside(None)

    def before(self, *, pass_outside: bool = False) -> Path | None:
        """Return the ticket of the first that comes before us, for `describe_holder`.

        Args:
            pass_outside: do not count those who wait for somebody outside the line.

        Returns:
            None, if it is our turn.
        """
        # Tickets before ours were complete when ours was made, and no new one is ever put there.
        for ticket in sorted(self._ticket.parent.glob("*.ticket")):
            if ticket >= self._ticket:
                break
            if not is_held(ticket):
                ticket.unlink(missing_ok=True)  # its owner is gone
                continue
            theirs = read_holder(ticket)
            if self._things.isdisjoint(theirs.get("wants", self._things)):
                continue
            if not (pass_outside and theirs.get("outside")):
                return ticket
        return None

    def wait_outside(self, whom: str | None) -> None:
        """Tell those behind us whom we wait for outside the line; None: nobody."""
        details = {"wants": sorted(self._things), "outside": whom}
        write_holder(self._descriptor, self._purpose, details)


@contextmanager
def in_line(
    folder: Path, things: Collection[str], purpose: str, *, for_all_users: bool = False
) -> Iterator[Place]:
    """Stand in line for some things, behind those who came before and want one of them too."""
    with locked(
        folder / "tickets.lock",
        exclusive=True,
        timeout=TICKET_SECONDS,
        purpose=purpose,
        for_all_users=for_all_users,
    ):
        last = max((int(ticket.stem) for ticket in folder.glob("*.ticket")), default=0)
        ticket = folder / f"{last + 1:09d}.ticket"
        descriptor = take(ticket, exclusive=True, for_all_users=for_all_users)
        assert descriptor is not None, f"{ticket} is new, and held"
        place = Place(ticket, descriptor, things, purpose)
    try:
        yield place
    finally:
        ticket.unlink(missing_ok=True)
        os.close(descriptor)


def outside(ticket: Path) -> str | None:
    """Return whom the owner of a ticket waits for outside the line."""
    told = read_holder(ticket).get("outside")
    return str(told) if told else None
