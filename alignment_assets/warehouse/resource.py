"""The warehouse: the database as a Dagster resource.

Here belongs what Dagster adds to a `Database`: the settings in its forms, the log of a run, and
which run it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import DagsterLogManager, InitResourceContext
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.database_file import DatabaseFile
from alignment_assets.warehouse.lake import Lake
from alignment_assets.warehouse.schema import WarehouseError
from alignment_assets.warehouse.staging import Published, Staging, rules_of, shown_row

__all__ = [
    "LakeWarehouse",
    "Published",
    "Staging",
    "Warehouse",
    "WarehouseError",
    "rules_of",
    "shown_row",
    "warehouse_of",
]


class _OfRun(Database, DuckDBResource):
    """What both kinds do in the steps of runs.

    ``database`` and ``connection_config`` mean what they mean in ``DuckDBResource``.
    """

    _run_log: DagsterLogManager | None = PrivateAttr(default=None)
    _run_id: str | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Tell of waits and changes of tables in the log of the run."""
        self._run_log = context.log
        self._run_id = context.run.run_id if context.run else None

    def _log(self, line: str) -> None:
        if self._run_log is None:
            super()._log(line)
        else:
            self._run_log.warning(line)


class Warehouse(_OfRun, DatabaseFile):
    """The DuckDB file of a recipe, for the steps of runs."""


class LakeWarehouse(_OfRun, Lake):
    """The DuckLake of a recipe, for the steps of runs."""

    @property
    def _author(self) -> str:
        return super()._author if self._run_id is None else f"run {self._run_id}"


def warehouse_of(settings: Mapping[str, Any]) -> Warehouse | LakeWarehouse:
    """Return the database with a run's `database_settings` as a resource; nothing is opened."""
    return LakeWarehouse(**settings) if "data" in settings else Warehouse(**settings)
