"""Jobs: parts of the graph that are launched together, each with one kind of partition or none.

Dagster joins no two kinds of partitions in a job, and would make an asset without partitions again
for each one. So the whole recipe is no job: it is *Materialize all* in the graph, or the command
``alignment-assets materialize``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster import (
    AssetsDefinition,
    AssetSelection,
    AutomationCondition,
    AutomationConditionSensorDefinition,
    DefaultSensorStatus,
    define_asset_job,
)

from alignment_assets.warehouse.lineage import PARTITION_COLUMNS

# For each kind of partition (None has none): the job, and what it is for.
_JOBS = {
    "dataset": (
        "read_sources",
        "Read the prompt sources: a partition is a source. Then launch prompts_and_labels.",
    ),
    "candidate": (
        "try_graders",
        "Ask candidates for the grader about what people have labelled: a partition is a model "
        "with a wording. Then launch prompts_and_labels again, which compares them.",
    ),
    None: (
        "prompts_and_labels",
        "From all sources to the prompts that are asked: consent, licences, grades of controversy, "
        "tracks, and how far the grades agree with people. Then launch one_model.",
    ),
    "model": (
        "one_model",
        "What a model is asked, what it answers, and the answers' rewards: a partition is a model. "
        "Backfill all of them, then launch training_sets.",
    ),
    "scorer": (
        "calibrate_scorers",
        "Try the scorer of each track on answers that get worse step by step: a partition is a "
        "track. All models have to have rewards.",
    ),
    "policy": (
        "training_sets",
        "A policy's comparisons, quantiles, pairs, samples and their export: a partition is a "
        "policy. All of its models have to have rewards.",
    ),
}


def jobs(assets: Sequence[AssetsDefinition]) -> list[Any]:
    """Return a job for the assets of each kind of partition."""
    tables = [key.to_user_string() for asset in assets for key in asset.keys]
    return [
        define_asset_job(
            name,
            AssetSelection.assets(*(t for t in tables if PARTITION_COLUMNS.get(t) == column)),
            description=description,
        )
        for column, (name, description) in _JOBS.items()
    ]


def automation_of(table: str) -> AutomationCondition[Any] | None:
    """Return when a table is made by itself, once that is switched on; None if never.

    A policy's tables are made when all above them is there and something of it is new: the rewards
    of all its models.
    """
    return AutomationCondition.eager() if PARTITION_COLUMNS.get(table) == "policy" else None


def automation(assets: Sequence[AssetsDefinition]) -> AutomationConditionSensorDefinition:
    """Return the sensor that makes a policy's tables by themselves; it is off until switched on."""
    tables = [key.to_user_string() for asset in assets for key in asset.keys]
    return AutomationConditionSensorDefinition(
        "build_training_sets",
        target=AssetSelection.assets(*(t for t in tables if automation_of(t))),
        description="Builds a policy's training sets when the rewards of all its models are there.",
        default_status=DefaultSensorStatus.STOPPED,
    )
