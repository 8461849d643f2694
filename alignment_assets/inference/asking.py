"""One process at a time asks for the answers of a partition, so that none is paid for twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from alignment_assets.host.advisory_lock import AdvisoryLock
from alignment_assets.host.locking import LockTimeout, describe_holder, locked
from alignment_assets.recipe.run import Run

# Longer than any partition takes; the holder's end frees the lock, however it ends.
ASKING_SECONDS = 30 * 24 * 3600.0


@contextmanager
def asking_alone(
    run: Run, asset: str, partition: str | None, log: Callable[[str], None]
) -> Iterator[None]:
    """Hold the right to ask; wait for another process that has it, and say so.

    It is told apart from processes of this host, or of every machine where the run's catalog is on
    a server that gives locks.

    Args:
        run: the recipe and its home.
        asset: what is asked for.
        partition: of it; None if it has none.
        log: told who is waited for.

    Raises:
        LockServerError: that server cannot be asked.
    """
    label = f"{asset}[{partition}]" if partition else asset
    purpose = f"asks for {label}"
    if (conninfo := run.shared_lock) is not None:
        some = "" if run.recipe.limit is None else f" of {run.recipe.limit} prompts"
        shared = AdvisoryLock(conninfo, f"{label} of {run.recipe.name}{some}")
        with shared.held(purpose, ASKING_SECONDS, log):
            yield
        return
    lock = run.work / "asking" / asset / f"{partition or 'all'}.lock"
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
