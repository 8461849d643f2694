"""Units of systemd, run as it would run them, on a machine that has none.

Read from the unit's file: what is started first and then stays, as whom, where, in which
environment, and how it is ended. A specifier ``%i`` is the unit's instance.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

PATIENCE = 60.0


class Unit:
    """One service.

    Attributes:
        settings: of its section ``[Service]``, each in the order of the file.
        log: what it prints.
        main: its process, once it is started.
    """

    def __init__(self, name: str, folder: Path, logs: Path) -> None:
        stem, _, self.instance = name.partition("@")
        file = folder / (f"{stem}@.service" if self.instance else f"{stem}.service")
        self.name, self.log = name, logs / f"{name}.log"
        self.settings: dict[str, list[str]] = defaultdict(list)
        section = ""
        for line in file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and line[0] not in "#;":
                key, _, value = line.partition("=")
                self.settings[key].append(value.replace("%i", self.instance))
        self.main: subprocess.Popen[bytes] | None = None

    def one(self, key: str, otherwise: str = "") -> str:
        """Return a setting's value."""
        return self.settings[key][-1] if self.settings[key] else otherwise

    def environment(self) -> dict[str, str]:
        """Return what its processes are given, and nothing of ours."""
        given = {"LANG": "C.UTF-8", "HOME": self.one("WorkingDirectory", "/")}
        for assigned in self.settings["Environment"]:
            given.update(part.split("=", 1) for part in shlex.split(assigned))
        for file in self.settings["EnvironmentFile"]:
            given.update(environment_file(Path(file)))
        return given

    def start(self, more: Mapping[str, str]) -> None:
        """Start it; what comes before has ended then.

        Args:
            more: variables that its processes are given besides.
        """
        how = {"cwd": self.one("WorkingDirectory", "/"), "env": {**self.environment(), **more}}
        with self.log.open("ab") as log:
            for before in self.settings["ExecStartPre"]:
                done = subprocess.run(shlex.split(before), stdout=log, stderr=log, **how)
                assert done.returncode == 0, self.log.read_text()
            # Who runs the tests stands in for a user of the product's own.
            others = self.one("User") if self.one("User") == "postgres" else None
            user = others if os.geteuid() == 0 else None
            self.main = subprocess.Popen(
                shlex.split(self.one("ExecStart")), stdout=log, stderr=log,
                start_new_session=True, user=user, group=user, **how,
            )  # fmt: skip

    def said(self) -> str:
        """Return what it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def runs(self) -> bool:
        """Return whether its main process runs."""
        return self.main is not None and self.main.poll() is None

    def processes(self) -> list[psutil.Process]:
        """Return its processes, the main one first; none once that has ended."""
        if self.main is None or not self.runs():
            return []
        main = psutil.Process(self.main.pid)
        return [main, *main.children(recursive=True)]

    def kill(self) -> None:
        """Kill all its processes, as a machine does that runs out of memory."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.main:
            self.main.wait(PATIENCE)

    def stop(self) -> None:
        """End it as systemd does: what does not follow the signal is killed once the main has."""
        assert self.main
        found = self.processes()
        for process in found[:1] if self.one("KillMode") == "mixed" else found:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(getattr(signal, self.one("KillSignal", "SIGTERM")))
        self.main.wait(PATIENCE)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def ended_well(self) -> bool:
        """Return whether systemd takes the way its main process ended for success."""
        clean = {0, -signal.SIGTERM, *map(int, self.one("SuccessExitStatus").split())}
        return self.main is not None and self.main.poll() in clean


def environment_file(path: Path) -> dict[str, str]:
    """Return the variables of an ``EnvironmentFile``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
