"""Prompt sources, models and policies as partitions, and which feeds which."""

from __future__ import annotations

from dagster import PartitionMapping, StaticPartitionMapping, StaticPartitionsDefinition

from alignment_assets.recipe.model import Recipe


def source_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each prompt source, in the recipe's order."""
    return StaticPartitionsDefinition([source.name for source in recipe.prompts])


def largest_first(recipe: Recipe, names: tuple[str, ...]) -> list[str]:
    """Order models by size, so that a backfill starts with what takes longest."""
    return sorted(names, key=lambda name: (-recipe.models[name].billions, name))


def model_names(recipe: Recipe) -> list[str]:
    """Return the partitions of ``completions``: the models and the policies."""
    return largest_first(recipe, recipe.completions.models + recipe.completions.policies)


def model_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each model that answers, the policies included."""
    return StaticPartitionsDefinition(model_names(recipe))


def policy_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each policy that is to be aligned."""
    return StaticPartitionsDefinition(largest_first(recipe, recipe.completions.policies))


def model_feeds_policies(recipe: Recipe) -> PartitionMapping:
    """A model's partition feeds every policy; a policy's own feeds itself."""
    policies = set(recipe.completions.policies)
    return StaticPartitionMapping(
        {
            **dict.fromkeys(recipe.completions.models, policies),
            **{policy: {policy} for policy in policies},
        }
    )
