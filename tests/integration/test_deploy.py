"""deploy/ as its README says it: PostgreSQL, UI, daemon and run workers, from the unit files."""

from __future__ import annotations

import asyncio
import csv
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from aiohttp import web

from alignment_assets.commands.postgres_records import DRIVER
from alignment_assets.recipe.load import find_recipe
from tests.conftest import REPOSITORY
from tests.integration.dagster_ui import IMPATIENCE, Ui, answers, until
from tests.support.endpoints import Server
from tests.support.postgres import programs
from tests.support.units import Unit, environment_file

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir())
MODELS = ("smollm2-135m", "smollm2-135m-cool")
POLICY = "smollm2-135m-policy"
ASKED = ("completion_requests", "completions", "rewards")


class PatientServer(Server):
    """An endpoint that answers a few requests; the others wait until the test lets them."""

    FEW = 6

    def __init__(self) -> None:
        self.letting, self.given = threading.Event(), 0
        super().__init__()

    async def _behave(
        self, request: web.Request, body: dict[str, Any], text: str
    ) -> web.StreamResponse:
        self.given += 1
        while self.given > self.FEW and not self.letting.is_set():
            await asyncio.sleep(0.02)
        return self.good(body)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Machine:
    """A folder in place of a machine, on which the README's commands are carried out.

    Attributes:
        etc: the folder of settings.
        state: the recipe's home.
        logs: the folder of what units and commands print.
        units: those that were started, by name.
        arguments: the command line of every process that was looked at.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.etc, self.state = root, root / "etc", root / "state"
        self.logs = root / "logs"
        self.units: dict[str, Unit] = {}
        self.arguments: set[str] = set()
        self._look_at = 0.0
        checkout, self.ui_port, installed = root / "checkout", free_port(), programs()
        assert installed
        self.installed = installed
        self.instead = {
            "/opt/alignment-assets": str(checkout),
            "/etc/alignment-assets": str(self.etc),
            "/etc/systemd/system": str(root / "units"),
            "/var/lib/alignment-assets": str(root / "state"),
            "/var/lib/postgresql": str(root / "postgres"),
            "/run/postgresql": str(root / "postgres"),
            "/usr/lib/postgresql/15/bin": str(installed),
            "5433": free_port(),
            "3000": self.ui_port,
            "-o alignment -g alignment ": "",
        }
        if os.geteuid():
            self.instead |= {"runuser -u postgres -- ": "", "-o postgres -g postgres ": ""}
        for folder in ("checkout", "units", "postgres", "logs", "state"):
            (root / folder).mkdir()
        if not os.geteuid():
            shutil.chown(root / "postgres", "postgres")
        for there in REPOSITORY.iterdir():
            if there.name not in {".venv", "deploy"}:
                (checkout / there.name).symlink_to(there)
        (checkout / ".venv").symlink_to(sys.prefix)
        for file in DEPLOY.rglob("*"):
            if file.is_file():
                copy = checkout / "deploy" / file.relative_to(DEPLOY)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(self.here(file.read_text(encoding="utf-8")), encoding="utf-8")

    def here(self, text: str) -> str:
        """Return a text with the places of a real machine put here."""
        places = "|".join(map(re.escape, self.instead))
        return re.sub(places, lambda found: self.instead[found[0]], text)

    def follow(self, heading: str) -> list[str]:
        """Carry out what the README has under a heading; return what its commands print."""
        readme = (DEPLOY / "README.md").read_text(encoding="utf-8")
        section = readme.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        found = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        assert found, heading
        said = []
        for block in map(self.here, found):
            if block.startswith("systemd-run "):
                said.append(self.run(block))
                continue
            lines = [line for line in block.splitlines(True) if not line.startswith("systemctl ")]
            self.shell("".join(lines))
            for line in block.splitlines():
                if line.startswith(("systemctl enable --now ", "systemctl start ")):
                    for name in re.findall(r"alignment-\S+", line):
                        self.start(name)
        return said

    def shell(self, script: str) -> None:
        environment = {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": str(self.root)}
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail"], input=script, env=environment,
            cwd=self.root, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, (script, done.stdout, done.stderr)

    def run(self, block: str) -> str:
        """Carry out a command as `systemd-run` does; return what it prints."""
        words = shlex.split(block)
        command = words[next(at for at, word in enumerate(words) if word.startswith("/")) :]
        (file,) = (word for word in words if word.startswith("EnvironmentFile="))
        given = environment_file(Path(file.partition("=")[2]))
        return self.call(command, given)

    def call(self, command: Sequence[str | Path], given: Mapping[str, str]) -> str:
        done = subprocess.run(
            command, env={"LANG": "C.UTF-8", "PATH": os.defpath, **given}, cwd="/",
            capture_output=True, text=True,
        )  # fmt: skip
        log = self.logs / f"command-{len(list(self.logs.iterdir()))}.log"
        log.write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def psql(self, query: str) -> str:
        """Return what a query gives, asked as the product's role."""
        command = [self.installed / "psql", "-XAtq", "-c", query]
        return self.call(command, environment_file(self.etc / "environment"))

    def dump(self) -> str:
        """Return all that is in the database of records."""
        command = [self.installed / "pg_dump", "--inserts"]
        return self.call(command, environment_file(self.etc / "environment"))

    def start(self, name: str) -> Unit:
        """Start a unit, and wait for what answers."""
        unit = self.units.setdefault(name, Unit(name, self.root / "units", self.logs))
        # Only so that the daemon looks for backfills every second.
        unit.start({"PYTHONPATH": str(IMPATIENCE)} if name == "alignment-daemon" else {})
        if name == "alignment-postgres":
            port = self.instead["5433"]
            ready = [self.installed / "pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
            self.until(lambda: subprocess.run(ready).returncode == 0)
        return unit

    def look_at_sockets(self) -> None:
        """Check that what listens does so for this machine alone."""
        listening = set()
        for process in (one for unit in self.units.values() for one in unit.processes()):
            with suppress(psutil.NoSuchProcess):  # PostgreSQL has one for each connection
                listening |= {
                    connection.laddr.ip
                    for connection in process.net_connections("inet")
                    if connection.status == psutil.CONN_LISTEN
                }
        assert listening == {"127.0.0.1"}

    def until(self, happened: Callable[[], Any]) -> Any:
        """Wait for something while all goes on that should; look at all processes meanwhile."""

        def looked() -> Any:
            if time.monotonic() >= self._look_at:  # a look costs 30 ms
                self._look_at = time.monotonic() + 1
                for process in psutil.process_iter(["cmdline"]):
                    self.arguments.add(" ".join(process.info["cmdline"] or ()))
            for unit in self.units.values():
                assert unit.runs() or unit.ended_well(), unit.said()[-3000:]
            return happened()

        return until(looked)


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Not below pytest's folders, which PostgreSQL's user may not enter; short, for its socket.
    root = Path(tempfile.mkdtemp(prefix="deploy-", dir="/tmp"))
    root.chmod(0o755)
    machine = Machine(root)
    try:
        yield machine
    finally:
        for unit in reversed(machine.units.values()):
            unit.kill()
        shutil.rmtree(root, ignore_errors=True)


def recipe_of(server: Server) -> dict[str, Any]:
    """Return the demo's recipe without what needs a grader, all of its models at an endpoint."""
    content = yaml.safe_load(find_recipe("demo").read_text(encoding="utf-8"))
    folder = find_recipe("demo").parent
    content["prompts"] = [one for one in content["prompts"] if one["track"] != "graded"]
    for part in (*content["prompts"], content["personas"]):
        part["dataset"] = str(folder / part["dataset"])
    content["consent"]["robots"] = str(folder / content["consent"]["robots"])
    served = {"weights": f"served:{server.name}", "billions": 1.0}
    backend = {"backend": {"openai": {"urls": [server.url]}}}
    content["models"] = {name: {**served, **backend} for name in content["models"]}
    del content["calibration"], content["human_labels"], content["controversy"]["trials"]
    return {**content, "reference_logprobs": {"scope": "none"}}


@pytest.mark.integration
@pytest.mark.needs("postgres")
@pytest.mark.needs("dagster_postgres")
def test_the_readme_brings_up_workers_beside_a_backfill_and_a_killed_one_goes_on(
    machine: Machine,
) -> None:
    with PatientServer() as server:
        machine.follow("Settings")
        environment = machine.etc / "environment"
        assert environment.stat().st_mode & 0o777 == 0o600
        password = environment_file(environment)["PGPASSWORD"]
        assert len(password) == 48
        recipe = machine.etc / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(recipe_of(server)))
        chosen = environment.read_text().replace("RECIPE=demo", f"RECIPE={recipe}")
        environment.write_text(chosen)
        machine.follow("PostgreSQL")
        machine.follow("UI and daemon")
        ui = Ui(f"http://127.0.0.1:{machine.ui_port}", machine.root)
        machine.until(lambda: answers(ui.url))

        # Two workers want the one slot: one has it, the other waits. So does the daemon's backfill.
        machine.follow("Run workers")
        workers = [machine.units[f"alignment-worker@{model}"] for model in MODELS]
        waiting = "waiting for a slot of the pool engine"
        machine.until(lambda: [worker for worker in workers if waiting in worker.said()])
        (holder,) = (worker for worker in workers if waiting not in worker.said())
        (killed,) = (run["id"] for run in ui.all_runs() if run["partition"] == holder.instance)
        backfill = ui.backfill(list(ASKED[:2]), [POLICY])
        machine.until(lambda: ui.runs(backfill))
        machine.until(lambda: any(log.stat().st_size for log in machine.state.rglob("*.log")))
        machine.look_at_sockets()

        # The one that has it is killed, and started again as its unit says.
        holder.kill()
        assert not holder.ended_well() and holder.one("Restart") == "on-failure"
        assert ui.run_status(killed) == "STARTED"
        server.letting.set()
        machine.start(holder.name)
        machine.until(lambda: not any(worker.runs() for worker in workers))
        assert f"run {killed} was killed and is ended now" in holder.said()
        assert re.search(rf"completions\[{holder.instance}\].*[(][1-9]\d* answered", holder.said())
        assert ui.run_status(killed) == "FAILURE"
        ui.finish(backfill)
        machine.look_at_sockets()

    (told,) = machine.follow("What is there")
    fresh = {tuple(row[:2]) for row in csv.reader(told.splitlines()) if row[-1] == "fresh"}
    wanted = {(asset, model) for asset in ASKED for model in MODELS}
    wanted |= {(asset, POLICY) for asset in ASKED[:2]}
    assert wanted <= fresh
    recorded = machine.psql(
        "SELECT asset_key || partition FROM event_logs "
        "WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition LIKE 'smollm2%'"
    )
    assert set(recorded.split()) >= {f'["{asset}"]{model}' for asset, model in wanted}
    assert password not in machine.dump()
    for name in ("daemon", "webserver", "postgres"):
        unit = machine.units[f"alignment-{name}"]
        unit.stop()
        assert unit.ended_well(), unit.said()
    assert password not in "\n".join(machine.arguments)
    logs = [*machine.logs.iterdir(), *machine.state.rglob("*.log"), *machine.state.rglob("*.err")]
    assert len(logs) > 6
    assert [log for log in logs if password in log.read_text(errors="replace")] == []


