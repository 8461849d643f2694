"""`dg dev` with the demo's graph and the fake engine: started, asked over GraphQL, and ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster import DagsterInstance

from alignment_assets.commands.dagster_private import LOCATION
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import REPOSITORY, Graph, changed_recipe
from tests.support.fakes import FakeInference
from tests.support.line_log import read_entries

DEFINITIONS = "tests.integration.ui_definitions"
# The code location is called as users know it.
WORKSPACE = f"""\
load_from:
  - python_module:
      module_name: {DEFINITIONS}
      location_name: {LOCATION}
      working_directory: {REPOSITORY}
"""
# Holds a `sitecustomize`, which each Python of the server imports at its start.
IMPATIENCE = Path(__file__).parent / "impatience"


# The queue of runs is looked at each second, not each five.
SETTINGS = "\nrun_queue:\n  dequeue_interval_seconds: 1\n"
PATIENCE = 300  # seconds; what is waited for comes at once or on a machine that is busy


def prepare(folder: Path, selection: str | None = None) -> None:
    """Materialize assets, if any, with Dagster's records and the data in a folder."""
    settings = (REPOSITORY / "dagster.yaml").read_text(encoding="utf-8") + SETTINGS
    (folder / "dagster.yaml").write_text(settings, encoding="utf-8")
    inference = FakeInference(log=str(folder / "asked.jsonl"))
    if selection is None:
        return
    with DagsterInstance.from_config(str(folder)) as instance:
        Graph(changed_recipe(), folder / "home", instance, inference).materialize(selection)


@dataclass
class Ui:
    """A running `dg dev`."""

    url: str
    folder: Path

    def graphql(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        return answer["data"]

    def asset_keys(self) -> list[str]:
        """Return the assets that the server knows."""
        found = self.graphql("{ assetNodes { assetKey { path } } }")["assetNodes"]
        return [node["assetKey"]["path"][0] for node in found]

    def backfill(self, assets: list[str], partitions: list[str] | None = None) -> str:
        """Launch a backfill, over all partitions if none are named; return its id."""
        which = {"allPartitions": True} if partitions is None else {"partitionNames": partitions}
        launched = self.graphql(
            "mutation($p: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $p) "
            "{ __typename ... on LaunchBackfillSuccess { backfillId } "
            "... on PythonError { message } } }",
            p={"assetSelection": [{"path": [name]} for name in assets], **which},
        )["launchPartitionBackfill"]
        return str(launched["backfillId"])

    def launch(self, asset: str, partition: str) -> str:
        """Launch a run of one partition, as the UI does; return its id."""
        location = {
            "repositoryLocationName": LOCATION,
            "repositoryName": "__repository__",
        }
        launched = self.graphql(
            "mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) "
            "{ __typename ... on LaunchRunSuccess { run { id } }"
            " ... on PythonError { message } } }",
            p={
                "mode": "default",
                "selector": {
                    **location,
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]}],
                    "assetCheckSelection": [],
                },
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition}]},
            },
        )["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["id"])

    def run_status(self, run: str) -> str:
        """Return a run's status."""
        found = self.graphql(
            "query($r: ID!) { runOrError(runId: $r) { ... on Run { status } } }", r=run
        )
        return str(found["runOrError"]["status"])

    def backfills(self) -> dict[str, str]:
        """Return each backfill's status."""
        found = self.graphql(
            "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id status } } } }"
        )
        return {b["id"]: b["status"] for b in found["partitionBackfillsOrError"]["results"]}

    def finish(self, backfill: str) -> None:
        """Wait for a backfill to end green."""
        until(lambda: self.backfills()[backfill].startswith(("COMPLETED", "FAILED")))
        assert self.backfills()[backfill] == "COMPLETED_SUCCESS"

    def runs(self, backfill: str) -> list[dict[str, Any]]:
        """Return a backfill's runs with their partition."""
        return self._runs({"tags": [{"key": "dagster/backfill", "value": backfill}]})

    def runs_of(self, asset: str, partition: str) -> list[dict[str, Any]]:
        """Return the runs of one asset alone, and one partition of it."""
        return [
            run
            for run in self._runs({})
            if (run["assets"], run["partition"]) == ([asset], partition)
        ]

    def all_runs(self) -> list[dict[str, Any]]:
        """Return all runs, the newest first."""
        return self._runs({})

    def _runs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        found = self.graphql(
            "query($f: RunsFilter!) { runsOrError(filter: $f)"
            " { ... on Runs { results { id status startTime endTime tags { key value }"
            " assetSelection { path } } } } }",
            f=wanted,
        )["runsOrError"]["results"]
        for run in found:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            first = tags.get("dagster/asset_partition_range_start")
            assert first == tags.get("dagster/asset_partition_range_end")
            run["partition"] = tags.get("dagster/partition", first)
            run["assets"] = sorted(key["path"][0] for key in run["assetSelection"] or ())
        return list(found)

    def asked(self) -> list[str]:
        return [entry["request_id"] for entry in read_entries(self.folder / "asked.jsonl")]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with Warehouse(database=str(self.folder / "home" / "alignment.duckdb")).read() as database:
            return database.execute(sql).fetchall()


def until(happened: Callable[[], Any]) -> Any:
    """Wait for something to be true, and return it; a busy machine may take its time."""
    deadline = time.monotonic() + PATIENCE
    while not (value := happened()):
        assert time.monotonic() < deadline, f"not within {PATIENCE} s"
        time.sleep(0.2)
    return value


@contextmanager
def serve(folder: Path, seconds_per_request: float) -> Iterator[Ui]:
    """Run `dg dev` on the records and data of a folder."""
    workspace = folder / "workspace.yaml"
    workspace.write_text(WORKSPACE, encoding="utf-8")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder),
        "ALIGNMENT_HOME": str(folder / "home"),
        "ALIGNMENT_RECIPE": "demo",
        "FAKE_SECONDS_PER_REQUEST": str(seconds_per_request),
        "PYTHONPATH": f"{IMPATIENCE}:{REPOSITORY}",
    }
    command = [Path(sys.executable).parent / "dg", "dev", "--host", "127.0.0.1", "-w", workspace]
    with serving(command, folder, environment) as running:
        yield running


@contextmanager
def develop(folder: Path, recipe: str) -> Iterator[Ui]:
    """Run `alignment-assets dev` in a folder that recipes have their homes in."""
    command = [Path(sys.executable).with_name("alignment-assets"), "dev", "--recipe", recipe]
    chosen = {"DAGSTER_HOME", "ALIGNMENT_HOME", "ALIGNMENT_RECIPE", "ALIGNMENT_LIMIT"}
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    with serving(command, folder, environment) as running:
        yield running


@contextmanager
def serving(
    command: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
) -> Iterator[Ui]:
    """Run a command that serves the UI at the port that it is given, in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "dev.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=dict(environment),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        running = Ui(f"http://127.0.0.1:{port}", folder)
        until(lambda: server.poll() is None and answers(running.url))
        yield running
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
