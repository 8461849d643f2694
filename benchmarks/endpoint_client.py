"""How fast and in how much memory endpoints are driven: work file → `OpenAIInference` → spool.

A mock endpoint in a process of its own answers after a latency that depends on the request alone:
lognormal (median 0.1 s, sigma 0.8, at most 3 s), or none. Promised are

- 93% of the ideal rate: that of 64 slots which are never empty, given the same latencies;
- more than 2,000 requests a second at no latency;
- less than 50 MB more memory for 200,000 requests than for 10,000;
- 97% of the rate without answer logs, that is, with answers in files alone, each of which takes
  thousands: the median of rounds in which both are measured, in turns.

Run it alone on a machine: ``python -m benchmarks.endpoint_client``. Fails where one is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import json
import multiprocessing
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from aiohttp import web

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Job
from alignment_assets.inference.backends.openai.backend import OpenAIInference
from alignment_assets.inference.log_writer import LogWriter
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import REQUEST_SCHEMA
from alignment_assets.inference.work_queue import ROW_GROUP
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.stages import Sampling
from benchmarks.mock_server import serve as serve_answers
from benchmarks.report import Claim, conclude, show

REQUESTS, MANY, SLOTS = 10_000, 200_000, 64
SHARE_OF_IDEAL, RATE, GROWTH_MB, SHARE_WITHOUT_LOG = 0.93, 2_000, 50, 0.97
ROUNDS, ROUND_REQUESTS = 7, 10_000
TEXT = "An answer of about the length that a short one has. " * 8
QUESTION = "What should one say about this, and why? " * 8


def latency(number: int) -> float:
    """Return the seconds that the mock takes for a request: lognormal, the same in any process."""
    return min(3.0, random.Random(f"2025/{number}").lognormvariate(-2.302585, 0.8))


def ideal_rate(requests: int) -> float:
    """Return requests a second if each slot takes the next one as it gets free."""
    free = [0.0] * SLOTS
    for number in range(requests):
        heapq.heapreplace(free, free[0] + latency(number))
    return requests / max(free)


# -- the endpoint ----------------------------------------------------------------------------------

ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": TEXT}}],
        "usage": {"prompt_tokens": 90, "completion_tokens": 100},
    }
).encode()
MODELS = json.dumps({"data": [{"id": "mock", "owned_by": "benchmark"}]}).encode()
NUMBER = re.compile(rb"#(\d+)")


def serve(pipe: Connection, slow: bool) -> None:
    """Run the mock endpoint; tells its port."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.Response(body=MODELS, content_type="application/json")
        content = await request.read()
        if slow and (found := NUMBER.search(content)):
            await asyncio.sleep(latency(int(found[1])))
        return web.Response(body=ANSWER, content_type="application/json")

    serve_answers(answer, pipe)


