"""The asset graph of a recipe, and what its steps run on.

Here belongs what stands together in a graph; an asset is in the module of its stage. Importing this
builds no graph: `alignment_assets.definitions` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import Definitions, in_process_executor

from alignment_assets.assets.calibration import calibration_assets, calibration_check
from alignment_assets.assets.checks import bounds_checks, table_checks
from alignment_assets.assets.completions import completion_assets
from alignment_assets.assets.jobs import automation, jobs
from alignment_assets.assets.labels import label_assets
from alignment_assets.assets.prompts import prompt_assets
from alignment_assets.assets.rewards import reward_assets
from alignment_assets.assets.selection_report import selection_report_asset
from alignment_assets.assets.slots import wait_with_patience
from alignment_assets.assets.training_export import training_export_asset
from alignment_assets.assets.training_sets import training_set_assets
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backends.by_model import InferenceByModel, check_backends
from alignment_assets.pages.questions import check_pages
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.resource import warehouse_of


def open_run(recipe: str | None = None) -> Run:
    """Return the run of a recipe, given by name or path, in the home that the environment gives it.

    Raises:
        RecipeError: see `load_recipe` and `check_backends`.
    """
    run = Run.of(load_recipe(recipe))
    check_backends(run.recipe)
    return run


def default_resources(run: Run) -> dict[str, Any]:
    """Return the resources of a run on this host: its database, its models, the host's GPUs."""
    return {
        "warehouse": warehouse_of(run.database_settings),
        "inference": InferenceByModel(),
        "gpus": GpuPool(),
    }


def build_defs(run: Run, resources: Mapping[str, Any] | None = None) -> Definitions:
    """Build the asset graph of a run.

    Args:
        run: the recipe and its home.
        resources: stand in for `default_resources` of the same name: warehouse, inference, gpus.
    """
    wait_with_patience()
    check_pages()  # before anything has run for hours
    assets = [
        *prompt_assets(run),
        *label_assets(run),
        *completion_assets(run),
        *reward_assets(run),
        *calibration_assets(run),
        *training_set_assets(run),
        selection_report_asset(run),
        training_export_asset(run),
    ]
    return Definitions(
        assets=assets,
        asset_checks=[*table_checks(run), *bounds_checks(run), calibration_check(run)],
        jobs=jobs(assets),
        sensors=[automation(assets)],
        # One process a run: its steps share an engine, and starting a step costs nothing.
        executor=in_process_executor,
        resources={**default_resources(run), **(resources or {})},
    )
