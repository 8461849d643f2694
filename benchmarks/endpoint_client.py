"""How fast, evenly and in how much memory endpoints are driven: work file → client → spool.

Mock endpoints in a process of their own answer as `mock_endpoints` says. Each figure is the median
of rounds in which what is compared takes turns. Promised are

- at lognormal latency, 64 in flight, 98.5% of the ideal rate for 4,000 requests and 97% for 1,000:
  the ideal are 64 slots which are never empty, given the same latencies;
- at no latency 80% of the requests a second of a bare aiohttp loop (asyncio's own, which parses
  bodies and keeps nothing), 60% with 20 log-probabilities in each answer;
- the same slots spread over 128 endpoints take at most 1.2 times the processor time a request;
- lists of requests that share prefixes hit the caches of two and four endpoints 90% as often as
  the cache of one that is asked the whole list, the busiest at most 1.1 times as often as the mean;
- less than 50 MB more memory for 200,000 requests than for 20,000;
- 97% of the rate without answer logs, that is, with answers in files alone, each of which takes
  thousands.

Run it alone on a machine: ``python -m benchmarks.endpoint_client``. Fails where one is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

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
from benchmarks.mock_endpoints import ideal_rate, run_caching, run_plain
from benchmarks.mock_server import served
from benchmarks.report import Claim, conclude, show
from benchmarks.shared_prefixes import LISTS

SLOTS, ROUNDS, ROUND_REQUESTS, MANY = 64, 5, 20_000, 200_000
SHARE_OF_IDEAL = {4_000: 0.985, 1_000: 0.97}
SHARE_OF_BARE = {"generate": 0.8, "weigh": 0.6}
# So many slots are at one endpoint, or spread over so many.
SPREAD_SLOTS, ENDPOINTS, SPREAD_COST = 256, 128, 1.2
PREFIX_SLOTS, SHARE_OF_HITS, BUSIEST = 32, 0.9, 1.1
GROWTH_MB, SHARE_WITHOUT_LOG, RATE = 50.0, 0.97, 2_000.0
QUESTION = "What should one say about this, and why? " * 8
LABELS = [str(number) for number in range(1, 10)]

Row = dict[str, Any]


# -- what is asked ---------------------------------------------------------------------------------


def plain_rows(requests: int, kind: str) -> Iterator[Row]:
    """Yield requests of about 330 characters."""
    sampling = Sampling(max_tokens=256).as_json() if kind == "generate" else "{}"
    for number in range(requests):
        yield {
            "messages": [{"role": "user", "content": f"#{number} {QUESTION}"}],
            "sampling": sampling,
            "labels": LABELS if kind == "weigh" else None,
        }


def listed_rows(name: str) -> Iterator[Row]:
    """Yield the requests of a list with shared prefixes."""
    sampling = Sampling(max_tokens=256).as_json()
    for messages in LISTS[name]():
        yield {"messages": messages, "sampling": sampling, "labels": None}


def write_work(path: Path, rows: Iterator[Row], kind: str) -> int:
    """Write a work file; return how many requests it has."""
    count = 0
    with pq.ParquetWriter(path, REQUEST_SCHEMA, compression="zstd") as writer:
        group: list[Row] = []
        for row in rows:
            group.append({"request_id": f"{count:032d}", "task": kind, "kind": kind, **row})
            count += 1
            if len(group) == ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema=REQUEST_SCHEMA))
                group = []
        writer.write_table(pa.Table.from_pylist(group, schema=REQUEST_SCHEMA))
    return count


# -- the clients, each in a process that has done nothing before -----------------------------------


def ask_all(
    urls: list[str],
    requests: int,
    kind: str = "generate",
    slots: int = SLOTS,
    log: bool = True,
    listed: str | None = None,
) -> tuple[float, float, float]:
    """Have all requests answered; return seconds, the peak of memory in MB, processor seconds."""
    path = find_recipe("demo")
    content = yaml.safe_load(path.read_text("utf-8"))
    content["models"]["mock"] = {
        "weights": "served:mock",
        "billions": 1.0,
        "backend": {"openai": {"urls": urls, "concurrency": slots}},
    }
    recipe = parse_recipe(content, path)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        work, spool = home / "requests.parquet", home / "spool"
        rows = listed_rows(listed) if listed else plain_rows(requests, kind)
        requests = write_work(work, rows, kind)
        progress = Progress("benchmark", requests)
        job = Job(Run(recipe, home), "mock", kind, work, spool, GpuPool(), progress)  # type: ignore[arg-type]
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


def ask_bare(urls: list[str], requests: int, kind: str = "generate") -> tuple[float, float, float]:
    """Have all requests answered by a bare aiohttp client with as many slots."""
    body: Row = {"model": "mock", "messages": [{"role": "user", "content": QUESTION}]}
    body |= Sampling().model_dump() if kind == "generate" else {"logprobs": 1, "top_logprobs": 20}

    async def slot(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for _ in numbers:
            async with session.post(f"{urls[0]}/chat/completions", json=body) as response:
                await response.json()

    async def run() -> None:
        numbers = iter(range(requests))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(slot(session, numbers) for _ in range(SLOTS)))

    started, processor = time.perf_counter(), time.process_time()
    asyncio.run(run())
    return time.perf_counter() - started, 0.0, time.process_time() - processor


def measure(client: str, urls: list[str], requests: int, **options: Any) -> tuple[float, ...]:
    """Return what `ask_all` or `ask_bare` does, from a process of its own."""
    asked = json.dumps([client, {"urls": urls, "requests": requests, **options}])
    command = [sys.executable, "-m", "benchmarks.endpoint_client", "--ask", asked]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(json.loads(printed.splitlines()[-1]))


def alternate(rounds: int, cases: list[Callable[[], tuple[float, ...]]]) -> list[list[Any]]:
    """Measure cases in turns, the order of each round the last one's in reverse."""
    found: list[list[Any]] = [[] for _ in cases]
    for number in range(rounds):
        order = list(range(len(cases)))
        for case in order if number % 2 else reversed(order):
            found[case].append(cases[case]())
    return found


