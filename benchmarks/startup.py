"""What does it take until a command has begun, and how often does it open the database?

The demo's graph is made once with an engine that answers at once. Then, in processor seconds of
processes of their own, medians of runs in alternating order:

- ``--version`` and ``--help`` take at most 2.2 times what a bare Python takes to import duckdb,
  rich, typer, yaml and pydantic; a small question at most 3 times that.
- ``status`` takes at most 1.3 times what Dagster takes for its part: the definitions, its records,
  and the staleness of every partition. It opens the database once.
- Making all again, with every answer in the spool, takes at most 1.5 times the same assets and
  checks with empty bodies.

Run it with ``python -m benchmarks.startup``.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import Claim, conclude, show

REPOSITORY = Path(__file__).resolve().parents[1]
RUNS = 7
MAKING_RUNS = 3
START, QUESTION, STATUS, AGAIN = 2.2, 3.0, 1.3, 1.5

BARE = "import duckdb, rich, typer, yaml, pydantic"
COMMAND = """
import sys
from alignment_assets.commands.app import main
sys.argv[0] = "alignment-assets"
main()
"""
DAGSTERS_PART = """
from dagster import AssetKey, DagsterInstance
from alignment_assets.commands.dagster_private import StaleCauses
from alignment_assets.definitions import defs

graph = defs.resolve_asset_graph()
with DagsterInstance.get() as instance:
    stale = StaleCauses(instance, graph)
    for key in graph.toposorted_asset_keys:
        partitions = graph.get(key).partitions_def
        for partition in partitions.get_partition_keys() if partitions else [None]:
            stale.causes(key, partition)
"""
# Counts each open of the database's file, by connecting to it or by attaching it.
COUNTED = """
import atexit, os, sys
import duckdb

FILE = "alignment.duckdb"
connect, opened = duckdb.connect, []


class Counted:
    def __init__(self, connection):
        self._connection = connection

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self._connection.close()

    def execute(self, query, *values):
        if query.lstrip().startswith("ATTACH") and FILE + "'" in query:
            opened.append(query)
        return self._connection.execute(query, *values)


def counting(database=":memory:", *settings, **more):
    if str(database).endswith(FILE):
        opened.append(database)
    return Counted(connect(database, *settings, **more))


duckdb.connect = counting
atexit.register(lambda: print(f"opened {len(opened)} times", file=sys.stderr))
"""
# An engine that answers at once stands in for vLLM, for every command alike.
FAKE = """
from alignment_assets.assets import graph
from tests.support.fakes import FakeInference

default_resources = graph.default_resources
graph.default_resources = lambda run: {**default_resources(run), "inference": FakeInference()}
"""
# What the assets and checks do is left out. What Dagster knows of them stays: keys, partitions,
# versions, dependencies, resources.
EMPTY = """
from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetExecutionContext
from dagster import DataVersion, MaterializeResult

from alignment_assets.assets import checks, completions, factory, labels, prompts, training_sets
from alignment_assets.commands import materialize
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.warehouse.resource import Warehouse

table_asset, multi_asset_check = factory.table_asset, checks.multi_asset_check


def made():
    return MaterializeResult(data_version=DataVersion("1"))


def sql(context: AssetExecutionContext, warehouse: Warehouse):
    return made()


def asking(
    context: AssetExecutionContext, warehouse: Warehouse, inference: Inference, gpus: GpuPool
):
    return made()


def check(context: AssetCheckExecutionContext, warehouse: Warehouse):
    for key in sorted(context.selected_asset_check_keys):
        yield AssetCheckResult(passed=True, check_name=key.name, asset_key=key.asset_key)


def empty_asset(*arguments, **settings):
    declare = table_asset(*arguments, **settings)
    return lambda build: declare(asking if settings.get("pool") else sql)


for module in (completions, factory, labels, prompts, training_sets):
    module.table_asset = empty_asset
checks.multi_asset_check = lambda **settings: lambda _: multi_asset_check(**settings)(check)
materialize.print_summary = lambda *_: None
"""

MAKE = ("materialize", "--recipe", "demo")


def spent(code: str, home: Path, arguments: Sequence[str] = ()) -> tuple[float, str]:
    """Run some Python in a process of its own; return its processor seconds and what it told.

    Those of its children count too. What it told is on its standard error.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ALIGNMENT_")},
        "ALIGNMENT_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "PYTHONPATH": str(REPOSITORY),
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stdout}\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def medians(
    codes: Mapping[str, tuple[str, Path, Sequence[str]]], runs: int
) -> dict[str, list[float]]:
    """Run each in turn, again and again; return the processor seconds of each, sorted."""
    found: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(runs):
        for name, (code, home, arguments) in codes.items():
            found[name].append(spent(code, home, arguments)[0])
    return {name: sorted(seconds) for name, seconds in found.items()}


def opens(home: Path, arguments: Sequence[str]) -> int:
    """Return how often a command opens the database."""
    _, told = spent(f"{COUNTED}{FAKE}{COMMAND}", home, arguments)
    found = re.search(r"opened (\d+) times", told)
    assert found, told
    return int(found[1])


def main() -> None:
    """Run it, show the tables, and fail where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--making-runs", type=int, default=MAKING_RUNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, empty = Path(folder) / "home", Path(folder) / "empty"
        for each in (home, empty):
            (each / "dagster").mkdir(parents=True)
            (each / "dagster" / "dagster.yaml").symlink_to(REPOSITORY / "dagster.yaml")
        spent(f"{FAKE}{COMMAND}", home, MAKE)
        question = ("query", "unanswered_requests")
        measured = medians(
            {
                "bare imports": (BARE, home, ()),
                "--version": (COMMAND, home, ("--version",)),
                "--help": (COMMAND, home, ("--help",)),
                "query": (COMMAND, home, question),
                "Dagster's part of status": (DAGSTERS_PART, home, ()),
                "status": (f"{FAKE}{COMMAND}", home, ("status",)),
            },
            arguments.runs,
        )
        counted = {
            name: opens(home, words)
            for name, words in {
                "query": question,
                "status": ("status",),
                "doctor": ("doctor",),
                "forecast": ("forecast",),
                "all made again": MAKE,
            }.items()
        }
        measured |= medians(
            {
                "empty bodies": (f"{FAKE}{EMPTY}{COMMAND}", empty, MAKE),
                "all made again": (f"{FAKE}{COMMAND}", home, MAKE),
            },
            arguments.making_runs,
        )
    middle = {name: statistics.median(seconds) for name, seconds in measured.items()}
    show(
        "processor seconds, and how often the database is opened",
        ["", "median", "least", "most", "opens"],
        [
            [name, middle[name], seconds[0], seconds[-1], counted.get(name, "")]
            for name, seconds in measured.items()
        ]
        + [[name, "", "", "", counted[name]] for name in ("doctor", "forecast")],
    )
    bare, dagsters = middle["bare imports"], middle["Dagster's part of status"]
    conclude(
        Claim("--version, of bare imports", middle["--version"] / bare, at_most=START),
        Claim("--help, of bare imports", middle["--help"] / bare, at_most=START),
        Claim("a small question, of bare imports", middle["query"] / bare, at_most=QUESTION),
        Claim("status, of Dagster's part", middle["status"] / dagsters, at_most=STATUS),
        Claim("opens of the database by status", counted["status"], at_least=1, at_most=1),
        Claim(
            "all made again, of empty bodies",
            middle["all made again"] / middle["empty bodies"],
            at_most=AGAIN,
        ),
    )


if __name__ == "__main__":
    main()