@contextmanager
def endpoint(slow: bool) -> Iterator[str]:
    """Have a mock endpoint and its url."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, slow), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.kill()
        process.join()


# -- the clients -----------------------------------------------------------------------------------


def write_work(path: Path, requests: int) -> None:
    """Write a work file of prompts of about 330 characters."""
    sampling = Sampling(max_tokens=256).as_json()
    with pq.ParquetWriter(path, REQUEST_SCHEMA, compression="zstd") as writer:
        for first in range(0, requests, ROW_GROUP):
            numbers = range(first, min(first + ROW_GROUP, requests))
            rows = [
                {
                    "request_id": f"{number:032d}",
                    "task": "generate",
                    "kind": "generate",
                    "messages": [{"role": "user", "content": f"#{number} {QUESTION}"}],
                    "sampling": sampling,
                }
                for number in numbers
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA))


def ask_all(url: str, requests: int, log: bool = True) -> tuple[float, float, float]:
    """Have all requests answered; return seconds, the peak of memory in MB, processor seconds."""
    path = find_recipe("demo")
    content = yaml.safe_load(path.read_text("utf-8"))
    content["models"]["mock"] = {
        "weights": "served:mock",
        "billions": 1.0,
        "backend": {"openai": {"urls": [url], "concurrency": SLOTS}},
    }
    recipe = parse_recipe(content, path)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        work, spool = home / "requests.parquet", home / "spool"
        write_work(work, requests)
        progress = Progress("benchmark", requests)
        run = Run(recipe, home)
        job = Job(run, "mock", "generate", work, spool, GpuPool(), progress)
        no_log = patch.object(LogWriter, "_append", lambda *_: None)
        started, processor = time.perf_counter(), time.process_time()
        with contextlib.nullcontext() if log else no_log:
            OpenAIInference().answer(job)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        answered = sum(pq.read_metadata(file).num_rows for file in spool.glob("*.parquet"))
    if answered != requests or progress.failed:
        sys.exit(f"{answered} of {requests} answered, {progress.failed} failed")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return seconds, int(peak[1]) / 1e3 if peak else float("nan"), processor


def ask_bare(url: str, requests: int) -> float:
    """Return the seconds of a bare aiohttp client with as many slots, which keeps nothing."""
    message = {"role": "user", "content": QUESTION}
    body = {"model": "mock", "messages": [message], **Sampling().model_dump()}

    async def slot(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for _ in numbers:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

    async def run() -> None:
        numbers = iter(range(requests))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(slot(session, numbers) for _ in range(SLOTS)))

    started = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - started


def measure(url: str, requests: int, log: bool = True) -> tuple[float, float, float]:
    """Return what `ask_all` does, from a process that has done nothing before."""
    command = [sys.executable, "-m", "benchmarks.endpoint_client", "--ask", url, str(requests)]
    command += [] if log else ["--without-log"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, megabytes, processor = json.loads(printed.splitlines()[-1])
    return seconds, megabytes, processor


def measure_logs(url: str, rounds: int) -> float:
    """Show the rate with answer logs and without, round by round; return the median share."""
    rows: list[list[object]] = []
    shares, processor_shares = [], []
    for number in range(rounds):
        found = {}
        for log in (True, False) if number % 2 else (False, True):
            seconds, _, processor = measure(url, ROUND_REQUESTS, log)
            found[log] = ROUND_REQUESTS / seconds, processor / ROUND_REQUESTS * 1e6
        shares.append(found[True][0] / found[False][0])
        processor_shares.append(found[True][1] / found[False][1])
        print(f"round {number}: {shares[-1]:.3f} of the rate without answer logs", flush=True)
        rows.append(
            [number, found[True][0], found[False][0], shares[-1], found[True][1], found[False][1]]
        )
    share, more = statistics.median(shares), statistics.median(processor_shares)
    rows.append(["median of shares", "", "", share, f"× {more:.3f}", ""])
    show(
        f"{ROUND_REQUESTS:,} requests without latency, a round",
        ["", "requests/s with log", "without", "share", "processor µs/request with", "without"],
        rows,
    )
    return share


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", nargs=2, metavar=("URL", "REQUESTS"), help=argparse.SUPPRESS)
    parser.add_argument("--without-log", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="with answer logs and without")
    parser.add_argument("--logs-alone", action="store_true", help="measure nothing but these")
    arguments = parser.parse_args()
    if arguments.ask:
        url, requests = arguments.ask
        print(json.dumps(ask_all(url, int(requests), not arguments.without_log)))
        return
    with endpoint(slow=False) as url:
        with_logs = Claim(
            "share of the requests/s without answer logs",
            measure_logs(url, arguments.rounds),
            at_least=SHARE_WITHOUT_LOG,
        )
    if arguments.logs_alone:
        conclude(with_logs)
        return
    ideal = ideal_rate(REQUESTS)
    with endpoint(slow=True) as url:
        seconds, memory, _ = measure(url, REQUESTS)
    share = REQUESTS / seconds / ideal
    rows: list[list[object]] = [["lognormal latency", REQUESTS / seconds, memory]]
    with endpoint(slow=False) as url:
        rows.append(["no latency, bare aiohttp", REQUESTS / ask_bare(url, REQUESTS), ""])
        seconds, memory, _ = measure(url, REQUESTS)
        rate = REQUESTS / seconds
        rows.append(["no latency", rate, memory])
        seconds, peak, _ = measure(url, MANY)
        rows.append([f"no latency, {MANY:,}", MANY / seconds, peak])
    show(f"{REQUESTS:,} requests", ["", "requests/s", "peak MB"], rows)
    conclude(
        Claim(f"share of the ideal {ideal:,.0f} requests/s", share, at_least=SHARE_OF_IDEAL),
        Claim("requests/s without latency", rate, at_least=float(RATE)),
        Claim(f"MB more for {MANY:,} requests", peak - memory, at_most=float(GROWTH_MB)),
        with_logs,
    )


if __name__ == "__main__":
    main()
