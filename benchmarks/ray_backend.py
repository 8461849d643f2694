"""What does Ray cost on one host: at a real engine, and at engines that answer at once?

``chats``: the demo's model answers by the backend ``vllm`` and by ``ray`` on a Ray of the step's
own, with the same settings, in turns; loading is left out. ``ray`` has to write 0.9 of the tokens/s
of ``vllm`` (medians), from the first request in the engine to the last answer, and from when the
engine is ready until the step goes on, which is what a run's progress tells.

``spool``: mock engines in two actors answer 100,000 short chats. Once answers go into the spool,
once they are counted alone, in turns, by the same driver; seconds are from the first answer to the
last, and until all are in files. With the spool it has to be half of the requests/s of without
(medians). For 100,000 requests driver and actors may take 32 MiB more than for 20,000, and Ray two
processes more.

Run it alone on a machine that has Ray (``make ray``): ``python -m benchmarks.ray_backend``, or with
the name of one of the two.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.backends.ray.backend import RayInference, environment_of_own
from alignment_assets.inference.backends.vllm.backend import VllmInference, close_engines
from alignment_assets.inference.progress import Progress
from alignment_assets.inference.types import REQUEST_SCHEMA
from alignment_assets.inference.work_queue import ROW_GROUP
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.model import Sampling
from alignment_assets.recipe.run import Run
from benchmarks.engine_window import MODEL, TOPICS
from benchmarks.ray_driver import ACTOR, COUNT, KINDS, MockDriver, Watch
from benchmarks.report import Claim, conclude, show

SHARE_OF_VLLM, SHARE_WITHOUT_SPOOL, GROWTH_MB = 0.9, 0.5, 32.0
GROWTH_PROCESSES = 2
SEQUENCES, MAX_TOKENS, REPLICAS = 64, 64, 2
FEW, MANY = 20_000, 100_000
QUESTION = "What should one say about this, and why? " * 7


def write_work(path: Path, texts: Iterator[str]) -> int:
    """Write a work file of one question each; return how many."""
    sampling = json.dumps(Sampling(max_tokens=MAX_TOKENS).model_dump())
    rows = [
        {
            "request_id": str(uuid.UUID(int=number)),
            "task": "generate",
            "kind": "generate",
            "messages": [{"role": "user", "content": text}],
            "sampling": sampling,
        }
        for number, text in enumerate(texts)
    ]
    table = pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)
    pq.write_table(table, path, compression="zstd", row_group_size=ROW_GROUP)
    return len(rows)


# -- a real engine ---------------------------------------------------------------------------------


def ask_model(backend: str, home: Path, chats: int, number: int) -> dict[str, Any]:
    """Have the demo's model answer by a backend; say how that went."""
    path = find_recipe("demo")
    options = {"max_num_seqs": SEQUENCES, "dtype": "float32"}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["models"][MODEL] |= {"backend": {backend: options}}
    folder = Path(tempfile.mkdtemp(dir=home))
    texts = (
        f"{at} of round {number}: tell me about {TOPICS[at % len(TOPICS)]}." for at in range(chats)
    )
    progress = Progress(backend, write_work(folder / "work.parquet", texts))
    run = Run(parse_recipe(content, path), home)
    job = Job(
        *(run, MODEL, "generate", folder / "work.parquet", folder / "spool", GpuPool(), progress)
    )
    inference: Inference = RayInference() if backend == "ray" else VllmInference()
    inference.answer(job)
    progress.finish()
    close_engines()
    columns = ["answered_at", "seconds", "completion_tokens"]
    answers = pq.read_table(folder / "spool", columns=columns).to_pylist()
    assert len(answers) == progress.done == chats and not progress.failed
    tokens = sum(answer["completion_tokens"] for answer in answers)
    ends = [answer["answered_at"].timestamp() for answer in answers]
    starts = [end - answer["seconds"] for end, answer in zip(ends, answers, strict=True)]
    return {
        "": f"{backend}, round {number}",
        "tokens": tokens,
        "loading, s": progress.seconds_loading,
        "answering and ending, s": progress.seconds,
        "first request to last answer, s": max(ends) - min(starts),
        "tokens/s": tokens / (max(ends) - min(starts)),
        "with ending": progress.output_tokens_per_second,
    }


