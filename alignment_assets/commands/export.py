"""``alignment-assets export``: training sets as files, in a folder or on the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from alignment_assets.assets.graph import default_resources
from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.terminal import say, tell
from alignment_assets.exports import hub
from alignment_assets.exports.export import Exported, check_policy, source_of, write_export
from alignment_assets.exports.formats import formats
from alignment_assets.exports.placing import check_target, placed
from alignment_assets.exports.shards import Source
from alignment_assets.host.expected import Expected
from alignment_assets.recipe.run import Run
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import check_there

HUB = "hub:"


def export(
    recipe: str | None,
    format: Sequence[str],
    policy: Sequence[str],
    to: str | None,
    split: float | None,
    upload: bool,
) -> None:
    """Do what the command says; its words are in `app`."""
    run = run_to_read(recipe)
    repository = to.removeprefix(HUB) if to and to.startswith(HUB) else None
    if upload and repository is None:
        raise Expected(f"--upload is about the hub: add --to {HUB}owner/name")
    if to is None and (format or split is not None):
        raise Expected(
            f"--format and --split make another export than {run.exports} has: add --to FOLDER"
        )
    if split == 1:
        raise Expected("--split 1 leaves nothing to train on: give a share below 1")
    policies = _policies(run, policy)
    check_there(database_of(run.database_settings))
    if repository is not None:
        if len(policies) > 1:
            raise Expected(
                f"--to {HUB}{repository}: one repository has the export of one policy; add "
                f"--policy {policies[0]}, or another of {', '.join(policies)}"
            )
        _to_hub(run, format, policies[0], split, repository, upload)
        return
    base = run.exports if to is None else Path(to)
    if to is not None and base.resolve().is_relative_to(run.home.resolve()):
        raise Expected(
            f"--to {to}: {run.home} holds what the product keeps; name a folder elsewhere, or "
            f"leave --to out for {run.exports}"
        )
    for name in policies:
        target = base if to is not None and len(policies) == 1 else base / name
        check_target(target)
        if to is not None and Path.cwd().is_relative_to(target.resolve()):
            raise Expected(f"--to {to} is where this was called from; name a folder in it")
        with placed(target) as folder:
            made = _write(run, format, name, split, folder)
        say(f"{target}: {_told(made)}")


def _policies(run: Run, named: Sequence[str]) -> list[str]:
    unknown = [name for name in named if name not in run.recipe.policies]
    if unknown:
        raise Expected(
            f"--policy {unknown[0]}: the recipe {run.recipe.name} has no such policy; it has "
            f"{', '.join(run.recipe.policies)}"
        )
    return list(dict.fromkeys(named)) or run.recipe.policies


def _write(
    run: Run,
    format: Sequence[str],
    policy: str,
    split: float | None,
    folder: Path,
    *,
    for_others: bool = False,
) -> Exported:
    recipe, warehouse = run.recipe, database_of(run.database_settings)
    wanted = formats(format or None)
    share = recipe.export.test_share if split is None else split
    with warehouse.read() as connection:
        Lineage(connection, recipe.settings()).check(TablePart("training_export", policy))
        (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        source = source_of(run, connection, database, policy, share)
        _check(source, run)
        return write_export(source, recipe, wanted, folder, for_others=for_others)


def _check(source: Source, run: Run) -> None:
    inference = default_resources(run)["inference"]
    try:
        tokenizer = inference.tokenizer(source.policy, run)
        model = inference.fingerprint(source.policy, run)
    except Expected as error:  # a database may be where the models are not
        tell(f"not known whether {source.policy} is the model of the rows: {error}")
        return
    check_policy(source, tokenizer, model)


def _to_hub(
    run: Run,
    format: Sequence[str],
    policy: str,
    split: float | None,
    repository: str,
    upload: bool,
) -> None:
    hub.check(repository, upload=upload)
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        _write(run, format, policy, split, Path(folder), for_others=True)
        files = hub.files_of(Path(folder))
        for name, size in files.items():
            say(f"{size:>15,}  {name}")
        what = f"{len(files)} files, {sum(files.values()):,} bytes"
        where = f"the private data set {repository} of {hub.shown(hub.endpoint())}"
        if upload:
            say(f"{hub.upload(Path(folder), repository)}: {what}, in {where}")
        else:
            say(f"Nothing was uploaded. With --upload {what} go to {where}.")


def _told(made: Exported) -> str:
    rows: dict[str, int] = {}
    for file in made.files:
        rows[file.format] = rows.get(file.format, 0) + file.rows
    listed = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    return f"rows of {listed}; {made.bytes / 1e6:,.1f} MB"
