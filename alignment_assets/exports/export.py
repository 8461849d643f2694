"""An export, written: the files of each format, and beside them what says what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from alignment_assets.exports.card import QUESTIONS, write_card
from alignment_assets.exports.croissant import write_croissant
from alignment_assets.exports.formats import ExportError, Format
from alignment_assets.exports.manifest import TEMPLATE, manifest, shown_weights, write_manifest
from alignment_assets.exports.shards import File, Source, write_formats
from alignment_assets.host.durable import sync
from alignment_assets.host.hub import recorded_commit
from alignment_assets.pages.answers import Answer, ask_published
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.removed import rows_hidden

# What the manifest tells of sql/analysis.
_TOLD = ("left_out_of_exports", "engines_by_model")


@dataclass(frozen=True)
class Exported:
    """What was written into a folder.

    Attributes:
        files: those of its formats.
        bytes: of all its files.
    """

    files: Sequence[File]
    bytes: int


def source_of(
    run: Run,
    connection: duckdb.DuckDBPyConnection,
    database: str,
    policy: str,
    test_share: float,
) -> Source:
    """Return where the rows of a policy's export come from.

    Args:
        run: whose recipe says the rest.
        connection: to the tables.
        database: the name that the database is attached by.
        policy: the policy.
        test_share: of the prompts, for the split ``test``.
    """
    recipe, model = run.recipe, run.recipe.models[policy]
    repository, commit = model.weights.removeprefix("hf:"), None
    if repository != model.weights:
        commit = recorded_commit("model", repository, model.revision, run.revisions)
    arguments = model.chat_template_arguments
    return Source(connection, database, policy, recipe.settings(), test_share, arguments, commit)


def check_policy(source: Source, tokenizer: str | None, model: str) -> None:
    """Check that rows say of the policy what they are made by.

    An export tells its chat template and arguments as the recipe has them now, beside counts and
    log-probabilities of before.

    Args:
        source: where rows come from.
        tokenizer: the fingerprint of the policy's tokenizer now; None if servers alone have it.
        model: the policy's fingerprint now.

    Raises:
        ExportError: rows were counted or rated by another.
    """
    policy = source.policy
    for table, column, now in (
        ("policy_tokens", "tokenizer_fingerprint", tokenizer),
        ("reference_logprobs", "model_fingerprint", model),
    ):
        others = source.connection.execute(
            f'SELECT count(*) FROM "{source.database}".main.{table} '
            f"WHERE policy = $policy AND {column} IS DISTINCT FROM $now",
            {"policy": policy, "now": now},
        ).fetchone()
        if others and others[0]:
            raise ExportError(
                f"training_export[{policy}]: nothing was written, as {table}[{policy}] is by "
                f"another tokenizer, chat template or weights of the policy than the recipe has "
                f"now; materialize key:policy_tokens+ of that partition"
            )


def write_export(
    source: Source,
    recipe: Recipe,
    formats: Sequence[Format],
    folder: Path,
    *,
    for_others: bool = False,
) -> Exported:
    """Write a policy's export into an empty folder.

    Args:
        source: where rows come from.
        recipe: what they were made by.
        formats: which of them.
        folder: where to; see `placing.placed`.
        for_others: it leaves this machine: where a folder of weights stands is not told.

    Raises:
        ExportError: a format cannot be written.
        WarehouseError: a question of the data card cannot be answered.
        OSError: the disk takes no more.
    """
    written = write_formats(source, formats, folder)
    answers = _answers(source, recipe)
    content = manifest(source, recipe, written, answers)
    if for_others:
        content["policy"]["weights"] = shown_weights(content["policy"]["weights"])
    if (template := recipe.chat_template(recipe.models[source.policy])) is not None:
        (folder / TEMPLATE).write_text(template, encoding="utf-8")
    write_card(folder, content, recipe, answers)
    write_croissant(folder, content)
    write_manifest(folder, content)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        sync(path)
    return Exported(
        [file for one in written for file in one.files], sum(path.stat().st_size for path in files)
    )


def _answers(source: Source, recipe: Recipe) -> Mapping[str, Answer]:
    """Ask what is told of an export: of policies' rows its own alone."""
    seen = {**recipe.members, "policy": [source.policy]}
    with rows_hidden(source.connection, seen, source.database, but="training_export"):
        names = dict.fromkeys((*_TOLD, *QUESTIONS))
        return ask_published(source.connection, names, source.values)