# -- the promises ----------------------------------------------------------------------------------


def measure_latency(rounds: int) -> Iterator[Claim]:
    """Hold the rate at lognormal latency against the ideal one."""
    rows: list[list[object]] = []
    with served(run_plain, True) as urls:
        sizes = list(SHARE_OF_IDEAL)
        cases = [lambda n=n: measure("ours", urls, n) for n in sizes]  # type: ignore[misc]
        for requests, found in zip(sizes, alternate(rounds, cases), strict=True):
            ideal = ideal_rate(requests, SLOTS)
            shares = [requests / seconds / ideal for seconds, *_ in found]
            share = statistics.median(shares)
            rows.append([requests, ideal, share * ideal, share, min(shares), max(shares)])
            yield Claim(
                f"share of the ideal rate, {requests:,} requests at lognormal latency",
                share,
                at_least=SHARE_OF_IDEAL[requests],
            )
    show(
        f"lognormal latency, {SLOTS} in flight",
        ["requests", "ideal, requests/s", "ours", "share", "least", "most"],
        rows,
    )


def measure_rate(rounds: int) -> Iterator[Claim]:
    """Hold the rate at no latency against that of a bare client."""
    rows: list[list[object]] = []
    with served(run_plain, False) as urls:
        for kind, least in SHARE_OF_BARE.items():
            cases = [
                lambda kind=kind: measure("ours", urls, ROUND_REQUESTS, kind=kind),  # type: ignore[misc]
                lambda kind=kind: measure("bare", urls, ROUND_REQUESTS, kind=kind),  # type: ignore[misc]
            ]
            ours, bare = alternate(rounds, cases)
            shares = [theirs[0] / mine[0] for mine, theirs in zip(ours, bare, strict=True)]
            share = statistics.median(shares)
            rate, bare_rate = (ROUND_REQUESTS / _median(found, 0) for found in (ours, bare))
            costs = [_median(found, 2) / ROUND_REQUESTS * 1e6 for found in (ours, bare)]
            rows.append([kind, rate, bare_rate, share, min(shares), max(shares), *costs])
            yield Claim(f"share of the requests/s of bare aiohttp, {kind}", share, at_least=least)
            if kind == "generate":
                yield Claim("requests/s without latency", rate, at_least=RATE)
    show(
        f"{ROUND_REQUESTS:,} requests without latency, {SLOTS} in flight",
        [
            *("kind", "requests/s", "bare aiohttp", "share", "least", "most"),
            *("processor µs/request", "bare"),
        ],
        rows,
    )


def measure_spread(rounds: int) -> Claim:
    """Hold the processor time a request at many endpoints against that at one."""
    with served(run_plain, False) as one, served(run_plain, False, ports=ENDPOINTS) as many:
        cases = [
            lambda urls=urls: measure(  # type: ignore[misc]
                "ours", urls, ROUND_REQUESTS, slots=SPREAD_SLOTS // len(urls)
            )
            for urls in (one, many)
        ]
        found = alternate(rounds, cases)
    ratios = [there[2] / here[2] for here, there in zip(*found, strict=True)]
    ratio = statistics.median(ratios)
    costs = [_median(case, 2) / ROUND_REQUESTS * 1e6 for case in found]
    show(
        f"{ROUND_REQUESTS:,} requests without latency, {SPREAD_SLOTS} in flight",
        ["endpoints", "processor µs/request", "ratio", "least", "most"],
        [[1, costs[0], "", "", ""], [len(many), costs[1], ratio, min(ratios), max(ratios)]],
    )
    name = f"× the processor time a request, {ENDPOINTS} endpoints"
    return Claim(name, ratio, at_most=SPREAD_COST)


