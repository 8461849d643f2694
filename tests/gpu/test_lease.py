"""A lease of a real GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from alignment_assets.gpus.pool import GpuPool

pytestmark = [pytest.mark.gpu, pytest.mark.needs("gpu")]

SEEN = """
import torch
for place in range(torch.cuda.device_count()):
    print(f"GPU-{torch.cuda.get_device_properties(place).uuid}")
"""


def test_torch_in_the_leased_process_sees_just_that_device() -> None:
    pool = GpuPool(timeout=120)
    with pool.lease(1, "a test", memory_share=0.05) as [lease]:
        [device] = lease.devices
        if not device.whole:
            pytest.skip("torch tells the UUID of the GPU that a MIG instance is part of")
        seen = subprocess.run(
            [sys.executable, "-c", SEEN],
            env={**os.environ, **lease.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert seen.stdout.split() == [device.uuid]
        assert any(device.label in held for held in pool.occupied().values())
