"""What makes a row a usable prompt, and the hashes that name it. Pure functions over one row.

Here belong the forms in which people keep conversations; licence, consent, length and repeats are
SQL (``sql/assets/prompt_exclusions.sql``).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from alignment_assets.sources.texts import (
    Malformed,
    normal_text,
    refuse_placeholder,
    shown,
    usable_text,
)

ROLES = ("system", "user", "assistant")
# ShareGPT's names of them.
_SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}
TEXT = "text"

Message = dict[str, str]


def prompt_of_conversation(
    conversation: Any, before: Any = None, placeholders: Collection[str] = ()
) -> tuple[list[Message], str]:
    """Return every message before the last assistant turn, and the form that was read.

    The messages are a list of ``{role, content}``, or lists of roles and of contents (what
    `datasets` makes of a ``Sequence`` of objects), or JSON text of either; ``{from, value}`` as in
    ShareGPT are read like ``{role, content}``, and a content may be a list of parts of type text.

    Args:
        conversation: the messages; a text is one assistant message if there is a prompt of its own.
        before: the prompt that a row keeps apart from its answers (TRL's ``prompt`` beside
            ``chosen``): a text, or messages. Where the conversation has it, it stands once.
        placeholders: texts that stand for none.

    Raises:
        Malformed: none of these forms, or no user message to answer.
    """
    if before is None:
        messages, form = _messages_of(conversation)
    else:
        messages, form = _as_messages(conversation, "assistant")
        first, form_before = _as_messages(before, "user")
        messages, is_apart = _after(first, messages)
        form = f"prompt ({form_before}) and {form}" if is_apart else form
    # An empty system message, as some exports have, is none.
    messages = [one for one in messages if _role(one) != "system" or not _is_empty(_content(one))]
    roles = [_role(message) for message in messages]
    if "assistant" not in roles:
        raise Malformed("no assistant turn")
    last = len(roles) - 1 - roles[::-1].index("assistant")
    prompt = [_message(message, number) for number, message in enumerate(messages[:last])]
    if not any(message["role"] == "user" for message in prompt):
        raise Malformed("no user message")
    if prompt[-1]["role"] != "user":
        raise Malformed("does not end with a user message")
    if [message["role"] for message in prompt if message["role"] != "system"] == ["user"]:
        # Later on, "None" may well answer a question.
        refuse_placeholder(prompt[-1]["content"], placeholders)
    return prompt, form


def prompt_of_text(text: Any, placeholders: Collection[str] = ()) -> list[Message]:
    """Return a bare prompt as one user message; raises `Malformed` where it is no usable text."""
    usable = usable_text(text, "prompt")
    refuse_placeholder(usable, placeholders)
    return [{"role": "user", "content": usable}]


def as_id(hashed: str) -> str:
    """Return the id that a sha256 gives: its first 128 bits, as a UUID is written."""
    return str(uuid.UUID(hashed[:32]))


def prompt_hash(messages: list[Message]) -> str:
    """Return sha256 of the messages in normal form (`normal_text`).

    The form serves only this hash, which finds repeats; text is sent as read. The prompt's id is
    `as_id` of it.
    """
    return _digest([[message["role"], normal_text(message["content"])] for message in messages])


def messages_hash(messages: list[Message]) -> str:
    """Return sha256 of the messages to the character."""
    return _digest([[message["role"], message["content"]] for message in messages])


def row_hash(values: Any) -> str:
    """Return the hash of a row that is no prompt."""
    return _digest(["malformed", json.dumps(values, sort_keys=True, default=str)])


def _messages_of(value: Any) -> tuple[list[Any], str]:
    """Return a conversation's messages, each as it was found, and the name of their form."""
    prefix = ""
    if isinstance(value, str):
        if not _is_json(value):
            raise Malformed("a text, not a conversation", shown(value))
        try:
            value, prefix = json.loads(value), "JSON text: "
        except (ValueError, RecursionError):
            raise Malformed("a conversation's JSON text is broken", shown(value)) from None
    if isinstance(value, Mapping) and any(isinstance(column, list) for column in value.values()):
        messages, container = _rows_of(value), "lists in"
    elif isinstance(value, list):
        messages, container = [_as_object(message) for message in value], "list of"
    elif value is None:
        raise Malformed("no conversation")
    else:
        raise Malformed("not a list of messages", type(value).__name__)
    objects = [message for message in messages if isinstance(message, Mapping)]
    keys = "{from, value}" if any(_is_sharegpt(one) for one in objects) else "{role, content}"
    parts = " with parts" if any(isinstance(_content(one), list) for one in objects) else ""
    return messages, f"{prefix}{container} {keys}{parts}"


