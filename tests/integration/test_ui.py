"""The way users work: the Dagster UI in a real browser, backfills by partition, a stopped run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alignment_assets.commands.app import app
from alignment_assets.host.shown import cell_text
from alignment_assets.pages import pictures
from tests.conftest import DRAWN, Graph, changed_recipe
from tests.integration.dagster_ui import LOCATION, Ui, develop, prepare, serve, until

pytestmark = pytest.mark.integration

MODELS = ["smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"]
POLICY = "smollm2-135m-policy"
CALIBRATION = ("degraded_answers", "calibration_answers", "judge_calibration")
DOWNSTREAM = [
    "rewards",
    "judge_comparisons",
    "judge_rankings",
    "policy_tokens",
    "quantile_rewards",
    "selected_pairs",
    "dpo_pairs",
    "qrpo_samples",
    "reference_logprobs",
    "selection_exclusions",
    "selection_report",
    "training_export",
]


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and data of a run in which all is made that completions need."""
    folder = tmp_path_factory.mktemp("asking")
    prepare(folder, 'not (key:"completions"+)')
    return folder


@pytest.fixture(scope="module")
def answered(asking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with completions."""
    folder = tmp_path_factory.mktemp("answered")
    shutil.copytree(asking, folder, dirs_exist_ok=True)
    prepare(folder, "key:completions")
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Ui]]:
    """Starts a server on a copy of records and data: no test sees what another did."""
    with ExitStack() as started:

        def start_on_copy(source: Path, seconds_per_request: float = 0.0) -> Ui:
            folder = tmp_path / "ui"
            shutil.copytree(source, folder)
            return started.enter_context(serve(folder, seconds_per_request))

        yield start_on_copy


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-quic",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "window-size=1600,1000", f"user-data-dir={tmp_path / 'chromium'}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.implicitly_wait(20)
    yield driver
    print(driver.current_url, driver.find_element("tag name", "body").text, sep="\n")  # if it fails
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

    until(clicked)


def screenshot(browser: Any, name: str, folder: Path) -> None:
    """Keep a picture; ALIGNMENT_SCREENSHOTS names a folder to keep it beyond the test."""
    kept = Path(os.environ.get("ALIGNMENT_SCREENSHOTS", folder))
    kept.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(kept / f"{name}.png"))


def page_text(browser: Any, wanted: str) -> str | None:
    """Return the text of a page where a wanted text stands in it."""
    from selenium.webdriver.common.by import By

    text = str(browser.find_element(By.TAG_NAME, "body").text)
    return text if wanted in text else None


@pytest.mark.needs("browser")
def test_a_backfill_of_completions_launched_in_the_browser_ends_green(
    start: Callable[..., Ui], asking: Path, browser: Any
) -> None:
    ui = start(asking)
    browser.get(f"{ui.url}/assets/completions?view=partitions")
    click(browser, "Materialize")
    click(browser, "All")
    click(browser, "Launch backfill")
    (backfill,) = until(ui.backfills)

    ui.finish(backfill)

    runs = ui.runs(backfill)
    assert sorted(run["partition"] for run in runs) == MODELS
    assert {run["status"] for run in runs} == {"SUCCESS"}
    browser.get(f"{ui.url}/assets/completions?view=partitions")
    until(lambda: "Materialized (3)" in browser.page_source)
    assert "Failed (0)" in browser.page_source
    screenshot(browser, "completions-partitions", ui.folder)
    browser.get(f"{ui.url}/asset-groups?expanded=true")
    until(lambda: "training_sets" in browser.page_source)


@pytest.mark.needs("browser")
def test_the_job_of_a_model_is_backfilled_and_each_page_shows_the_figures_of_its_table(
    start: Callable[..., Ui], answered: Path, browser: Any
) -> None:
    from selenium.webdriver.common.by import By

    ui = start(answered)
    browser.get(f"{ui.url}/locations/__repository__@{LOCATION}/jobs/one_model/partitions")
    click(browser, "Materialize")
    click(browser, "All")
    screenshot(browser, "job-dialog", ui.folder)
    click(browser, "Launch backfill")
    (backfill,) = until(ui.backfills)
    ui.finish(backfill)
    made = sorted((run["partition"], *sorted(run["assets"])) for run in ui.runs(backfill))
    assert made == [(model, "completion_requests", "completions", "rewards") for model in MODELS]
    ui.finish(ui.backfill(DOWNSTREAM[1:]))
    figures = {  # of each page: a question, and a figure of it that stands on the page as text
        "source_prompts": ("sample_prompts", "SELECT left(messages[-1].content, 40) FROM "
            "source_prompts WHERE dataset = 'prism_prompts' AND malformed_reason IS NULL "
            "ORDER BY prompt_id LIMIT 1"),
        "licensed_prompts": ("rows_left_by_rule", "SELECT count(*) FROM licensed_prompts "
            "WHERE dataset = 'preference_mix'"),
        "prompt_exclusions": ("refusing_domains", "SELECT min(origin_domain) FROM source_prompts "
            "JOIN prompt_exclusions USING (dataset, row_number) WHERE rule = 'consent'"),
        "grader_agreement": ("graders_compared", "SELECT round(accuracy, 4) FROM grader_agreement "
            "WHERE candidate = 'smollm2-135m-judge.controversy_brief' AND threshold = 2"),
        "controversy_labels": ("grade_distribution", "SELECT max(grade) FROM controversy_labels"),
        "controversy_agreement": ("agreement_by_threshold", "SELECT round(accuracy, 4) FROM "
            "controversy_agreement WHERE is_recipe_threshold"),
        "completion_requests": ("requests_by_variant", "SELECT count(*) FROM completion_requests "
            f"WHERE model = '{POLICY}' AND track = 'controversial'"),
        "completions": ("sample_completions", "SELECT left(text, 40) FROM completions "
            f"WHERE model = '{POLICY}' ORDER BY completion_id LIMIT 1"),
        "rewards": ("reward_by_model_and_variant", "SELECT round(avg(reward), 4) FROM rewards "
            f"WHERE model = '{POLICY}' AND track = 'standard'"),
        "judge_comparisons": ("judge_order_bias", "SELECT count(*) FROM judge_comparisons"),
        "judge_rankings": ("wins_by_model", "SELECT round(avg(position), 4) FROM judge_rankings "
            f"JOIN rewards USING (completion_id) WHERE model = '{POLICY}'"),
        "dpo_pairs": ("mean margin", "SELECT round(avg(chosen_reward - rejected_reward), 4) "
            "FROM dpo_pairs"),
        "qrpo_samples": ("samples_by_model", "SELECT round(avg(reward), 4) FROM qrpo_samples "
            f"WHERE model = '{POLICY}' AND selected_as = 'chosen' AND track = 'controversial'"),
        "policy_tokens": ("sequence_lengths", "SELECT round(avg(completion_tokens), 4) FROM "
            "policy_tokens WHERE prompt_tokens + completion_tokens > 16 AND "
            "prompt_tokens + completion_tokens <= 32"),
        "reference_logprobs": ("logprobs_of_pairs", "SELECT "
            "round(avg(logprob::DECIMAL(18, 4)), 4) FROM reference_logprobs "
            "JOIN selected_pairs ON completion_id = chosen_completion_id "
            "WHERE track = 'standard'"),
    }  # fmt: skip
    for table, (question, query) in figures.items():
        ((figure,),) = ui.query(query)
        wanted = f"{figure:g}" if isinstance(figure, float) else str(figure)
        browser.get(f"{ui.url}/assets/{table}")
        told = until(lambda: page_text(browser, question))  # noqa: B023
        assert wanted in told.partition(question)[2], (table, wanted)
    browser.get(f"{ui.url}/assets/rewards?partition={POLICY}")
    shown = until(lambda: browser.find_elements(By.XPATH, "//*[text()='[Show Markdown]']"))
    shown[0].click()
    widths = "return [...document.images].map(image => image.naturalWidth)"
    until(lambda: max(browser.execute_script(widths), default=0) > 300)
    screenshot(browser, "rewards-picture", ui.folder)
    browser.get(f"{ui.url}/asset-groups")
    until(lambda: "training_sets" in browser.page_source)
    screenshot(browser, "asset-groups", ui.folder)


@pytest.mark.needs("browser")
def test_a_run_of_the_command_shows_its_target_and_runs_again_from_the_ui(
    start: Callable[..., Ui], asking: Path, browser: Any
) -> None:
    ui = start(asking)
    browser.get(f"{ui.url}/runs")
    told = until(lambda: page_text(browser, "alignment_prompts"))
    assert "source_prompts" in told
    (run,) = ui.runs_of("source_prompts", "prism_prompts")
    browser.get(f"{ui.url}/runs/{run['id']}")
    click(browser, "Re-execute all")
    until(lambda: len(ui.runs_of("source_prompts", "prism_prompts")) == 2)
    (again,) = (
        one for one in ui.runs_of("source_prompts", "prism_prompts") if one["id"] != run["id"]
    )
    until(lambda: ui.run_status(again["id"]) in {"SUCCESS", "FAILURE"})
    assert ui.run_status(again["id"]) == "SUCCESS"
    assert again["assets"] == ["source_prompts"]

    # What was never made says so, and what is asked for too early is refused in words.
    browser.get(f"{ui.url}/assets/dpo_pairs")
    until(lambda: page_text(browser, "Never materialized"))
    early = ui.launch("dpo_pairs", POLICY)
    until(lambda: ui.run_status(early) in {"SUCCESS", "FAILURE"})
    assert ui.run_status(early) == "FAILURE"
    browser.get(f"{ui.url}/runs/{early}")
    told = until(lambda: page_text(browser, "Materialize first, in this order"))
    assert "selected_pairs" in told.partition("Materialize first, in this order")[2]
    screenshot(browser, "refused", ui.folder)


@pytest.mark.needs("browser")
def test_the_report_is_a_file_that_loads_nothing_and_in_which_no_text_takes_effect(
    made: Graph, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selenium.webdriver.common.by import By

    hostile = "<img src='http://127.0.0.1:9/x' onerror='document.title=1'><script>alert(1)</script>"
    with made.warehouse.get_connection() as connection:
        connection.execute("UPDATE completions SET text = $text || text", {"text": hostile})
    ((mean,),) = made.query("SELECT round(avg(reward), 4) FROM rewards")
    monkeypatch.setattr(pictures, "_drawn", DRAWN)
    report = made.home / "report.html"
    assert CliRunner().invoke(app, ["report"]).exit_code == 0
    browser.get(report.as_uri())

    told = browser.find_element(By.ID, "rewards-in-numbers").text
    assert cell_text(mean) in told.split("mean reward", 1)[1]
    assert hostile in browser.find_element(By.ID, "sample-completions").text
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) > 8 and min(widths) > 300
    asked = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert [url for url in browser.execute_script(asked) if not url.startswith("data:")] == []
    assert browser.title == "demo: preference-alignment data"
    assert browser.get_log("browser") == []
    papers = []
    for scheme, width in (("light", 1600), ("dark", 390)):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        # Wide tables scroll by themselves, the page does not.
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        papers.append(
            browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        )
        screenshot(browser, f"report-{scheme}", made.home)
    assert papers[0] != papers[1]


@pytest.mark.needs("browser")
def test_the_pages_of_a_recipe_that_never_ran_are_empty_beside_one_that_did(
    asking: Path, browser: Any, tmp_path: Path
) -> None:
    ran = tmp_path / "data" / "demo"
    shutil.copytree(asking / "home", ran)
    shutil.copytree(asking, ran / "dagster", ignore=shutil.ignore_patterns("home"))
    second = changed_recipe().file.read_text(encoding="utf-8")
    recipe = tmp_path / "second.yaml"
    recipe.write_text(second.replace("name: demo", "name: second", 1), encoding="utf-8")
    with develop(tmp_path, "second.yaml") as ui:
        for table in ("source_prompts", "licensed_prompts"):
            browser.get(f"{ui.url}/assets/{table}")
            told = until(lambda: page_text(browser, "Never materialized"))
            assert "rows_left_by_rule" not in told and "prompts_read" not in told


@pytest.mark.soak
def test_what_is_downstream_runs_once_and_after_all_models(
    start: Callable[..., Ui], answered: Path
) -> None:
    ui = start(answered)
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


@pytest.mark.soak
@pytest.mark.needs("browser")
def test_materialize_all_of_the_graph_runs_each_partition_and_each_asset_once(
    start: Callable[..., Ui], tmp_path: Path, browser: Any
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    prepare(empty)
    ui = start(empty)
    assets = sorted(ui.asset_keys())

    browser.get(f"{ui.url}/asset-groups")
    click(browser, "Materialize all")
    click(browser, "Launch backfill")
    (backfill,) = until(ui.backfills)
    ui.finish(backfill)

    made = [(asset, run["partition"]) for run in ui.runs(backfill) for asset in run["assets"]]
    partitions = {
        "source_prompts": [source.name for source in changed_recipe().prompts],
        "grader_trials": [f"smollm2-135m-judge.controversy{ending}" for ending in ("", "_brief")],
        **dict.fromkeys(("completion_requests", "completions", "rewards"), MODELS),
        **{asset: ["standard", "controversial"] for asset in CALIBRATION},
        **{asset: [POLICY] for asset in DOWNSTREAM[1:]},
    }
    assert sorted(made, key=str) == sorted(
        ((asset, name) for asset in assets for name in partitions.get(asset, [None])), key=str
    )
    assert ui.query("SELECT count(*) > 0 FROM dpo_pairs") == [(True,)]


def test_a_terminated_partition_run_again_asks_only_for_what_is_missing(
    start: Callable[..., Ui], asking: Path
) -> None:
    ui = start(asking, seconds_per_request=0.05)
    partition = MODELS[1]
    ((total,),) = ui.query(f"SELECT count(*) FROM completion_requests WHERE model = '{partition}'")
    before = len(ui.asked())
    run = ui.launch("completions", partition)
    until(lambda: len(ui.asked()) - before >= 10)
    terminated = ui.graphql(
        "mutation($r: String!) { terminateRun(runId: $r) { __typename } }", r=run
    )
    assert terminated["terminateRun"]["__typename"] == "TerminateRunSuccess"
    until(lambda: ui.run_status(run) == "CANCELED")
    first = ui.asked()[before:]
    assert 10 <= len(first) < total

    again = ui.launch("completions", partition)
    until(lambda: ui.run_status(again) in {"SUCCESS", "FAILURE"})

    assert ui.run_status(again) == "SUCCESS"
    second = ui.asked()[before + len(first) :]
    # One answer may have been on its way when the run was ended.
    assert len(set(first) & set(second)) <= 1
    assert len(set(first) | set(second)) == total
