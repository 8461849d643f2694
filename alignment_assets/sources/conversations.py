"""What makes a row a usable prompt, and the hashes that name it. Pure functions over one row.

Here belong the rules of form; licence, consent, length and repeats are SQL
(``sql/assets/prompt_exclusions.sql``).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import uuid
from typing import Any

ROLES = ("system", "user", "assistant")
_SPACE = re.compile(r"\s+")

Message = dict[str, str]


class Malformed(ValueError):
    """A row that is no usable prompt; the message is the reason, fit for a table."""


def usable_text(value: Any, what: str = "text") -> str:
    """Return ``value`` if it is a text an engine can be shown, else raise `Malformed`."""
    if not isinstance(value, str):
        raise Malformed(f"{what} is {_kind(value)}, not text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed(f"{what} has invalid Unicode") from None
    if "\x00" in value:
        raise Malformed(f"{what} has a NUL character")
    if not value.strip():
        raise Malformed(f"{what} is empty")
    return value


def prompt_of_conversation(conversation: Any) -> list[Message]:
    """Return every message before the last assistant turn (the form ``conversation``).

    Raises:
        Malformed: no list of {role, content} texts, or no user message to answer.
    """
    if not isinstance(conversation, list):
        raise Malformed(f"conversation is {_kind(conversation)}, not a list")
    roles = [message.get("role") if isinstance(message, dict) else None for message in conversation]
    if "assistant" not in roles:
        raise Malformed("no assistant turn")
    last = len(roles) - 1 - roles[::-1].index("assistant")
    messages = [_message(message, number) for number, message in enumerate(conversation[:last])]
    if not any(message["role"] == "user" for message in messages):
        raise Malformed("no user message")
    if messages[-1]["role"] != "user":
        raise Malformed("does not end with a user message")
    return messages


def prompt_of_text(text: Any) -> list[Message]:
    """Return a bare prompt as one user message; raises `Malformed` where it is no usable text."""
    return [{"role": "user", "content": usable_text(text, "prompt")}]


def as_id(hashed: str) -> str:
    """Return the id that a sha256 gives: its first 128 bits, as a UUID is written."""
    return str(uuid.UUID(hashed[:32]))


def prompt_hash(messages: list[Message]) -> str:
    """Return sha256 of the normalized messages: NFC, each white-space run one space, stripped.

    Normalization serves only this hash, which finds repeats; text is sent as read. The prompt's id
    is `as_id` of it.
    """
    normal = [
        [message["role"], _SPACE.sub(" ", unicodedata.normalize("NFC", message["content"])).strip()]
        for message in messages
    ]
    return _digest(normal)


def messages_hash(messages: list[Message]) -> str:
    """Return sha256 of the messages to the character."""
    return _digest([[message["role"], message["content"]] for message in messages])


def row_hash(values: Any) -> str:
    """Return the hash of a row that is no prompt."""
    return _digest(["malformed", json.dumps(values, sort_keys=True, default=str)])


def _message(message: Any, number: int) -> Message:
    if not isinstance(message, dict):
        raise Malformed(f"message {number} is {_kind(message)}, not an object")
    role = message.get("role")
    if role not in ROLES:
        raise Malformed(
            f"message {number} has the role {role!r:.40}, not one of {', '.join(ROLES)}"
        )
    return {"role": role, "content": usable_text(message.get("content"), f"message {number}")}


def _kind(value: Any) -> str:
    return "missing" if value is None else type(value).__name__


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode("ascii")).hexdigest()