def measure_prefixes(rounds: int) -> Iterator[Claim]:
    """Hold hits in the caches of several endpoints against those in one's, list by list."""
    rows: list[list[object]] = []
    least, busiest = 1.0, 1.0
    for name in LISTS:
        alone = 0.0
        for count in (1, 2, 4):
            shares, loads = [], []
            for _ in range(rounds):
                with served(run_caching, ports=count) as urls:
                    measure("ours", urls, 0, slots=PREFIX_SLOTS, listed=name)
                    counts = [_counts(url) for url in urls]
                shares.append(sum(c["hits"] for c in counts) / sum(c["asked"] for c in counts))
                asked = [c["requests"] for c in counts]
                loads.append(max(asked) * count / sum(asked))
            share, load = statistics.median(shares), statistics.median(loads)
            alone = alone or share
            least, busiest = min(least, share / alone), max(busiest, load)
            rows.append([name, count, share, share / alone, load])
    show(
        f"prefixes, {PREFIX_SLOTS} in flight at each endpoint",
        ["requests", "endpoints", "blocks hit", "of one endpoint's", "busiest / mean"],
        rows,
    )
    yield Claim("share of one endpoint's hits, at worst", least, at_least=SHARE_OF_HITS)
    yield Claim("× the mean load, at worst", busiest, at_most=BUSIEST)


def measure_memory() -> Claim:
    """Hold the memory for many requests against that for a few."""
    with served(run_plain, False) as urls:
        _, few, _ = measure("ours", urls, ROUND_REQUESTS)
        seconds, many, _ = measure("ours", urls, MANY)
    show(
        "memory",
        ["requests", "peak MB", "requests/s"],
        [[ROUND_REQUESTS, few, ""], [MANY, many, MANY / seconds]],
    )
    return Claim(f"MB more for {MANY:,} requests", many - few, at_most=GROWTH_MB)


def measure_logs(rounds: int) -> Claim:
    """Hold the rate with answer logs against that without."""
    with served(run_plain, False) as urls:
        cases = [
            lambda log=log: measure("ours", urls, ROUND_REQUESTS, log=log)  # type: ignore[misc]
            for log in (True, False)
        ]
        logs, none = alternate(rounds, cases)
    shares = [without[0] / with_log[0] for with_log, without in zip(logs, none, strict=True)]
    costs = [with_log[2] / without[2] for with_log, without in zip(logs, none, strict=True)]
    share = statistics.median(shares)
    show(
        f"{ROUND_REQUESTS:,} requests without latency, answer logs",
        ["requests/s", "without", "share", "least", "most", "processor time"],
        [
            [
                *(ROUND_REQUESTS / _median(found, 0) for found in (logs, none)),
                *(share, min(shares), max(shares)),
                f"× {statistics.median(costs):.3f}",
            ]
        ],
    )
    return Claim("share of the requests/s without answer logs", share, at_least=SHARE_WITHOUT_LOG)


def _median(found: list[Any], place: int) -> float:
    return statistics.median(values[place] for values in found)


def _counts(url: str) -> dict[str, int]:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/counts") as response:
        counts: dict[str, int] = json.load(response)
    return counts


PROMISES: dict[str, Callable[[int], list[Claim]]] = {
    "latency": lambda rounds: list(measure_latency(rounds)),
    "rate": lambda rounds: list(measure_rate(rounds)),
    "spread": lambda rounds: [measure_spread(rounds)],
    "prefixes": lambda rounds: list(measure_prefixes(rounds)),
    "memory": lambda _: [measure_memory()],
    "logs": lambda rounds: [measure_logs(rounds)],
}


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="in which cases take turns")
    parser.add_argument("--only", choices=PROMISES, action="append", help="measure these alone")
    arguments = parser.parse_args()
    if arguments.ask:
        client, options = json.loads(arguments.ask)
        print(json.dumps({"ours": ask_all, "bare": ask_bare}[client](**options)))
        return
    claims = []
    for name in arguments.only or PROMISES:
        claims += PROMISES[name](arguments.rounds)
    conclude(*claims)


if __name__ == "__main__":
    main()
