"""What Dagster tells by no public Python API. But for `assets.slots` none imports private modules.

Dagster is pinned to the version that this is written for; a test names what an upgrade breaks.
"""

from __future__ import annotations

from typing import Any

from dagster import AssetKey, DagsterInstance
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest


class StaleCauses:
    """Why assets and partitions are stale, as Dagster's web server tells."""

    def __init__(self, instance: DagsterInstance, graph: BaseAssetGraph[Any]) -> None:
        self._resolver = CachingStaleStatusResolver(
            instance, graph, LoadingContextForTest(instance)
        )

    def causes(self, key: AssetKey, partition: str | None = None) -> set[str]:
        """Return why a table or partition that was made is stale; nothing if it is not."""
        causes = self._resolver.get_stale_root_causes(key, partition)
        return {cause.reason for cause in causes}
