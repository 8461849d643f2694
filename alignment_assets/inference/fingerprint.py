"""What a model is, as one hash: weights, chat template, its arguments and the template date.

A hub revision is resolved to a commit once and recorded, so that ``main`` does not move under a
run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from alignment_assets.host.durable import read_record, write_record
from alignment_assets.host.expected import Expected
from alignment_assets.host.hub import hub_commit
from alignment_assets.host.locking import locked
from alignment_assets.inference.counting import TokenizerSettings
from alignment_assets.inference.packaged import unpacked
from alignment_assets.recipe.environment import from_environment
from alignment_assets.recipe.model import Model, Recipe
from alignment_assets.recipe.run import Run

CHUNK = 1 << 22
# What tokenizers and chat templates are in, of all that stands beside a model's weights.
TOKENIZER_FILES = (
    *("tokenizer*", "chat_template*", "chat_templates/*", "special_tokens_map.json"),
    *("added_tokens.json", "vocab*", "merges.txt", "*.tiktoken", "*.model", "config.json"),
)


class ModelError(Expected):
    """Weights that cannot be found or reached; the message says where and what to do."""


@dataclass(frozen=True)
class Weights:
    """Where an engine loads a model from, and what its content is.

    Attributes:
        location: a local folder, a hub repository, or the name that endpoints serve.
        commit: the resolved commit of a hub repository; None for a folder.
        content: the commit, or a hash over the folder's files.
    """

    location: str
    commit: str | None
    content: str


def resolve_weights(name: str, run: Run) -> Weights:
    """Find the weights of one of the recipe's models; those in a package are unpacked at first use.

    Raises:
        ModelError: no such folder.
        PackageError: no such package, or one without weights.
        RevisionError: the hub does not answer for the revision.
        UnsetError: ``env:NAME`` names a variable that is not set.
    """
    recipe = run.recipe
    model = recipe.models[name]
    value = from_environment(model.weights, f"recipe {recipe.name}: models.{name}.weights")
    if value.startswith("served:"):
        return Weights(value.removeprefix("served:"), None, f"{value}@{model.revision}")
    if value.startswith("hf:"):
        repository = value.removeprefix("hf:")
        commit = hub_commit("model", repository, model.revision, run.revisions)
        return Weights(repository, commit, commit)
    if value.startswith("package:"):
        folder = unpacked(value.removeprefix("package:"))
    else:
        folder = recipe.resolve(value)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"recipe {recipe.name}: models.{name}.weights: no model in {folder} (no config.json); "
            f"name a folder that has one, hf:owner/name or package:NAME"
        )
    return Weights(str(folder), None, _folder_content(folder, run.file_hashes))


def tokenizer_settings(name: str, run: Run) -> TokenizerSettings | None:
    """Find the tokenizer of one of the recipe's models; None if servers alone know the weights.

    Of a hub repository those files are fetched that a tokenizer is made of.

    Raises:
        ModelError: the hub does not give them, and `resolve_weights`.
    """
    model, recipe = run.recipe.models[name], run.recipe
    weights = resolve_weights(name, run)
    if weights.content.startswith("served:"):
        return None
    folder = weights.location
    if weights.commit is not None:
        from huggingface_hub import snapshot_download

        try:
            folder = snapshot_download(
                weights.location, revision=weights.commit, allow_patterns=list(TOKENIZER_FILES)
            )
        except Exception as error:  # offline, gated, no such repository: all end the same way
            raise ModelError(
                f"recipe {recipe.name}: models.{name}.weights: the hub does not give the tokenizer "
                f"of {weights.location} at {weights.commit}: {error}"
            ) from error
    template = recipe.chat_template(model)
    return TokenizerSettings(folder, template, model.chat_template_arguments, recipe.template_date)


def tokenizer_fingerprint(settings: TokenizerSettings) -> str:
    """Return sha256 over all that makes a tokenizer count as it does, wherever it stands."""
    folder = Path(settings.folder)
    files = sorted(
        {path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}
    )
    hashes = {
        path.relative_to(folder).as_posix(): _hash_file(path)
        for path in files
        if path.name != "config.json"  # of the model: another one may have the same tokenizer
    }
    content = [
        hashes,
        settings.chat_template,
        settings.chat_template_arguments,
        settings.template_date,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def model_fingerprint(weights: Weights, model: Model, recipe: Recipe) -> str:
    """Return sha256 over all that makes a model answer as it does, but for sampling."""
    template = recipe.chat_template(model)
    content = [
        weights.content,
        template,
        model.chat_template_arguments,
        recipe.template_date,
    ]
    if model.system_prompt != "own_message":  # so that all other models' stay as they were
        content.append(model.system_prompt)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _folder_content(folder: Path, path: Path) -> str:
    lock = path.with_name(f"{path.name}.lock")
    with locked(lock, exclusive=True, timeout=3600, purpose="hashing weights"):
        known = read_record(path)
        before = dict(known)
        hashes = {}
        for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
            state = file.stat()
            key = f"{file}|{state.st_size}|{state.st_mtime_ns}"
            if key not in known:
                known[key] = _hash_file(file)
            hashes[str(file.relative_to(folder))] = known[key]
        if known != before:
            write_record(path, known)
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
