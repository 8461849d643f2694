"""Running the graph in this process: which assets, in which order, partition by partition.

Steps of one process share an engine, so a small graph loads its model once. At scale, launch runs
and backfills from the Dagster UI instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dagster import (
    AssetKey,
    AssetSelection,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    PartitionsDefinition,
)

QUIET = {"loggers": {"console": {"config": {"log_level": "WARNING"}}}}


class SelectionError(ValueError):
    """A selection or partition that the graph does not have; the message says what it has."""


@dataclass(frozen=True)
class Run:
    """Assets that are materialized together, for one partition or for none."""

    assets: tuple[AssetKey, ...]
    partition: str | None

    @property
    def label(self) -> str:
        """The assets, with the partition in brackets."""
        names = ", ".join(key.to_user_string() for key in self.assets)
        return f"{names} [{self.partition}]" if self.partition else names


def plan_runs(
    defs: Definitions, selection: str | None = None, partition: str | None = None
) -> list[Run]:
    """Cut a selection of assets into runs, upstream first.

    Args:
        defs: the asset graph.
        selection: assets in Dagster's selection syntax (``completions+``); all if None.
        partition: only this partition of partitioned assets; all of them if None.

    Raises:
        SelectionError: the selection matches nothing, or no selected asset has the partition.
    """
    graph = defs.resolve_asset_graph()
    names = ", ".join(sorted(key.to_user_string() for key in graph.get_all_asset_keys()))
    wanted: AssetSelection = AssetSelection.all()
    try:
        if selection:
            wanted = AssetSelection.from_string(selection)
        chosen = wanted.resolve(graph)
    except Exception as error:  # the parser's own errors are of several kinds
        raise SelectionError(
            f"cannot select {selection!r}: {error}; the assets are {names}"
        ) from error
    if not chosen:
        raise SelectionError(f"{selection!r} selects nothing; the assets are {names}")
    # An asset joins its upstream's run where they are cut alike, else a later one.
    level: dict[AssetKey, int] = {}
    groups: dict[tuple[int, PartitionsDefinition | None], list[AssetKey]] = {}
    for key in graph.toposorted_asset_keys:
        cut = graph.get(key).partitions_def
        above = [
            (level[parent], graph.get(parent).partitions_def)
            for parent in graph.get(key).parent_keys
        ]
        level[key] = max(
            (rank if parent_cut == cut else rank + 1 for rank, parent_cut in above), default=0
        )
        if key in chosen:
            groups.setdefault((level[key], cut), []).append(key)
    runs = [
        Run(tuple(keys), name)
        for (_, cut), keys in sorted(groups.items(), key=lambda group: group[0][0])
        for name in (cut.get_partition_keys() if cut else [None])
        if partition is None or name == partition
    ]
    if not runs:
        known = sorted({name for _, cut in groups if cut for name in cut.get_partition_keys()})
        raise SelectionError(
            f"no partition {partition!r}; the selected assets have {', '.join(known) or 'none'}"
        )
    return runs


def execute_runs(
    defs: Definitions, runs: list[Run], instance: DagsterInstance
) -> Iterator[tuple[Run, ExecuteInProcessResult]]:
    """Execute runs one after another, their tables' checks with them; a failure raises."""
    job = defs.resolve_implicit_global_asset_job_def()
    graph = defs.resolve_asset_graph()
    for run in runs:
        checks = AssetSelection.assets(*run.assets).resolve_checks(graph)
        subset = job.get_subset(asset_selection=set(run.assets), asset_check_selection=set(checks))
        yield (
            run,
            subset.execute_in_process(
                run_config=QUIET, partition_key=run.partition, instance=instance
            ),
        )
