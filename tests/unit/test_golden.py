"""Every file in sql/ on one tiny fixed database, against results that a reader can check."""

from __future__ import annotations

import pytest

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import changed_recipe
from tests.golden.database import FOLDER, GOLDEN
from tests.golden.results import (
    KINDS,
    OF_SCORERS,
    broken_rules,
    build,
    columns,
    expected,
    results,
)
from tests.support.tables import new_warehouse, read_rows

Found = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The fixed database, every table built by the product's own SQL."""
    warehouse = new_warehouse(tmp_path_factory.mktemp("golden"))
    build(warehouse)
    return warehouse


@pytest.fixture(scope="module")
def found(warehouse: Warehouse) -> Found:
    return {kind: results(warehouse, kind) for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in KINDS
        for name in sorted({*sql_files.sql_names(kind), *expected(kind)})
        # A lab may have scorers of its own, which nobody asks here.
        if name in expected(kind) or not name.startswith("rewards/")
    ],
)
def test_a_file_gives_what_its_expected_file_says(found: Found, kind: str, name: str) -> None:
    assert name in sql_files.sql_names(kind), (
        f"tests/golden/expected/{kind}/{name}.csv has no SQL file"
    )
    assert name in expected(kind), f"sql/{kind}/{name}.sql has no expected file"
    assert found[kind][name] == expected(kind)[name]


def test_the_columns_are_those_that_the_expected_file_lists() -> None:
    assert columns() == (FOLDER / "expected/schema.csv").read_text(encoding="utf-8")


def test_every_rule_holds_and_has_rows_to_look_at(warehouse: Warehouse) -> None:
    assert broken_rules(warehouse) == []
    tables = {rule.split("/")[0] for rule in sql_files.sql_names("checks")} - {*OF_SCORERS}
    assert [table for table in tables if not read_rows(warehouse, f"FROM {table} LIMIT 1")] == []


def test_the_database_has_every_setting_and_no_answer_that_nobody_asks_for(
    warehouse: Warehouse, found: Found
) -> None:
    assert GOLDEN["settings"].keys() <= changed_recipe().settings().keys()
    completions = found["assets"]["completions"].splitlines()[1:]
    assert {line.split(",")[0] for line in completions} == GOLDEN["completions"].keys()
    compared = read_rows(warehouse, "FROM judge_comparisons")
    assert len(compared) == len(GOLDEN["comparisons"])
