"""What Dagster tells by no public Python API. But for `assets.slots` none imports private modules.

Dagster is pinned to the version that this is written for; a test names what an upgrade breaks.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from dagster import AssetKey, DagsterInstance
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.instance.ref import InstanceRef
from dagster._core.loader import LoadingContextForTest
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._serdes import ConfigurableClassData

from alignment_assets.commands.workspace import LOCATION, MODULE
from alignment_assets.host.expected import Expected


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


@contextmanager
def known_to_the_ui(instance: DagsterInstance, assets: Sequence[AssetKey]) -> Iterator[None]:
    """Have the UI show what the body's runs are of, and launch them again as if they were its own.

    A run that is executed in this process says neither where its job is defined nor which assets it
    is for: the UI then shows no target, leaves it out of the timeline, and cannot run it again.

    Args:
        instance: keeps the runs.
        assets: what they make.
    """
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), "__ASSET_JOB")
    create = instance.create_run_for_job

    def create_run(**described: Any) -> Any:
        return create(
            **{
                **described,
                "asset_selection": frozenset(assets),
                "remote_job_origin": origin,
            }
        )

    instance.create_run_for_job = create_run  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del instance.create_run_for_job


def postgres_url(folder: Path) -> str | None:
    """Return the PostgreSQL database that a folder's ``dagster.yaml`` puts all records in.

    Returns:
        Its URL, password included, as SQLAlchemy takes it; None where records are elsewhere.

    Raises:
        Expected: dagster-postgres is not installed.
        Exception: Dagster refuses the settings.
    """
    data = InstanceRef.from_dir(str(folder)).storage_data
    if data is None or data.module_name != "dagster_postgres":
        return None
    if importlib.util.find_spec("dagster_postgres") is None:
        raise Expected(
            f"{folder / 'dagster.yaml'}: records in PostgreSQL take the package dagster-postgres, "
            f"which is not installed: `make lake` in a checkout, else `pip install "
            f"'alignment-assets[postgres]'`"
        )
    settings = {**data.config_dict, "should_autocreate_tables": False}  # or it would connect now
    described = ConfigurableClassData(data.module_name, data.class_name, yaml.safe_dump(settings))
    storage: Any = described.rehydrate(as_type=DagsterStorage)  # type: ignore[type-abstract]
    return str(storage.postgres_url)
