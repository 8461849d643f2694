"""Write the expected files anew (``python -m tests.golden.update``); git shows what changed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.golden.database import FOLDER
from tests.golden.results import KINDS, build, columns, results
from tests.support.tables import new_warehouse


def main() -> None:
    """Write what every file of sql/ gives on the fixed database; files that went are removed."""
    folder = FOLDER / "expected"
    with tempfile.TemporaryDirectory() as home:
        warehouse = new_warehouse(Path(home))
        build(warehouse)
        found = {kind: results(warehouse, kind) for kind in KINDS}
    shutil.rmtree(folder, ignore_errors=True)
    for kind, texts in found.items():
        (folder / kind).mkdir(parents=True)
        for name, text in texts.items():
            path = folder / kind / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    (folder / "schema.csv").write_text(columns(), encoding="utf-8")


if __name__ == "__main__":
    main()
