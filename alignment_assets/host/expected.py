"""Failures that a user can act on: of these the message is shown, and no traceback.

Each folder has its own, which derive from `Expected`. Here belongs what all of them are.
"""

from __future__ import annotations


class Expected(Exception):
    """A failure that the user can act on; the message says what is wrong, where and what to do."""


# With what the system says of files, folders and disks.
EXPECTED = (Expected, OSError)


def told(error: BaseException) -> str:
    """Return what a user is told of an error.

    Of one that the system raised, that is what is wrong, with the file if it names one; of one
    without a message, its name.
    """
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    return str(error) or type(error).__name__
