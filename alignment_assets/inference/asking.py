"""One process at a time asks for the answers of a partition, so that none is paid for twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from alignment_assets.host.locking import LockTimeout, describe_holder, locked

# Longer than any partition takes; the holder's end frees the lock, however it ends.
ASKING_SECONDS = 30 * 24 * 3600.0


@contextmanager
def asking_alone(lock: Path, label: str, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the right to ask; wait for another process that has it, and say so.

    Args:
        lock: the lock's own file, on this host.
        label: the asset, with its partition in brackets.
        log: told who is waited for.
    """
    purpose = f"asks for {label}"
    with ExitStack() as held:
        try:
            held.enter_context(locked(lock, exclusive=True, timeout=0, purpose=purpose))
        except LockTimeout:
            log(
                f"{label}: waiting for {describe_holder(lock)}, whose answers count here too; "
                f"end it to ask at once"
            )
            held.enter_context(
                locked(lock, exclusive=True, timeout=ASKING_SECONDS, purpose=purpose)
            )
        yield
