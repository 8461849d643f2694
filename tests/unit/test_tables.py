"""The tables of a recipe for Python: opened in a line, read-only, closed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

import alignment_assets
from alignment_assets.host.locking import LockTimeout
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import QueryError
from tests.conftest import REPOSITORY, Graph

NOTEBOOKS = sorted((REPOSITORY / "examples").glob("*.ipynb"))


@pytest.fixture
def made(materialized: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch) -> Graph:
    graph = materialized()
    monkeypatch.setenv("ALIGNMENT_HOME", str(graph.home))
    monkeypatch.delenv("ALIGNMENT_RECIPE", raising=False)
    return graph


def test_tables_are_relations_frames_and_arrow(made: Graph) -> None:
    with alignment_assets.open("demo") as tables:
        assert sorted(tables) == sorted(sql_files.tables())
        pairs = tables["dpo_pairs"].df()
        assert len(pairs) == tables["dpo_pairs"].to_arrow_table().num_rows > 10
        assert {"chosen", "rejected"} <= set(pairs.columns)
        (counted,) = tables.sql(
            "SELECT count(*) FROM completions WHERE model = $model", model="smollm2-135m"
        ).fetchone() or (0,)
        assert (counted,) == made.query(
            "SELECT count(*) FROM completions WHERE model = 'smollm2-135m'"
        )[0]
        with pytest.raises(KeyError, match="dpo_pairs"):
            tables["pairs"]
    with pytest.raises(duckdb.Error):
        tables["dpo_pairs"].fetchall()


def test_tables_are_opened_twice_in_a_process_and_beside_other_readers(made: Graph) -> None:
    first = alignment_assets.open("demo")
    second = alignment_assets.open("demo")  # as a cell of a notebook that is run again
    assert len(first["rewards"]) == len(second["rewards"]) == len(made.query("FROM rewards"))
    first.close()
    assert len(second["rewards"]) > 10
    second.close()
    made.materialize("key:wordings")  # who writes waits for nobody any more


def test_a_home_is_opened_by_its_folder(made: Graph) -> None:
    with alignment_assets.open(made.home) as tables:
        assert len(tables["completions"]) == made.query("SELECT count(*) FROM completions")[0][0]


def test_nothing_is_written_and_no_other_file_read(made: Graph, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    with alignment_assets.open("demo") as tables:
        for query in (
            "DELETE FROM rewards",
            f"SELECT * FROM '{tmp_path}/secret.csv'",
            f"COPY rewards TO '{tmp_path}/rewards.parquet'",
            "SET enable_external_access = true",
        ):
            with pytest.raises(duckdb.Error):
                tables.sql(query)
    assert not (tmp_path / "rewards.parquet").exists()


def test_who_writes_waits_while_tables_are_open_and_not_for_a_snapshot(made: Graph) -> None:
    impatient = made.warehouse.model_copy(update={"lock_timeout": 0.2})
    with alignment_assets.open("demo"), pytest.raises(LockTimeout), impatient.get_connection():
        pass
    made.warehouse.snapshot()
    with alignment_assets.open("demo", snapshot=True) as tables, impatient.get_connection():
        assert len(tables["dpo_pairs"]) > 10


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path))
    with pytest.raises(QueryError, match="run `alignment-assets materialize`"):
        alignment_assets.open("demo")
    with pytest.raises(Exception, match=r"no recipe 'nonesuch'.*demo"):
        alignment_assets.open("nonesuch")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(made: Graph, notebook: Path) -> None:
    names: dict[str, Any] = {}
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert not cell.get("outputs")  # nothing of whoever ran it last
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["pairs"]) > 10
    assert len(names["prompts"]) > 0
