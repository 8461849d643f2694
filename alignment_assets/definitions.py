"""What Dagster loads: `build_defs` for any recipe and resources, and ``defs`` for the chosen one.

Importing this reads ``ALIGNMENT_RECIPE``, ``ALIGNMENT_HOME`` and the recipe's files. It opens no
database, network or engine, and loads neither torch nor vllm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import Definitions, in_process_executor

from alignment_assets.assets.checks import table_checks
from alignment_assets.assets.completions import completion_assets
from alignment_assets.assets.labels import label_assets
from alignment_assets.assets.prompts import prompt_assets
from alignment_assets.assets.rewards import reward_assets
from alignment_assets.assets.training_sets import training_set_assets
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.host.paths import home_folder
from alignment_assets.inference.backends.by_model import ModelInference
from alignment_assets.recipe.load import load_recipe
from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse.resource import Warehouse


def default_resources(recipe: Recipe) -> dict[str, Any]:
    """Return the resources of a run on this host: its DuckDB file, its models, the host's GPUs."""
    limits = recipe.warehouse.model_dump(exclude_none=True)
    if recipe.warehouse.temp_directory:
        limits["temp_directory"] = str(recipe.resolve(recipe.warehouse.temp_directory))
    return {
        "warehouse": Warehouse(
            database=str(home_folder(recipe.name) / "alignment.duckdb"),
            connection_config=limits,
            recipe=recipe.name,
        ),
        "inference": ModelInference(),
        "gpus": GpuPool(),
    }


def build_defs(recipe: Recipe, resources: Mapping[str, Any] | None = None) -> Definitions:
    """Build the asset graph of a recipe.

    Args:
        recipe: the run.
        resources: stand in for `default_resources` of the same name: warehouse, inference, gpus.
    """
    return Definitions(
        assets=[
            *prompt_assets(recipe),
            *label_assets(recipe),
            *completion_assets(recipe),
            *reward_assets(recipe),
            *training_set_assets(recipe),
        ],
        asset_checks=table_checks(recipe),
        # One process a run: its steps share an engine, and starting a step costs nothing.
        executor=in_process_executor,
        resources={**default_resources(recipe), **(resources or {})},
    )


defs = build_defs(load_recipe())
