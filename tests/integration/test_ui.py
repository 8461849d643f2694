"""The way users work: the Dagster UI in a real browser, backfills by partition, a stopped run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.integration

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MODELS = ["smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"]
POLICY = "smollm2-135m-policy"
DOWNSTREAM = [
    "rewards",
    "judge_comparisons",
    "judge_rankings",
    "quantile_rewards",
    "selected_pairs",
    "dpo_pairs",
    "qrpo_samples",
    "selection_exclusions",
]
PREPARE = """
from dagster import DagsterInstance
from alignment_assets.commands.materialize import execute, plan_launches
from tests.integration.ui_definitions import defs
wanted = 'not (key:"completions"+)'
with DagsterInstance.get() as instance:
    list(execute(defs, plan_launches(defs, wanted), instance))
"""


@dataclass
class Ui:
    """A running `dg dev` with the fake engine."""

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
            "repositoryLocationName": "tests.integration.ui_definitions",
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
        until(lambda: self.backfills()[backfill].startswith(("COMPLETED", "FAILED")), 180)
        assert self.backfills()[backfill] == "COMPLETED_SUCCESS"

    def runs(self, backfill: str) -> list[dict[str, Any]]:
        """Return a backfill's runs with their partition."""
        found = self.graphql(
            "query($b: String!) { runsOrError("
            'filter: {tags: [{key: "dagster/backfill", value: $b}]})'
            " { ... on Runs { results { id status startTime endTime tags { key value }"
            " assetSelection { path } } } } }",
            b=backfill,
        )["runsOrError"]["results"]
        for run in found:
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}
            first = tags.get("dagster/asset_partition_range_start")
            assert first == tags.get("dagster/asset_partition_range_end")
            run["partition"] = tags.get("dagster/partition", first)
            run["assets"] = sorted(key["path"][0] for key in run["assetSelection"])
        return list(found)

    def asked(self) -> list[str]:
        log = self.folder / "asked.jsonl"
        return [json.loads(line)["request_id"] for line in log.read_text().splitlines()]


def until(happened: Callable[[], Any], seconds: float) -> Any:
    """Wait for something to be true, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)
    return value


@pytest.fixture(scope="module")
def ui(tmp_path_factory: Any) -> Iterator[Ui]:
    folder = tmp_path_factory.mktemp("ui")
    shutil.copy(REPOSITORY / "dagster.yaml", folder)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder),
        "ALIGNMENT_HOME": str(folder / "home"),
        "ALIGNMENT_RECIPE": "demo",
        "PYTHONPATH": str(REPOSITORY),
    }
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREPARE], cwd=folder, env=environment, check=True
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).parent / "dg"
    with (folder / "dev.log").open("w") as log:
        server = subprocess.Popen(
            [
                command,
                "dev",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "-m",
                "tests.integration.ui_definitions",
                "-d",
                REPOSITORY,
            ],
            cwd=folder,
            env={**environment, "FAKE_SECONDS_PER_REQUEST": "0.05"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        running = Ui(f"http://127.0.0.1:{port}", folder)
        until(lambda: server.poll() is None and _answers(running.url), 90)
        yield running
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory: Any) -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-quic",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "window-size=1600,1000", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(20)
    yield driver
    driver.quit()


def click(browser: Any, text: str) -> None:
    """Click the button that starts with a text, once the page holds still long enough."""
    from selenium.common.exceptions import (
        ElementClickInterceptedException,
        StaleElementReferenceException,
    )
    from selenium.webdriver.common.by import By

    def clicked() -> bool:
        try:
            buttons = browser.find_elements(By.TAG_NAME, "button")
            button = next((b for b in buttons if b.text.startswith(text) and b.is_enabled()), None)
            if button is None:
                return False
            button.click()
        except (ElementClickInterceptedException, StaleElementReferenceException):
            return False  # the page was drawn anew meanwhile
        return True

    until(clicked, 30)


def screenshot(browser: Any, name: str, folder: Path) -> None:
    """Keep a picture; ALIGNMENT_SCREENSHOTS names a folder to keep it beyond the test."""
    kept = Path(os.environ.get("ALIGNMENT_SCREENSHOTS", folder))
    kept.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(kept / f"{name}.png"))


def test_a_backfill_of_completions_launched_in_the_browser_ends_green(ui: Ui, browser: Any) -> None:
    browser.get(f"{ui.url}/assets/completions?view=partitions")
    click(browser, "Materialize")
    click(browser, "All")
    screenshot(browser, "backfill-dialog", ui.folder)
    click(browser, "Launch backfill")
    (backfill,) = until(ui.backfills, 30)

    ui.finish(backfill)

    runs = ui.runs(backfill)
    assert sorted(run["partition"] for run in runs) == MODELS
    assert {run["status"] for run in runs} == {"SUCCESS"}
    browser.get(f"{ui.url}/assets/completions?view=partitions")
    until(lambda: "Materialized (3)" in browser.page_source, 30)
    assert "Failed (0)" in browser.page_source
    screenshot(browser, "completions-partitions", ui.folder)


def test_what_is_downstream_runs_once_and_after_all_models(ui: Ui, browser: Any) -> None:
    backfill = ui.backfill(DOWNSTREAM)
    ui.finish(backfill)

    runs = ui.runs(backfill)
    by_assets = {(run["partition"], asset): run for run in runs for asset in run["assets"]}
    assert len(by_assets) == sum(len(run["assets"]) for run in runs)  # nothing twice
    assert sorted(by_assets) == sorted(
        [(model, "rewards") for model in MODELS] + [(POLICY, name) for name in DOWNSTREAM[1:]]
    )
    rewarded = max(by_assets[model, "rewards"]["endTime"] for model in MODELS)
    if by_assets[POLICY, "dpo_pairs"] is not by_assets[POLICY, "rewards"]:
        assert by_assets[POLICY, "dpo_pairs"]["startTime"] >= rewarded - 1
    browser.get(f"{ui.url}/asset-groups?expanded=true")
    until(lambda: "training_sets" in browser.page_source, 30)


def test_a_terminated_partition_run_again_asks_only_for_what_is_missing(ui: Ui) -> None:
    partition = MODELS[1]
    spool = ui.folder / "home" / "spool" / "completions" / partition
    total = len(list(spool.glob("*-*.parquet"))) - len(list(spool.glob("0-empty.parquet")))
    shutil.rmtree(spool)
    before = len(ui.asked())
    run = ui.launch("completions", partition)
    until(lambda: len(ui.asked()) - before >= 10, 60)
    terminated = ui.graphql(
        "mutation($r: String!) { terminateRun(runId: $r) { __typename } }", r=run
    )
    assert terminated["terminateRun"]["__typename"] == "TerminateRunSuccess"
    until(lambda: ui.run_status(run) == "CANCELED", 60)
    first = ui.asked()[before:]
    assert 10 <= len(first) < total

    again = ui.launch("completions", partition)
    until(lambda: ui.run_status(again) in {"SUCCESS", "FAILURE"}, 90)

    assert ui.run_status(again) == "SUCCESS"
    second = ui.asked()[before + len(first) :]
    # One answer may have been on its way when the run was ended.
    assert len(set(first) & set(second)) <= 1
    assert len(set(first) | set(second)) == total
