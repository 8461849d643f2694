"""What the training examples read of an export: its rows, and the policy that they train."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # the run has fetched what there is to fetch

try:
    import accelerate  # noqa: F401
    import datasets
    import transformers
    import trl  # noqa: F401
except ImportError as missing:
    raise SystemExit(
        f"{missing.name} is not installed: run `make install`, or `pip install '.[train]'`"
    ) from None

from alignment_assets.host.expected import Expected
from alignment_assets.inference.packaged import unpacked

datasets.disable_progress_bars()
transformers.logging.disable_progress_bar()


def arguments(description: str, output: str) -> argparse.Namespace:
    """Read the command line; its defaults are the demo's."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FOLDER",
        default="data/demo/exports/smollm2-135m-policy",
        help="an export of `make demo` or `alignment-assets export` (default: %(default)s)",
    )
    parser.add_argument(
        "--model", metavar="PATH", help="the weights to train (default: the policy of the export)"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        default=10,
        help="how many batches (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        default=output,
        help="where the trained model is saved (default: %(default)s)",
    )
    return parser.parse_args()


def read_rows(export: Path, config: str) -> datasets.Dataset:
    """Return the rows of one of an export's formats."""
    if not (export / "manifest.json").is_file():
        raise SystemExit(
            f"no export in {export}: run `make demo`, or name one of yours with --export"
        )
    try:
        rows = datasets.load_dataset(str(export), config, split="train")
    except (ValueError, datasets.exceptions.DatasetGenerationError):  # no such format, or empty
        rows = []
    if not len(rows):
        raise SystemExit(
            f"{export} has no rows of {config}; its manifest.json says what it holds, and what was "
            f"left out and why"
        )
    return rows


def load_policy(export: Path, model: str | None) -> tuple[Any, Any]:
    """Return model and tokenizer: those named, or else the policy that the export is made for."""
    policy = json.loads((export / "manifest.json").read_text(encoding="utf-8"))["policy"]
    template = policy.get("chat_template")  # the recipe's own, in place of the model's
    weights, revision = (
        (model, "main") if model else (policy["weights"], policy.get("revision", "main"))
    )
    try:
        if weights.startswith("package:"):
            weights = str(unpacked(weights.removeprefix("package:")))
        place = {"pretrained_model_name_or_path": weights.removeprefix("hf:"), "revision": revision}
        trained = transformers.AutoModelForCausalLM.from_pretrained(**place, dtype="float32")
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    except (Expected, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SystemExit(
            f"no model can be loaded from {weights} ({reason}): name a folder with --model"
        ) from None
    if template:
        tokenizer.chat_template = (export / template).read_text(encoding="utf-8")
    return trained, tokenizer


def check_tokens(rows: datasets.Dataset, ids: str, count: str) -> None:
    """Stop unless completions are as many tokens here as the export counted.

    Reference log-probabilities are sums over tokens: those of another chat template are of no use.
    """
    for number, row in enumerate(rows.select_columns([ids, count])):
        if len(row[ids]) != row[count]:
            raise SystemExit(
                f"row {number}: {count} is {row[count]} in the export and {len(row[ids])} by this "
                f"tokenizer and chat template: train the policy that the export is made for"
            )


class Progress(transformers.TrainerCallback):
    """Prints loss and margin: how far the chosen's implicit reward is above the rejected's."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Print a line; called by the trainer."""
        if "loss" in logs and state.is_world_process_zero:
            loss, margin = float(logs["loss"]), float(logs["rewards/margins"])
            step = f"step {state.global_step}/{state.max_steps}"
            print(f"{step}: loss {loss:.4f}, margin {margin:+.4f}", flush=True)
