"""The demo with its real engine, killed again and again, and run to its end: nothing is missing.

By hand, in `make soak`: it takes as long as `make demo` and five times loading the engine.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alignment_assets.definitions import default_resources
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from tests.conftest import REPOSITORY
from tests.model.home import problems_of_home

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(0)]

KILLS = 5
# Within so many seconds a run that begins says what it does, or what it waits for.
FIRST_LINE_SECONDS = 30.0
COMMAND = [sys.executable, "-m", "alignment_assets.commands.app", "materialize"]


class Running:
    """A run of the command in a group of its own, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = b""

    def hear(self, seconds: float) -> bytes:
        """Read for so long, at most until it has ended."""
        ends = time.monotonic() + seconds
        out = self.process.stdout
        assert out
        while (left := ends - time.monotonic()) > 0:
            if select.select([out], [], [], min(left, 0.2))[0]:
                part = os.read(out.fileno(), 65536)
                if not part:
                    break
                self.said += part
        return self.said


@contextmanager
def running(home: Path) -> Iterator[Running]:
    with subprocess.Popen(
        [*COMMAND, "--recipe", "demo"],
        cwd=REPOSITORY,
        env={**os.environ, "ALIGNMENT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def bytes_of_answers(spool: Path) -> int:
    """Return how much is on disk; a file that is renamed meanwhile may be missed."""
    total = 0
    for path in spool.glob("*/*/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_the_demo_killed_five_times_is_complete_and_consistent(
    smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("KILL_SEED") or random.SystemRandom().randrange(1_000_000))
    draw, home = random.Random(seed), tmp_path / "home"
    run = Run(load_recipe("demo"), home)
    told = [f"KILL_SEED={seed}"]
    for number in range(KILLS):
        before = bytes_of_answers(run.spool)
        with running(home) as one:
            one.hear(FIRST_LINE_SECONDS)
            assert one.said, "no line in time"
            if number:
                assert b"was killed and is ended now" in one.said, one.said
            while bytes_of_answers(run.spool) == before:
                assert one.process.poll() is None, one.said
                one.hear(0.2)
            one.hear(draw.uniform(0, 40))
            assert one.process.poll() is None, one.said
            # By turns the command alone, which leaves its engine an orphan, or all at once.
            if number % 2:
                os.killpg(one.process.pid, signal.SIGKILL)
            else:
                one.process.kill()
            one.process.wait()
        told.append(f"killed {number + 1}: {bytes_of_answers(run.spool) - before:,} bytes more")
    with running(home) as one:
        one.hear(FIRST_LINE_SECONDS)
        assert b"was killed and is ended now" in one.said, one.said
        one.hear(4 * 3600)
        assert one.process.wait() == 0, one.said
    inference = default_resources(run)["inference"]
    fingerprints = {model: inference.fingerprint(model, run) for model in run.recipe.models}
    problems = problems_of_home(run, fingerprints)
    with capsys.disabled():
        print("\n" + "\n".join([*told, json.dumps({"problems": problems})]))
    assert problems == []
