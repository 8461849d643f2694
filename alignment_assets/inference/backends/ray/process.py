"""The step's side of Ray's driver."""

from __future__ import annotations

from alignment_assets.inference.worker_process import WorkerProcess


class DriverProcess(WorkerProcess):
    """Ray's driver; see `alignment_assets.inference.backends.ray.driver`."""

    module = "alignment_assets.inference.backends.ray.driver"
    called = "Ray's driver"
