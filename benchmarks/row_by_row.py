"""The selection of pairs as a script does it: ``datasets.map`` with plain Python, a prompt a row.

Beside it, in `benchmarks.full_scale`, stand the same rules in SQL; both must choose the same.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import datasets

from alignment_assets.warehouse.resource import Warehouse
from benchmarks.synthetic import POLICY, apertus

PROMPTS = 20_000
BEST_FIRST = ["above_all", "best", "middle", "worst"]
WORST_FIRST = ["worst", "middle", "best", "above_all"]

_CANDIDATES = """
SELECT
    prompt_id,
    any_value(messages) AS messages,
    list({
        'completion_id': completion_id::VARCHAR,
        'text': completions.text,
        'reward': quantile_rewards.reward,
        'is_reference': completions.variant = 'reference',
        'finish_reason': completions.finish_reason,
        'tokens': completions.prompt_tokens + completions.completion_tokens
    }) AS candidates
FROM quantile_rewards
JOIN completions USING (prompt_id, completion_id)
JOIN alignment_prompts USING (prompt_id)
WHERE prompt_id IN (SELECT prompt_id FROM alignment_prompts ORDER BY prompt_id LIMIT $prompts)
GROUP BY prompt_id
"""


def draw(*parts: str) -> str:
    """Return a sortable text that is a function of the parts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def select(row: dict[str, Any], seed: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Choose a pair from a prompt's candidates; its columns are empty where there is none."""
    references = [
        one["reward"]
        for one in row["candidates"]
        if one["is_reference"] and one["reward"] is not None
    ]
    eligible = []
    for one in row["candidates"]:
        if one["text"] in (None, "") or one["reward"] is None or not references:
            continue
        if one["finish_reason"] == "length" or one["tokens"] > rules["max_sequence_tokens"]:
            continue
        quantile = sum(s <= one["reward"] for s in references) / len(references)
        if one["reward"] > max(references):
            band = "above_all"
        elif quantile == 1:
            band = "best"
        elif quantile <= max(rules["rejected_quantile"], 1 / len(references)):
            band = "worst"
        else:
            band = "middle"
        eligible.append({**one, "quantile": quantile, "band": band})
    best: tuple[tuple[int, str], Any] | None = None
    for one in eligible if len(references) >= rules["min_references"] else ():
        if not any(o["reward"] < one["reward"] and o["text"] != one["text"] for o in eligible):
            continue
        order = (
            BEST_FIRST.index(one["band"]),
            draw(seed, f"chosen/{POLICY}", one["completion_id"]),
        )
        if best is None or order < best[0]:
            best = (order, one)
    if best is None:
        return {"chosen_completion_id": None, "rejected_completion_id": None}
    chosen = best[1]
    rejected = min(
        (o for o in eligible if o["reward"] < chosen["reward"] and o["text"] != chosen["text"]),
        key=lambda o: (
            WORST_FIRST.index(o["band"]),
            draw(seed, f"rejected/{POLICY}", o["completion_id"]),
        ),
    )
    return {
        "chosen": [{"role": "assistant", "content": chosen["text"]}],
        "rejected": [{"role": "assistant", "content": rejected["text"]}],
        "chosen_completion_id": chosen["completion_id"],
        "rejected_completion_id": rejected["completion_id"],
        "chosen_reward": chosen["reward"],
        "rejected_reward": rejected["reward"],
        "chosen_quantile": chosen["quantile"],
        "rejected_quantile": rejected["quantile"],
        "chosen_band": chosen["band"],
        "rejected_band": rejected["band"],
        "reference_rewards": sorted(references),
    }


def select_row_by_row(warehouse: Warehouse, prompts: int, folder: Path) -> float:
    """Select the pairs of some prompts; return the seconds, and check that SQL chose the same."""
    rules = apertus().selection.model_dump()
    with warehouse.read() as connection:
        table = connection.execute(_CANDIDATES, {"prompts": prompts}).to_arrow_table()
        pairs = {
            str(prompt): (str(chosen), str(rejected))
            for prompt, chosen, rejected in connection.execute(
                "SELECT prompt_id, chosen_completion_id, rejected_completion_id FROM dpo_pairs"
            ).fetchall()
        }
    datasets.disable_progress_bars()
    candidates = datasets.Dataset(table)
    seed = str(apertus().seed)
    started = time.monotonic()
    mapped = candidates.map(
        lambda row: select(row, seed, rules),
        remove_columns=["candidates"],
        cache_file_name=str(folder / "pairs.arrow"),
    )
    seconds = time.monotonic() - started
    for row in mapped.select_columns(
        ["prompt_id", "chosen_completion_id", "rejected_completion_id"]
    ):
        found = (row["chosen_completion_id"], row["rejected_completion_id"])
        assert found == pairs.get(row["prompt_id"], (None, None)), row
    return seconds
