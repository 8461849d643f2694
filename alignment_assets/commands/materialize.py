"""``alignment-assets materialize``: make assets in this process, one launch after another.

A launch is assets that are materialized together, for one partition or for none: for example
``completions, rewards [qwen3-14b]``. All launches run in this process, so those in a row that need
the same engine load it once. This suits small graphs. For large ones, launch backfills in the
Dagster UI: each partition then is a run, in a process of its own.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    ExecuteInProcessResult,
    Failure,
    InitLoggerContext,
    PartitionsDefinition,
    logger,
)

from alignment_assets.assets.graph import build_defs, default_resources
from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.dagster_private import known_to_the_ui
from alignment_assets.commands.failures import LaunchFailed, told_in_a_block
from alignment_assets.commands.home import check_home, dagster_instance, end_killed
from alignment_assets.commands.plan import print_plan
from alignment_assets.commands.progress import shown_progress
from alignment_assets.commands.signals import ended_by_signals
from alignment_assets.commands.summary import print_next_steps, print_rows, print_summary
from alignment_assets.commands.terminal import console, say, tell
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.inference.run_process import process_tag
from alignment_assets.recipe.run import Run


class SelectionError(Expected):
    """A selection or partition that the graph does not have; the message says what it has."""


class _ShortLines(logging.Handler):
    """Shows what a step says, without when, in which job and run; how a run went is told apart."""

    def emit(self, record: logging.LogRecord) -> None:
        said = record.__dict__["dagster_meta"]
        if said["dagster_event"] is None:
            tell(str(said["orig_message"]))


@logger
def warnings_of_steps(context: InitLoggerContext) -> logging.Logger:
    """Return what Dagster hands the log of a run to: it shows warnings, a short line each."""
    lines = logging.Logger("alignment_assets", logging.WARNING)
    lines.addHandler(_ShortLines())
    return lines


# What a job is given, and what its run is: without the latter Dagster shows all on the console.
LOGGERS = {"console": warnings_of_steps}
QUIET: dict[str, Any] = {"loggers": {"console": {}}}


@dataclass(frozen=True)
class Launch:
    """Assets that are materialized together, for one partition or for none."""

    assets: tuple[AssetKey, ...]
    partition: str | None

    @property
    def label(self) -> str:
        """The assets, with the partition in brackets."""
        names = ", ".join(key.to_user_string() for key in self.assets)
        return f"{names} [{self.partition}]" if self.partition else names


def plan_launches(
    defs: Definitions, selection: str | None = None, partition: str | None = None
) -> list[Launch]:
    """Divide a selection of assets into launches, upstream first.

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
    # Dagster runs assets together only if they have the same partitions. So an asset joins the
    # launch of its upstream assets where all have its partitions (rewards joins completions), and
    # comes in a later launch where one has others (judge_comparisons, whose partitions are the
    # policies, after rewards, whose partitions are the models).
    level: dict[AssetKey, int] = {}
    groups: dict[tuple[int, PartitionsDefinition | None], list[AssetKey]] = {}
    for key in graph.toposorted_asset_keys:
        partitions = graph.get(key).partitions_def
        above = [
            (level[parent], graph.get(parent).partitions_def)
            for parent in graph.get(key).parent_keys
        ]
        level[key] = max(
            (rank if parents == partitions else rank + 1 for rank, parents in above), default=0
        )
        if key in chosen:
            groups.setdefault((level[key], partitions), []).append(key)
    runs = [
        Launch(tuple(keys), name)
        for (_, partitions), keys in sorted(groups.items(), key=lambda group: group[0][0])
        for name in (partitions.get_partition_keys() if partitions else [None])
        if partition is None or name == partition
    ]
    if not runs:
        known = sorted(
            {
                name
                for _, partitions in groups
                if partitions
                for name in partitions.get_partition_keys()
            }
        )
        raise SelectionError(
            f"no partition {partition!r}; the selected assets have {', '.join(known) or 'none'}"
        )
    return runs


def execute(
    defs: Definitions,
    launches: list[Launch],
    instance: DagsterInstance,
    tags: Mapping[str, str] | None = None,
) -> Iterator[tuple[Launch, ExecuteInProcessResult]]:
    """Execute them one after another, their tables' checks with them.

    Args:
        defs: the asset graph.
        launches: what to execute.
        instance: keeps the runs.
        tags: what the UI shows of each run, beside its partition.

    Raises:
        LaunchFailed: a step failed, or Dagster did; the cause says why.
    """
    job = defs.resolve_implicit_global_asset_job_def().with_logger_defs(LOGGERS)
    graph = defs.resolve_asset_graph()
    for launch in launches:
        checks = AssetSelection.assets(*launch.assets).resolve_checks(graph)
        subset = job.get_subset(
            asset_selection=set(launch.assets), asset_check_selection=set(checks)
        )
        run_id = str(uuid.uuid4())
        try:
            with known_to_the_ui(instance, launch.assets):
                result = subset.execute_in_process(
                    run_config=QUIET,
                    partition_key=launch.partition,
                    instance=instance,
                    run_id=run_id,
                    tags={**process_tag(run_id), **(tags or {})},
                )
        except Exception as error:
            cause = error.__cause__ if isinstance(error, Failure) else error
            raise LaunchFailed(_failed_step(instance, run_id, launch)) from cause
        yield launch, result


