"""What fails while assets are made: a block for the user, a log and Dagster's records for the rest.

So is what ends on Ctrl-C. Each test calls the command in a process of its own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from dagster import DagsterEventType

from alignment_assets.assets import graph as graph_module
from alignment_assets.commands.failures import told_in_a_block
from alignment_assets.commands.signals import ended_by_signals
from alignment_assets.commands.terminal import Ended
from alignment_assets.host.expected import Expected
from alignment_assets.inference.backend import Job
from alignment_assets.warehouse.lineage import InconsistentError
from tests.conftest import REPOSITORY, Graph
from tests.support.fakes import FakeInference
from tests.support.processes import PATIENCE, other
from tests.unit.test_foreign_homes import call

MODEL = "smollm2-135m"
COMPLETIONS = ("materialize", "--select", "key:completions", "--partition", MODEL)
PAIRS = ("materialize", "--select", "key:dpo_pairs")
FAILED = "dpo_pairs[smollm2-135m-policy]: nothing was made"


Engine = Callable[[], FakeInference]


def failing(error: Exception) -> FakeInference:
    """Return an engine that gives its answers, and then fails."""

    class Failing(FakeInference):
        def answer(self, job: Job) -> None:
            super().answer(job)
            raise error

    return Failing()


def call_with(pipe: Connection, engine: Engine, home: str, *arguments: str) -> None:
    """Call the command with an engine of ours."""
    graph_module.InferenceByModel = engine  # type: ignore
    call(pipe, home, *arguments)


def called(home: Path, *arguments: str, engine: Engine = FakeInference) -> list[str]:
    """Return the lines of standard error of a command that fails."""
    with other(call_with, engine, str(home), *arguments) as process:
        status, _, errors = process.hear()
    assert status == 1, errors
    return str(errors).splitlines()


def logged(block: list[str]) -> str:
    """Return what the log has that a block names in its last line."""
    return Path(block[-1].removeprefix("  Traceback: ")).read_text(encoding="utf-8")


def test_a_step_that_fails_is_told_in_a_block(tmp_path: Path) -> None:
    block = called(tmp_path / "home", *PAIRS)
    assert len(block) == 3
    assert block[0].startswith(f"error: {FAILED}") and "Materialize first" in block[0]
    assert "What was made and answered before is kept" in block[1]
    assert block[2].startswith(f"  Traceback: {tmp_path / 'home' / 'logs'}/")
    log = logged(block)
    assert (
        log.startswith("Traceback (most recent call last)")
        and f"InconsistentError: {FAILED}" in log
    )


def test_the_traceback_is_printed_when_asked_for(tmp_path: Path) -> None:
    *printed, _, _, named = called(tmp_path / "home", *PAIRS, "--traceback")
    assert printed[0] == "Traceback (most recent call last):"
    assert "\n".join(printed).startswith(logged([named]).rstrip())


def test_the_newest_logs_are_kept(graph: Graph) -> None:
    logs = graph.run.logs
    logs.mkdir(parents=True)
    for day in range(10, 30):
        (logs / f"materialize-202501{day}T000000-1.log").write_text("old")
    (logs / "engine.log").write_text("not ours")
    with pytest.raises(Expected, match="Traceback: ") as told, told_in_a_block(graph.run, False):
        raise KeyError("text")
    kept = sorted(path.name for path in logs.iterdir())
    assert len(kept) == 11 and "engine.log" in kept
    assert "materialize-20250129T000000-1.log" in kept
    assert Path(str(told.value).split("Traceback: ")[1]).name in kept


@pytest.mark.parametrize(
    ("there", "wrong", "said"),
    [
        (
            "dataset: demo/preference_mix.jsonl",
            "dataset: demo/none.jsonl",
            "source_prompts[preference_mix]: prompts.preference_mix (demo/none.jsonl): no file at",
        ),
        (
            "conversation: chosen",
            "conversation: picked",
            "source_prompts[preference_mix]: prompts.preference_mix (demo/preference_mix.jsonl): "
            "no column picked; found are",
        ),
    ],
)
def test_what_a_dataset_lacks_is_told_in_a_block(
    tmp_path: Path, there: str, wrong: str, said: str
) -> None:
    (tmp_path / "demo").symlink_to(REPOSITORY / "recipes" / "demo")
    recipe = tmp_path / "mine.yaml"
    demo = (REPOSITORY / "recipes" / "demo.yaml").read_text(encoding="utf-8")
    recipe.write_text(demo.replace(there, wrong))
    wanted = ("materialize", "--select", "key:source_prompts", "--recipe", str(recipe))
    block = called(tmp_path / "home", *wanted)
    assert len(block) == 3 and block[0].startswith(f"error: {said}")
    assert "SourceError" in logged(block)


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (OSError(28, "No space left on device"), "No space left on device", "is kept"),
        (KeyError("text"), "KeyError: 'text'", "may be a mistake of the product: report it"),
    ],
)
def test_what_the_system_and_the_product_do_wrong_is_told_in_a_block(
    materialized: Callable[..., Graph], error: Exception, said: str, hint: str
) -> None:
    graph = materialized("+key:completion_requests")
    block = called(graph.home, *COMPLETIONS, engine=partial(failing, error))
    assert block[0] == f"error: completions[{MODEL}]: {said}"
    assert len(block) == 3 and hint in block[1]
    assert type(error).__name__ in logged(block)


def test_answers_that_fail_are_told_in_a_block(materialized: Callable[..., Graph]) -> None:
    graph = materialized("+key:completion_requests")
    block = called(graph.home, *COMPLETIONS, engine=partial(FakeInference, context_characters=10))
    assert len(block) == 3
    assert block[0].startswith(f"error: completions[{MODEL}]: ")
    assert "requests failed, more than the recipe's inference.max_failed_share" in block[0]


def test_dagster_is_told_the_message_first_and_keeps_the_traceback(graph: Graph) -> None:
    with pytest.raises(InconsistentError):
        graph.materialize("key:dpo_pairs")
    (run,) = graph.instance.get_runs()
    for kind in (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE):
        (record,) = graph.instance.get_records_for_run(run.run_id, of_type=kind).records
        event = record.event_log_entry.dagster_event
        assert event
        error = event.event_specific_data.error  # type: ignore[union-attr]
        assert error.message.startswith(f"dagster._core.definitions.events.Failure: {FAILED}")
        assert error.cause.cls_name == "InconsistentError"
        assert "warehouse/lineage.py" in "".join(error.cause.stack)


def test_warnings_of_steps_are_short_lines(tmp_path: Path) -> None:
    wanted = ("materialize", "--select", "key:source_prompts", "--partition", "preference_mix")
    with other(call_with, FakeInference, str(tmp_path / "home"), *wanted) as process:
        status, _, errors = process.hear()
    assert status == 0
    (line,) = errors.splitlines()
    assert line.startswith("source_prompts[preference_mix]: malformed (preference_mix): 6 of 48")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_ends_the_command_is_told_what_is_kept(
    materialized: Callable[..., Graph], number: signal.Signals
) -> None:
    graph = materialized("+key:completion_requests")
    before = len(graph.asked())
    slow = partial(FakeInference, log=graph.inference.log, seconds_per_request=0.1)
    with other(call_with, slow, str(graph.home), *COMPLETIONS) as process:
        until = time.monotonic() + PATIENCE
        while len(graph.asked()) < before + 3:
            assert process.process.is_alive() and time.monotonic() < until
            time.sleep(0.05)
        assert process.process.pid
        os.kill(process.process.pid, number)
        status, _, errors = process.hear()
    assert status == 128 + number
    assert errors == (
        f"ended by {number.name}; what was made and answered is kept: run this again to go on\n"
    )
    assert not list((graph.home / "logs").glob("*"))
    ended = len(graph.asked())
    graph.materialize("key:completions", MODEL)
    asked = [request["request_id"] for request in graph.asked()[before:]]
    assert ended - before < len(set(asked))
    assert len(asked) - len(set(asked)) <= 1  # the one that was being answered


def test_a_signal_that_a_library_loses_ends_the_command_before_its_next_part() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Ended, match="ended by SIGINT"), ended_by_signals() as ended:
        ended()
        with suppress(KeyboardInterrupt):  # as Python does while it finalizes an object
            signal.raise_signal(signal.SIGINT)
        ended()
    assert signal.getsignal(signal.SIGINT) is before
