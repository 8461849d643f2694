"""The warehouse: the database as a Dagster resource.

Here belongs what Dagster adds to `Database`: the settings in its forms, and the log of a run.
"""

from __future__ import annotations

from dagster import DagsterLogManager, InitResourceContext
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.schema import WarehouseError
from alignment_assets.warehouse.staging import Published, Staging, rules_of, shown_row

__all__ = ["Published", "Staging", "Warehouse", "WarehouseError", "rules_of", "shown_row"]


class Warehouse(Database, DuckDBResource):
    """The DuckDB database of a recipe, for the steps of runs.

    ``database`` and ``connection_config`` mean what they mean in ``DuckDBResource``.
    """

    _run_log: DagsterLogManager | None = PrivateAttr(default=None)

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Tell of waits and changes of tables in the log of the run."""
        self._run_log = context.log

    def _log(self, line: str) -> None:
        if self._run_log is None:
            super()._log(line)
        else:
            self._run_log.warning(line)
