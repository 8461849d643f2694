"""``alignment-assets dev``: the Dagster UI on the records of a recipe's home."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.home import check_home, dagster_home, dagster_instance, end_killed
from alignment_assets.commands.workspace import WORKSPACE
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import RECIPE

HOST = "127.0.0.1"


def dev(recipe: str | None, port: int) -> None:
    """Do what the command says; its words are in `app`."""
    run = chosen_run(recipe)
    check_home(run)
    _check_port(port)
    with dagster_instance(run) as instance:
        end_killed(instance)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(dagster_home(run)),
        # dagster.yaml says so too; without this the UI makes empty folders for what it sends not.
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    if recipe:
        environment[RECIPE] = recipe
    workspace = dagster_home(run) / "workspace.yaml"
    workspace.write_text(WORKSPACE, encoding="utf-8")
    command = Path(sys.executable).with_name("dg")
    address = ["--host", HOST, "--port", str(port)]
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored behind a shell, and so in all that runs
    os.execve(command, ["dg", "dev", *address, "-w", str(workspace)], environment)


def _check_port(port: int) -> None:
    """Raise Expected if the UI cannot listen on a port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the UI's server does
        try:
            taken.bind((HOST, port))
        except OSError as error:
            raise Expected(
                f"the UI cannot listen on {HOST}:{port} ({error.strerror}); end what does, or name "
                f"another port with --port"
            ) from error
