"""Sources, candidates, models and policies as partitions, and which feeds which."""

from __future__ import annotations

from dagster import PartitionMapping, StaticPartitionMapping, StaticPartitionsDefinition

from alignment_assets.recipe.model import Recipe


def source_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each prompt source, in the recipe's order."""
    return StaticPartitionsDefinition([source.name for source in recipe.prompts])


def candidate_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each candidate for the grader, first who grades now."""
    return StaticPartitionsDefinition(list(recipe.controversy.candidates))


def scorer_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for the scorer of each track."""
    return StaticPartitionsDefinition(list(recipe.rewards.scorers))


def models_feed_scorers(recipe: Recipe) -> PartitionMapping:
    """The models' partitions feed the trials of scorers; the policies' do not."""
    scorers = set(recipe.rewards.scorers)
    return StaticPartitionMapping(dict.fromkeys(recipe.completions.models, scorers))


def model_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each model that answers, the policies included."""
    return StaticPartitionsDefinition(recipe.answering_models)


def policy_partitions(recipe: Recipe) -> StaticPartitionsDefinition:
    """One partition for each policy that is to be aligned."""
    return StaticPartitionsDefinition(recipe.policies)


def model_feeds_policies(recipe: Recipe) -> PartitionMapping:
    """A model's partition feeds every policy; a policy's own feeds itself."""
    policies = set(recipe.completions.policies)
    return StaticPartitionMapping(
        {
            **dict.fromkeys(recipe.completions.models, policies),
            **{policy: {policy} for policy in policies},
        }
    )