def compare_backends(chats: int, rounds: int) -> list[Claim]:
    """Ask by both backends in turns."""
    found: dict[str, list[dict[str, Any]]] = {"vllm": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for backend in list(found) if number % 2 == 0 else reversed(found):
                found[backend].append(ask_model(backend, Path(folder), chats, number))
                print(json.dumps(found[backend][-1]), flush=True)
    rows = [row for each in found.values() for row in each]
    show(f"{chats} chats of {MODEL}", list(rows[0]), [list(row.values()) for row in rows])

    def share(column: str) -> float:
        ours, theirs = (
            statistics.median(row[column] for row in found[backend]) for backend in ("ray", "vllm")
        )
        return float(ours / theirs)

    return [
        Claim(f"ray / vllm, {column}", share(column), at_least=SHARE_OF_VLLM)
        for column in ("tokens/s", "with ending")
    ]


# -- mock engines ----------------------------------------------------------------------------------


def ask_mocks(requests: int, *, spooled: bool) -> dict[str, Any]:
    """Have mock engines answer requests; say how that went."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = folder / "work.parquet"
        write_work(work, (f"#{at} {QUESTION}" for at in range(requests)))
        watch = Watch()
        watch.start()
        environment = {"RAY_USAGE_STATS_ENABLED": "0", **environment_of_own()}
        driver = MockDriver("mock", folder / "logs", environment)
        place = {"address": None, "gpus": 1, "pipeline_parallel_size": 1, "accelerator_type": None}
        settings = {
            **{"location": "nowhere", "limits": "{}", "max_num_seqs": SEQUENCES},
            "engine_arguments": {"spooled": spooled},
        }
        command = {
            **{"do": "answer", "requests": str(work), "spool": str(folder / "spool")},
            **{"alone": False, "settings": settings},
            "place": {**place, "replicas": (REPLICAS, REPLICAS)},
        }
        for event in driver.ask(command, until="done", silence=600):
            print(json.dumps(event), file=sys.stderr)
        driver.close()
        watch.stop()
        notes = [json.loads(path.read_text()) for path in folder.glob("*.json")]
        assert sum(note["answers"] for note in notes) == requests
        if spooled:
            ids = pq.read_table(folder / "spool", columns=["request_id"])["request_id"]
            assert len(ids) == len(ids.unique()) == requests
    first, last = min(note["first"] for note in notes), max(note["last"] for note in notes)
    spent = watch.processor(first, last)
    seconds = last - first + max(note["closing"] for note in notes)
    return {
        "": f"{requests:,}, {'spooled' if spooled else 'counted'}",
        "seconds": seconds,
        "of them closing": max(note["closing"] for note in notes),
        "requests/s": requests / seconds,
        "actors, CPU s": sum(note["processor"] for note in notes) / requests * 1000,
        "all": sum(spent.values()) / requests * 1000,
        **{kind: seconds / requests * 1000 for kind, seconds in spent.items() if kind != ACTOR},
        "peaks": watch.peaks,
    }


def compare_spool(requests: int, rounds: int) -> list[Claim]:
    """Ask with the spool and without it in turns, and fewer with it."""
    few = ask_mocks(FEW, spooled=True)
    found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for number in range(rounds):
        for spooled in (True, False) if number % 2 == 0 else (False, True):
            found[spooled].append(ask_mocks(requests, spooled=spooled))
            print(json.dumps(found[spooled][-1]), flush=True)
    rows = [few, *found[True], *found[False]]
    title = f"mock engines in {REPLICAS} actors; CPU s a thousand requests"
    columns = list(few)[:-1]
    show(title, columns, [[row[column] for column in columns] for row in rows])
    sides = {f"{FEW:,}, spooled": [few], f"{requests:,}, spooled": found[True]}
    sides |= {f"{requests:,}, counted": found[False]}
    peaks = [
        [side, *(max(row["peaks"].get(kind, 0.0) for row in each) for kind in (*KINDS, COUNT))]
        for side, each in sides.items()
    ]
    show("peak memory of the largest, MiB; how many", ["", *KINDS, COUNT], peaks)
    speeds = {
        spooled: statistics.median(row["requests/s"] for row in found[spooled]) for spooled in found
    }
    growth = max(most - least for least, most in zip(peaks[0][1:3], peaks[1][1:3], strict=True))
    share = speeds[True] / speeds[False]
    return [
        Claim("with the spool / without, requests/s", share, at_least=SHARE_WITHOUT_SPOOL),
        Claim("more memory of driver or actor, MiB", growth, at_most=GROWTH_MB),
        Claim("more processes", peaks[1][-1] - peaks[0][-1], at_most=GROWTH_PROCESSES),
    ]


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("chats", "spool"))
    parser.add_argument("--chats", type=int, default=300)
    parser.add_argument("--requests", type=int, default=MANY)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    claims = []
    if arguments.part != "spool":
        claims += compare_backends(arguments.chats, arguments.rounds)
    if arguments.part != "chats":
        claims += compare_spool(arguments.requests, arguments.rounds)
    conclude(*claims)


if __name__ == "__main__":
    main()