@pytest.mark.needs("systemd")
@pytest.mark.needs("postgres")
def test_systemd_takes_the_units(machine: Machine) -> None:
    machine.follow("Settings")
    units = sorted((machine.root / "units").iterdir())
    assert [unit.name for unit in units] == UNITS
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_an_unprivileged_users_starts_again_and_listens_here_alone(name: str) -> None:
    unit = Unit(name.replace("@", "@any").removesuffix(".service"), DEPLOY / "systemd", Path())
    assert unit.one("User") in {"alignment", "postgres"}
    assert unit.one("Restart") == "on-failure"
    # What `Unit` does not do as systemd does, no unit says.
    assert set(unit.settings) <= {
        *("Type", "User", "ExecStart", "ExecStartPre", "Restart", "RestartSec", "TimeoutSec"),
        *("EnvironmentFile", "Environment", "WorkingDirectory", "NoNewPrivileges"),
        *("KillMode", "KillSignal", "SuccessExitStatus"),
    }
    assert ("-h 127.0.0.1" in unit.one("ExecStart")) == ("webserver" in name)
    assert unit.one("SuccessExitStatus", "143") == str(128 + signal.SIGTERM)


def test_the_settings_are_the_top_level_ones_with_postgresql_from_the_environment() -> None:
    ours = yaml.safe_load((DEPLOY / "dagster.yaml").read_text(encoding="utf-8"))
    top = yaml.safe_load((REPOSITORY / "dagster.yaml").read_text(encoding="utf-8"))
    place = ours.pop("storage")["postgres"]["postgres_db"]
    assert ours == top
    assert place.pop("scheme") == DRIVER
    named = {value["env"] for value in place.values()}
    given = environment_file(DEPLOY / "environment.example")
    assert named - set(given) == {"PGPASSWORD"}
