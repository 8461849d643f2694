"""Is an answer ever lost, doubled or mixed with another question's, however often a run is killed?

A mock endpoint in a process of its own answers each question with the hash of its messages, and
keeps a record of what it was asked and when it answered. ``alignment-assets materialize`` asks it
2,000 requests; its process group is killed by SIGKILL at 30 random moments and started again.
Promised are

- nothing lost: at the end each request has its own answer; nothing doubled: none is in the spool
  twice;
- no request is asked again whose answer was on disk; what was answered and is not on disk was
  answered in the last 0.25 s before the kill (and a second for the machine to get there);
- the same with 64 in flight and about 400 answers/s, killed when 10%, 20%, … 90% are answered:
  beyond what was in flight no more is asked again than is answered in 0.25 s;
- killed once more, with the system prompts changed before the next run: every answer belongs to
  the new ones, and those whose question is the same are not asked again.

Run it with ``python -m benchmarks.crash``.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from aiohttp import web

from alignment_assets.host.paths import project_folder
from alignment_assets.inference.spool import spool_folder, whole_files
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.model import WORDINGS
from alignment_assets.requests.request_sets import completing
from alignment_assets.warehouse.resource import Warehouse
from benchmarks.mock_server import serve as serve_answers
from benchmarks.report import Claim, conclude, show

MODEL = "mock"
PROMPTS = 1000
CONCURRENCY = 8
KILLS = 30
LONGEST_RUN = 5.0
# So old an answer is at most that is not on disk, and so long the machine may take on top.
DURABLE_SECONDS = 0.25
SLACK = 1.0
# The fast endpoint: so many in flight, so many answers a second.
FAST_CONCURRENCY, FAST_RATE = 64, 400
FAST_SHARES = [number / 10 for number in range(1, 10)]


# -- the endpoint ----------------------------------------------------------------------------------


def key_of(messages: list[dict[str, str]]) -> str:
    """Return what names a question, and is its answer."""
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()


def serve(pipe: Connection, fast: bool) -> None:
    """Run the mock endpoint; tells its port."""
    asked: list[list[Any]] = []
    draw = random.Random(0)
    answered: set[str] = set()
    mean = FAST_CONCURRENCY / FAST_RATE

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/record":
            return web.json_response(asked)
        if request.path == "/answered":
            return web.json_response(len(answered))
        if request.method == "GET":
            return web.json_response({"data": [{"id": MODEL, "owned_by": "benchmark"}]})
        body = json.loads(await request.read())
        text = key_of(body["messages"])
        record = [text, time.monotonic(), None]
        asked.append(record)
        if "response_format" in body:
            text = json.dumps({"reasoning": text, "classification": "0"})
        elif fast:
            await asyncio.sleep(draw.uniform(0.5 * mean, 1.5 * mean))
        else:
            await asyncio.sleep(min(3.0, draw.lognormvariate(-1.0, 0.6)))
        record[2] = time.monotonic()
        answered.add(record[0])
        choice = {"index": 0, "finish_reason": "stop", "message": {"content": text}}
        usage = {"prompt_tokens": 90, "completion_tokens": 10}
        return web.json_response({"choices": [choice], "usage": usage})

    serve_answers(answer, pipe)


@contextmanager
def endpoint(fast: bool = False) -> Iterator[str]:
    """Have the mock endpoint and its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, fast), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


def answered_by(address: str) -> int:
    """Return how many questions the endpoint has answered."""
    with urllib.request.urlopen(f"{address}/answered") as response:
        return int(response.read())


def record_of(address: str) -> list[tuple[str, float, float | None]]:
    """Return what the endpoint was asked: key, when, and when it had the answer."""
    with urllib.request.urlopen(f"{address}/record") as response:
        return [tuple(entry) for entry in json.load(response)]


# -- the runs --------------------------------------------------------------------------------------