def _as_messages(value: Any, role: str) -> tuple[list[Any], str]:
    """Return messages, where a text that is no conversation is one of a role."""
    if not isinstance(value, str):
        return _messages_of(value)
    try:
        messages, form = _messages_of(value)
        if messages and all(_role(message) in ROLES for message in messages):
            return messages, form
    except Malformed:
        pass
    return [{"role": role, "content": value}], TEXT


def _after(first: list[Any], messages: list[Any]) -> tuple[list[Any], bool]:
    """Return the messages of a prompt and of what follows it, and whether they stood apart.

    Raises:
        Malformed: what follows begins with another user message.
    """
    told = [one for one in first if _role(one) == "system"]
    asked = list(map(_normal, first[len(told) :]))
    spoken = list(map(_normal, messages))
    if any(spoken[at : at + len(asked)] == asked for at in range(len(spoken)) if asked):
        has_them = all(_normal(one) in spoken for one in told)
        return messages if has_them else told + messages, False
    if first and messages and _role(first[-1]) == _role(messages[0]) == "user":
        raise Malformed("a prompt that its conversation contradicts")
    return first + messages, True


def _normal(message: Any) -> tuple[Any, Any]:
    content = _content(message) if isinstance(message, Mapping) else None
    return _role(message), normal_text(content) if isinstance(content, str) else content


def _is_empty(content: Any) -> bool:
    return content is None or (isinstance(content, str) and not normal_text(content))


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in ("[", "{")


def _rows_of(columns: Mapping[str, Any]) -> list[Any]:
    """Return the messages of lists of their parts."""
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    if len({len(values) for values in lists.values()}) > 1:
        raise Malformed("lists of different lengths in a conversation")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _as_object(message: Any) -> Any:
    """Return a message; Arrow's maps come as lists of pairs."""
    if isinstance(message, list) and all(
        isinstance(entry, tuple) and len(entry) == 2 for entry in message
    ):
        return dict(message)
    return message


def _is_sharegpt(message: Mapping[str, Any]) -> bool:
    return message.get("role") is None and message.get("from") is not None


def _role(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return None
    if _is_sharegpt(message):
        speaker = message["from"]
        return _SPEAKERS.get(speaker, speaker) if isinstance(speaker, str) else speaker
    return message.get("role")


def _content(message: Mapping[str, Any]) -> Any:
    return message.get("value" if _is_sharegpt(message) else "content")


def _message(message: Any, number: int) -> Message:
    where = f"message {number}"
    if not isinstance(message, Mapping):
        raise Malformed("a message is no object", f"{where}: {type(message).__name__}")
    role = _role(message)
    if role not in ROLES:
        raise Malformed("an unknown role", f"{where}: {shown(role)}")
    return {"role": role, "content": usable_text(_joined(_content(message), where), where)}


def _joined(content: Any, where: str) -> Any:
    """Return the text of a content that is made of parts, a line each."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if isinstance(part, Mapping) and part.get("type") == "text":
            texts.append(usable_text(part.get("text"), where))
        elif isinstance(part, str):
            texts.append(usable_text(part, where))
        else:
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise Malformed("a part of a message is no text", f"{where}: {shown(kind)}")
    return "\n".join(texts) if texts else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True).encode("ascii")).hexdigest()
