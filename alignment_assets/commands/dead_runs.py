"""Runs whose process was killed: to Dagster they go on, and keep the engine's slot."""

from __future__ import annotations

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from alignment_assets.inference.run_process import was_killed

_UNDER_WAY = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """End the runs of this host whose process is gone, which frees their slots in pools.

    Returns:
        The ids of the runs.
    """
    ended = []
    for run in instance.get_runs(filters=RunsFilter(statuses=_UNDER_WAY)):
        if was_killed(run.run_id, run.tags):
            instance.report_run_failed(run, "Its process was killed, or the machine restarted.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended.append(run.run_id)
    return ended
