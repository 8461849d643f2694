"""A file of JSON lines that one process writes while others read it."""

import json
import os
from pathlib import Path
from typing import Any


def append_entry(log: str | Path, entry: Any) -> None:
    """Add a line in one write, so a killed writer does not leave half of one before the next."""
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(target, json.dumps(entry).encode() + b"\n")
    finally:
        os.close(target)


def read_entries(log: str | Path) -> list[Any]:
    """Return the entries in order, without a last line that is still being written."""
    content = Path(log).read_bytes() if Path(log).exists() else b""
    return [json.loads(line) for line in content.split(b"\n")[:-1]]