def _failed_step(instance: DagsterInstance, run_id: str, launch: Launch) -> str:
    """Return the asset that failed, or the checks, with the partition; else the launch."""
    try:
        found = instance.get_records_for_run(run_id, of_type=DagsterEventType.STEP_FAILURE).records
    except Exception:  # the disk of the records may be full, and the cause tells more
        found = ()
    for record in found:
        step = str(record.event_log_entry.step_key)
        return f"{step}[{launch.partition}]" if launch.partition else step
    return launch.label


def materialize(
    recipe: str | None, select: str | None, partition: str | None, plan: bool, traceback: bool
) -> None:
    """Do what the command says; its words are in `app`."""
    run = chosen_run(recipe)
    with told_in_a_block(run, traceback), ended_by_signals() as ended:
        _materialize(run, select, partition, plan, ended)


def _materialize(
    run: Run,
    select: str | None,
    partition: str | None,
    plan: bool,
    ended: Callable[[], None],
) -> None:
    resources = default_resources(run)
    defs = build_defs(run, resources)
    launches = plan_launches(defs, select, partition)
    check_home(run)
    if plan:
        print_plan(run, resources, launches)
        return
    warehouse = resources["warehouse"]
    if warehouse.is_there:  # what else it may be is told before a run begins
        warehouse.prepare()
    started = time.monotonic()
    totals = {
        "requests_asked": 0,
        "answers_reused": 0,
        "tokens_in": 0,
        "tokens_out": 0,
        "seconds_answering": 0.0,
    }
    failed_checks: list[AssetCheckEvaluation] = []
    tags = {"recipe": run.recipe.name, "selection": select or "everything"}
    assets = sum(len(launch.assets) for launch in launches)
    with dagster_instance(run) as instance, shown_progress(console, assets) as shown:
        end_killed(instance)
        for number, launch in enumerate(launches, start=1):
            say(f"[{number}/{len(launches)}] {launch.label}")
            shown.began(launch.label)
            for _, result in execute(defs, [launch], instance, tags):
                failed_checks += _count(result, totals)
            shown.ended(len(launch.assets))
            ended()
    seconds = time.monotonic() - started
    if select is None and partition is None:
        print_summary(warehouse, run, console)
    else:
        made = {key.to_user_string() for launch in launches for key in launch.assets}
        print_rows(warehouse, console, made)
    console.print(_spent(totals, seconds), highlight=False)
    print_next_steps(warehouse)
    names = {
        severity: ", ".join(
            f"{check.asset_key.to_user_string()}: {check.check_name}"
            for check in failed_checks
            if check.severity == severity
        )
        for severity in AssetCheckSeverity
    }
    if warned := names[AssetCheckSeverity.WARN]:
        tell(f"warning: checks warn: {warned}; see them in the UI (`{proposed('dev')}`)")
    if failed := names[AssetCheckSeverity.ERROR]:
        raise Expected(f"checks failed: {failed}; see them in the UI (`{proposed('dev')}`)")


def _count(result: ExecuteInProcessResult, totals: dict[str, float]) -> list[AssetCheckEvaluation]:
    """Add up what a run's materializations say they did; return the checks that failed."""
    for event in result.all_events:
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
            for name in totals:
                value = metadata[name].value if name in metadata else None
                if isinstance(value, int | float):
                    totals[name] += value
    return [check for check in result.get_asset_check_evaluations() if not check.passed]


def _spent(totals: dict[str, float], seconds: float) -> str:
    asked, reused = int(totals["requests_asked"]), int(totals["answers_reused"])
    if asked == reused == 0:
        return f"No engine was needed. {seconds:.0f} s in all."
    if asked == 0:
        return (
            f"No inference: all {reused:,} requests were answered before. {seconds:.0f} s in all."
        )
    engine = totals["seconds_answering"]
    speed = totals["tokens_out"] / engine if engine else 0.0
    return (
        f"{asked:,} requests asked, {reused:,} answered before; "
        f"{int(totals['tokens_in']):,} tokens in, {int(totals['tokens_out']):,} out "
        f"in {engine:.0f} s of engine time ({speed:,.0f} tokens/s out). {seconds:.0f} s in all."
    )