class Project:
    """A recipe of 1,000 prompts whose models are all the mock, and its database and spool."""

    def __init__(self, folder: Path, address: str, concurrency: int) -> None:
        self.home = folder / "home"
        self.wordings = folder / "wordings"
        self.recipe = folder / "crash.yaml"
        shutil.copytree(WORDINGS, self.wordings)
        shutil.copytree(project_folder("recipes") / "demo", folder / "demo")
        content = yaml.safe_load((project_folder("recipes") / "demo.yaml").read_text("utf-8"))
        mock = {
            "weights": "served:mock",
            "billions": 1.0,
            "backend": {"openai": {"urls": [f"{address}/v1"], "concurrency": concurrency}},
        }
        content |= {
            "name": "crash",
            "wordings": "wordings",
            "models": {MODEL: mock, "policy": mock},
        }
        content["controversy"]["model"] = MODEL
        content["completions"] |= {"models": [MODEL], "policies": ["policy"]}
        content["completions"] |= {"standard_charter_models": []}
        content["rewards"]["comparison_judge"] = MODEL
        for track in ("standard", "controversial"):
            content["rewards"][track]["model"] = MODEL
        content["prompts"] = content["prompts"][:1]
        self.recipe.write_text(yaml.safe_dump(content), "utf-8")
        turns = ("user", "assistant")
        rows = [
            {
                "source": "benchmark",
                "id": str(number),
                "url": None,
                "chosen": [{"role": r, "content": f"What is {number} good for?"} for r in turns],
            }
            for number in range(PROMPTS)
        ]
        mix = folder / "demo" / "preference_mix.jsonl"
        mix.write_text("\n".join(map(json.dumps, rows)), "utf-8")

    def start(self, select: str, *more: str) -> subprocess.Popen[bytes]:
        """Start the command in a process group of its own."""
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "alignment_assets.commands.app",
            "materialize",
        ]
        return subprocess.Popen(
            [*command, "--recipe", str(self.recipe), "--select", select, *more],
            env={
                **{name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"},
                "ALIGNMENT_HOME": str(self.home),
            },
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "stderr.log").open("ab"),
            start_new_session=True,
        )

    def make(self, select: str, *more: str) -> None:
        """Run the command to its end."""
        if self.start(select, *more).wait():
            raise SystemExit((self.home / "stderr.log").read_text("utf-8")[-3000:])

    def on_disk(self) -> list[str]:
        """Return the answers in the spool, doubled ones as often as they are there.

        A copy is read: what dead writers left in their logs is for the next run to find.
        """
        folder = spool_folder(self.home / "spool", "completions", MODEL)
        if not folder.exists():
            return []
        with tempfile.TemporaryDirectory(dir=self.home) as name:
            copied = shutil.copytree(folder, Path(name) / "copy")
            return [
                text
                for file in whole_files(copied)
                for text in pq.read_table(file, columns=["text"])[0].to_pylist()
            ]

    def expected(self) -> dict[str, str]:
        """Return the answer that each completion should have."""
        (asked,) = completing(load_recipe(str(self.recipe)), str, MODEL)
        with Warehouse(database=str(self.home / "alignment.duckdb")).read() as connection:
            rows = connection.execute(
                f"SELECT completion_id, messages FROM ({asked.sql}\n)", asked.values
            ).fetchall()
        return {completion_id: key_of(messages) for completion_id, messages in rows}

    def completions(self) -> dict[str, str]:
        """Return the answer that each completion has."""
        query = "SELECT completion_id, text FROM completions WHERE model = $model"
        with Warehouse(database=str(self.home / "alignment.duckdb")).read() as connection:
            return dict(connection.execute(query, {"model": MODEL}).fetchall())


COMPLETIONS = ("key:completions", "--partition", MODEL)


def kill_when(
    project: Project, address: str, due: Callable[[], bool]
) -> tuple[float | None, list[tuple[str, float, float | None]]]:
    """Start a run, kill it when that is due; return when it was, and what it asked.

    A run that ends before is not killed: None.
    """
    before = len(record_of(address))
    run = project.start(*COMPLETIONS)
    while run.poll() is None and not due():
        time.sleep(0.02)
    killed_at = time.monotonic() if run.poll() is None else None
    if killed_at is not None:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    elif run.returncode:
        raise SystemExit((project.home / "stderr.log").read_text("utf-8")[-3000:])
    time.sleep(0.5)  # for the endpoint to note what was on its way
    return killed_at, record_of(address)[before:]


