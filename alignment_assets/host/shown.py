"""Texts from outside as they are shown: in messages, logs and reports."""

from __future__ import annotations


def ascii_controls(text: str) -> str:
    """Return a text with its control characters and half surrogates written as escapes."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )
