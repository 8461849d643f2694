"""The normal form of texts once more, in plain Python, from its description alone."""

from __future__ import annotations

import hashlib
import unicodedata

# Unicode's Default_Ignorable_Code_Point without those of the category Cf.
_IGNORABLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
# Formatting characters (Cf) that show something: marks before numbers, signs around hieroglyphs.
_SEEN = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"


def plain_normal(text: str) -> str:
    """Return a text without what shows nothing, composed, with single spaces between words."""
    kept = "".join(one for one in text if not _is_unseen(one))
    return " ".join(unicodedata.normalize("NFC", kept).split())


def plain_normal_hash(text: str) -> int:
    """Return the number that the macro ``normal_hash`` gives: the lower half of an md5."""
    digest = hashlib.md5(plain_normal(text).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little")


def _is_unseen(one: str) -> bool:
    code, category = ord(one), unicodedata.category(one)
    if category == "Cc":
        return not one.isspace()
    if category == "Cf":
        return one not in _SEEN and not 0x13430 <= code <= 0x1345F
    return (
        one in _IGNORABLE
        or one == "\u2800"
        or code == 0x2065
        or 0xFE00 <= code <= 0xFE0F
        or 0xFFF0 <= code <= 0xFFF8
        or 0xE0000 <= code <= 0xE0FFF
    )