def kill_after(
    project: Project, address: str, seconds: float
) -> tuple[float | None, list[tuple[str, float, float | None]]]:
    """Do what `kill_when` does, that long after the run's first request."""
    before, deadline = len(record_of(address)), 0.0

    def due() -> bool:
        nonlocal deadline
        if not deadline and len(record_of(address)) > before:
            deadline = time.monotonic() + seconds
        return bool(deadline) and time.monotonic() >= deadline

    return kill_when(project, address, due)


class Tally:
    """What the kills cost."""

    def __init__(self) -> None:
        self.again = self.not_on_disk = self.most_unflushed = self.asked_though_on_disk = 0
        self.kills = self.most_again = self.most_beyond_flight = 0
        self.oldest_unflushed = 0.0
        self._seen: set[str] = set()
        self._in_flight = 0  # when the run before was killed

    def add(
        self,
        known: set[str],
        now: set[str],
        asked: list[tuple[str, float, float | None]],
        killed_at: float,
    ) -> None:
        """Count one killed run.

        Args:
            known: answers on disk before it.
            now: answers on disk after it.
            asked: what it asked.
            killed_at: when it was killed.
        """
        self.kills += 1
        keys = {key for key, _, _ in asked}
        self.asked_though_on_disk += len(keys & known)
        self._count_again(keys)
        unflushed = [
            killed_at - done
            for key, _, done in asked
            if done is not None and done < killed_at and key not in now
        ]
        self.not_on_disk += len(keys - now)
        self._in_flight = sum(done is None or done >= killed_at for _, _, done in asked)
        self.most_unflushed = max(self.most_unflushed, len(unflushed))
        self.oldest_unflushed = max([self.oldest_unflushed, *unflushed])

    def finish(self, keys: set[str], known: set[str]) -> None:
        """Count the run that ended: what it asked, and which answers were on disk before it."""
        self.asked_though_on_disk += len(keys & known)
        self._count_again(keys)

    def _count_again(self, keys: set[str]) -> None:
        again = len(keys & self._seen)
        self.again += again
        self.most_again = max(self.most_again, again)
        self.most_beyond_flight = max(self.most_beyond_flight, again - self._in_flight)
        self._seen |= keys


def kill_often(project: Project, address: str, kills: int, draw: random.Random) -> Tally:
    """Kill runs again and again, then let one end; every answer must be there."""
    tally = Tally()
    for number in range(kills):
        known = set(project.on_disk())
        killed_at, asked = kill_after(project, address, draw.uniform(0.0, LONGEST_RUN))
        if killed_at is None:
            break
        now = set(project.on_disk())
        tally.add(known, now, asked, killed_at)
        print(f"kill {number + 1}: {len(now):,} answers on disk", flush=True)
    known = set(project.on_disk())
    before = len(record_of(address))
    project.make(*COMPLETIONS)
    tally.finish({key for key, _, _ in record_of(address)[before:]}, known)
    return tally


def kill_at_shares(project: Project, address: str, total: int) -> Tally:
    """Kill runs as shares of all requests are answered, then let one end."""
    tally, before = Tally(), answered_by(address)  # the grader has been asked
    for share in FAST_SHARES:
        known, enough = set(project.on_disk()), before + share * total

        def due(enough: float = enough) -> bool:
            return answered_by(address) >= enough

        killed_at, asked = kill_when(project, address, due)
        if killed_at is None:
            break
        now = set(project.on_disk())
        tally.add(known, now, asked, killed_at)
        print(f"killed at {share:.0%}: {len(now):,} answers on disk", flush=True)
    known = set(project.on_disk())
    before = len(record_of(address))
    project.make(*COMPLETIONS)
    tally.finish({key for key, _, _ in record_of(address)[before:]}, known)
    return tally


def check_fast_endpoint() -> list[Claim]:
    """Kill runs on the fast endpoint; show what it cost."""
    with tempfile.TemporaryDirectory() as folder, endpoint(fast=True) as address:
        project = Project(Path(folder), address, FAST_CONCURRENCY)
        project.home.mkdir()
        project.make("+key:completion_requests")
        total = len(project.expected())
        tally = kill_at_shares(project, address, total)
        expected, made, spooled = project.expected(), project.completions(), project.on_disk()
    lost = sum(made.get(one) != text for one, text in expected.items())
    show(
        f"{total:,} requests, {tally.kills} SIGKILLs, {FAST_CONCURRENCY} in flight, about "
        f"{FAST_RATE} answers/s",
        ["", "requests"],
        [
            ["asked again, in all", tally.again],
            ["asked again, at worst after one kill", tally.most_again],
            ["answered but not on disk, at worst", tally.most_unflushed],
            ["the oldest of them, seconds", tally.oldest_unflushed],
        ],
    )
    return [
        Claim("fast: SIGKILLs", tally.kills, at_least=len(FAST_SHARES)),
        Claim("fast: lost or with another's answer", lost, at_most=0),
        Claim("fast: doubled", len(spooled) - len(set(spooled)), at_most=0),
        Claim("fast: asked again though on disk", tally.asked_though_on_disk, at_most=0),
        Claim(
            "fast: asked again at worst, beyond what was in flight",
            tally.most_beyond_flight,
            at_most=DURABLE_SECONDS * FAST_RATE,
        ),
    ]


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast-alone", action="store_true", help="the fast endpoint alone")
    arguments = parser.parse_args()
    fast = check_fast_endpoint()
    if arguments.fast_alone:
        conclude(*fast)
        return
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder, endpoint() as address:
        project = Project(Path(folder), address, CONCURRENCY)
        project.home.mkdir()
        project.make("+key:completion_requests")
        tally = kill_often(project, address, arguments.kills, draw)
        expected, made, spooled = project.expected(), project.completions(), project.on_disk()
        lost = sum(made.get(one) != text for one, text in expected.items())
        doubled = len(spooled) - len(set(spooled))

        project.make("key:completions", "--partition", MODEL)  # asks nothing
        changed, mixed, wasted = change_prompts_after_a_kill(project, address)
    show(
        f"{len(expected):,} requests, {tally.kills} SIGKILLs, {CONCURRENCY} in flight",
        ["", "requests"],
        [
            ["asked again, in all", tally.again],
            ["  of those in flight or not yet on disk when killed", tally.not_on_disk],
            ["answered but not on disk, at worst", tally.most_unflushed],
        ],
    )
    conclude(
        Claim("requests", len(expected), at_least=2 * PROMPTS),
        Claim("SIGKILLs", tally.kills, at_least=arguments.kills),
        Claim("lost or with another's answer", lost, at_most=0),
        Claim("doubled", doubled, at_most=0),
        Claim("asked again though on disk", tally.asked_though_on_disk, at_most=0),
        Claim(
            "asked again beyond what was in flight or unflushed",
            max(0, tally.again - tally.not_on_disk),
            at_most=0,
        ),
        Claim(
            "unflushed at worst, seconds",
            tally.oldest_unflushed,
            at_most=DURABLE_SECONDS + SLACK,
        ),
        Claim("questions with a changed system prompt", changed, at_least=PROMPTS),
        Claim("answers to the old system prompt after the change", mixed, at_most=0),
        Claim("asked again though their question is the same", wasted, at_most=0),
        *fast,
    )


def change_prompts_after_a_kill(project: Project, address: str) -> tuple[int, int, int]:
    """Change the system prompts, kill a run, change them again, and run to the end.

    Returns how many questions changed, how many answers do not belong to the last prompts, and how
    many requests were asked that had their answer.
    """
    upstream = "key:wordings or key:completion_requests"
    rewrite_principles(project.wordings, "First")
    project.make(upstream)
    old = project.expected()
    kill_after(project, address, LONGEST_RUN)
    rewrite_principles(project.wordings, "Second")
    project.make(upstream)
    known, before = set(project.on_disk()), len(record_of(address))
    project.make(*COMPLETIONS)
    asked = [key for key, _, _ in record_of(address)[before:]]
    expected, made = project.expected(), project.completions()
    changed = sum(old[one] != text for one, text in expected.items())
    mixed = sum(made.get(one) != text for one, text in expected.items())
    return changed, mixed, len(known & set(asked)) + len(asked) - len(set(asked))


def rewrite_principles(wordings: Path, word: str) -> None:
    """Put other texts in place of all wordings of the principles."""
    file = wordings / "principles.yaml"
    principles = yaml.safe_load(file.read_text("utf-8"))
    other = {
        name: [f"{word} wording {number} of {name}." for number, _ in enumerate(texts)]
        for name, texts in principles.items()
    }
    file.write_text(yaml.safe_dump(other), "utf-8")


if __name__ == "__main__":
    main()
