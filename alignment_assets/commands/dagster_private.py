"""What Dagster tells by no public Python API. But for `assets.slots` none imports private modules.

Dagster is pinned to the version that this is written for; a test names what an upgrade breaks.
"""

from __future__ import annotations

from typing import Any

from dagster import AssetKey, DagsterInstance
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest


class StaleStatuses:
    """Which assets and partitions are fresh, stale or missing, as Dagster's web server tells."""

    def __init__(self, instance: DagsterInstance, graph: BaseAssetGraph[Any]) -> None:
        self._resolver = CachingStaleStatusResolver(
            instance, graph, LoadingContextForTest(instance)
        )

    def status(self, key: AssetKey, partition: str | None = None) -> str:
        """Return ``fresh``, ``missing``, or ``stale`` with the causes."""
        status = self._resolver.get_status(key, partition).value.lower()
        if status != "stale":
            return status
        causes = {cause.reason for cause in self._resolver.get_stale_root_causes(key, partition)}
        return f"stale: {', '.join(sorted(causes))}" if causes else status
