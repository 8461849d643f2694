"""What a text is: usable or not, empty or not, the same as another or not. Pure functions.

`normal_text` says when two texts are one and when a text is empty; the macro ``normal_text`` of
``sql/macros.sql`` is the same for texts that come from tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from typing import Any

from alignment_assets.host.shown import ascii_controls

# White space, as Unicode has it.
_SPACE = re.compile("[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
# What shows nothing: controls that are no white space, and what Unicode says to ignore
# (Default_Ignorable_Code_Point), the empty braille cell and annotation marks.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
# All that either class or composition could change is outside of this.
_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*")
SHOWN_CHARACTERS = 40


class Malformed(ValueError):
    """A row that cannot be used.

    Attributes:
        reason: the kind of fault, the same for every row that has it.
        detail: where in the row it is, and the value that was seen; None where there is no more.
    """

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def normal_text(text: str) -> str:
    """Return the form by which texts are compared, and are empty or not.

    What shows nothing is left out, the rest composed (NFC), each run of white space one space, and
    the ends stripped. Texts are sent and kept as read.
    """
    if _PLAIN.fullmatch(text):
        return text
    return _SPACE.sub(" ", unicodedata.normalize("NFC", _UNSEEN.sub("", text))).strip(" ")


def usable_text(value: Any, where: str | None = None) -> str:
    """Return ``value`` if it is a text that an engine can be shown, else raise `Malformed`."""
    if value is None:
        raise Malformed("no text", where)
    if not isinstance(value, str):
        raise Malformed("not a text", _at(where, type(value).__name__))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed("invalid Unicode", where) from None
    if "\x00" in value:
        raise Malformed("a NUL character", where)
    if not normal_text(value):
        raise Malformed("an empty text", where)
    return value


def refuse_placeholder(text: str, placeholders: Collection[str]) -> None:
    """Raise `Malformed` for a text that stands for none, such as ``N/A``, in any case."""
    if normal_text(text).casefold() in {normal_text(one).casefold() for one in placeholders}:
        raise Malformed("a placeholder", shown(text))


def shown(value: Any) -> str:
    """Return a value for a message: short, on one line, without what a terminal obeys."""
    text = value if isinstance(value, str) else repr(value)
    return ascii_controls(text[: SHOWN_CHARACTERS + 1])[:SHOWN_CHARACTERS]


def _at(where: str | None, found: str) -> str:
    return f"{where}: {found}" if where else found
