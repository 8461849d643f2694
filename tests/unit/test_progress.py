"""What people see while a command works: on a terminal, in a file, in a run's log."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from alignment_assets.commands import progress as shown_by
from alignment_assets.commands.progress import shown_progress
from alignment_assets.inference import progress as told_by
from alignment_assets.inference.progress import Progress, ProgressLog, listeners, told_while_loading
from tests.conftest import Graph
from tests.support.fakes import FakeInference


def console_of(terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=160, force_terminal=terminal, color_system=None)


def printed(console: Console) -> str:
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def live(console: Console) -> str:
    """Return what stands on a terminal now."""
    (display,) = console._live_stack
    seen = console_of(True)
    seen.print(display.get_renderable())
    return printed(seen)


def test_a_terminal_shows_assets_and_requests_done_of_all() -> None:
    console = console_of(True)
    with shown_progress(console, 8) as shown:
        shown.began("completion_requests, completions [qwen3-14b]")
        assert "0/8" in live(console) and "completions [qwen3-14b]" in live(console)
        progress = Progress("completions[qwen3-14b]", 40, reused=5)
        listeners[-1](progress)
        assert "loading the model for 40 requests (5 answered before)" in live(console)
        progress.answering()
        progress.done, progress.completion_tokens = 10, 500
        listeners[-1](progress)
        assert "10/40" in live(console)
        assert "tokens/s out" in live(console) and "ETA" in live(console)
        progress.done = 40
        progress.finish()
        listeners[-1](progress)
        shown.ended(2)
        assert "2/8" in live(console) and "40/40" not in live(console)
    assert "completions[qwen3-14b]: 40/40 done" in printed(console)
    assert listeners == []


def test_without_a_terminal_there_is_a_line_every_so_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console, now = console_of(False), [100.0]
    monkeypatch.setattr(shown_by.time, "monotonic", lambda: now[0])
    with shown_progress(console, 1):
        progress = Progress("completions[small]", 100)
        progress.answering()
        for second in range(70):
            now[0] = 100.0 + second
            progress.done = 1 + second
            listeners[-1](progress)
    lines = printed(console).splitlines()
    assert [line.split("/")[0].rsplit(" ", 1)[1] for line in lines] == ["1", "31", "61"]


def test_a_log_hears_of_an_engine_that_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_by, "LOADING_SECONDS", 0.02)
    log: list[str] = []
    progress = Progress("completions[large]", 7)
    with told_while_loading(progress, ProgressLog(log.append)):
        deadline = time.monotonic() + 10
        while len(log) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(log) >= 3
        progress.answering()
        time.sleep(0.1)
        heard = len(log)
        time.sleep(0.1)
    assert len(log) == heard  # who answers tells of it
    assert all("loading the model for 7 requests" in line for line in log[:3])


def test_the_log_of_a_run_hears_of_it_too(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_by, "LOADING_SECONDS", 0.05)
    answer = FakeInference.answer

    def loads_long(self: FakeInference, job: Any) -> None:
        time.sleep(0.3)
        answer(self, job)

    monkeypatch.setattr(FakeInference, "answer", loads_long)
    lines: list[str] = []
    monkeypatch.setattr(
        told_by.ProgressLog, "__call__", lambda self, progress: self._log(progress.line())
    )
    graph.materialize("not (key:controversy_labels+)")
    (result,) = graph.materialize("key:controversy_labels")
    lines += [
        record.user_message
        for record in graph.instance.all_logs(result.run_id)
        if record.user_message
    ]
    assert len([line for line in lines if "loading the model" in line]) >= 3
