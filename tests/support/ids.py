"""Ids for rows that tests make up: UUIDs, each from a name, and the names back."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from alignment_assets.sources.conversations import as_id

_NAMES: dict[str, str] = {}


def uid(name: str) -> str:
    """Return the id that stands for a name."""
    made = as_id(hashlib.sha256(name.encode()).hexdigest())
    _NAMES[made] = name
    return made


def named(value: Any) -> Any:
    """Return a value with names in place of the ids that `uid` made of them."""
    if isinstance(value, dict):
        return {key: named(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(named(item) for item in value)
    return _NAMES.get(str(value), value) if isinstance(value, (str, uuid.UUID)) else value
