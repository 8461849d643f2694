"""The least that could be done for a training set: what the steps of `full_scale` stand beside."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Protocol

from alignment_assets.warehouse.resource import Warehouse
from alignment_assets.warehouse.rewrite import STORAGE
from benchmarks.synthetic import POLICY

SCANS = (
    "SELECT sum(strlen(text)), min(completion_id), sum(completion_tokens), min(text_hash) "
    "FROM completions",
    "SELECT sum(list_sum(list_transform(messages, lambda m: strlen(m.content)))), "
    "min(prompt_id) FROM alignment_prompts",
    "SELECT min(completion_id), min(prompt_id), sum(reward), sum(quantile), "
    "min(normal_hash), min(band), min(ineligible_reason), min(track), min(model), "
    "min(variant) FROM quantile_rewards",
)
GROUPS = """
CREATE TEMP TABLE least AS
SELECT prompt_id, min(one) AS least, max(one) AS greatest
FROM (
    SELECT
        prompt_id,
        {
            'band': band, 'reward': reward, 'quantile': quantile, 'text': normal_hash,
            'candidate': completion_id
        } AS one
    FROM quantile_rewards
    WHERE policy = $policy AND ineligible_reason IS NULL
)
GROUP BY prompt_id
"""
TEXTS = (
    "SELECT prompt, chosen, rejected FROM warehouse.main.dpo_pairs",
    "SELECT prompt, completion FROM warehouse.main.qrpo_samples",
)


class HasWarehouse(Protocol):
    """A world that has a database in its home."""

    home: Path

    @property
    def warehouse(self) -> Warehouse:
        """The database."""


def scan(world: HasWarehouse) -> int:
    """Read the columns that a training set is made of."""
    with world.warehouse.read() as connection:
        for query in SCANS:
            connection.execute(query).fetchall()
    return 0


def group(world: HasWarehouse) -> int:
    """Find the least and the greatest candidate of each prompt; return how many prompts."""
    with world.warehouse.read() as connection:
        connection.execute(GROUPS, {"policy": POLICY})
        (prompts,) = connection.execute("SELECT count(*) FROM least").fetchone() or (0,)
    return int(prompts)


def copy_texts(world: HasWarehouse) -> int:
    """Read the texts once, and write those that are selected once for each table."""
    bare = world.home / "bare.duckdb"
    with closing(world.warehouse.connect(":memory:")) as connection:
        connection.execute("SET disabled_compression_methods = 'fsst'")
        connection.execute(f"ATTACH '{world.warehouse.path}' AS warehouse (READ_ONLY)")
        connection.execute(f"ATTACH '{bare}' AS bare (STORAGE_VERSION '{STORAGE}')")
        connection.execute("SELECT sum(strlen(text)) FROM warehouse.main.completions").fetchall()
        for number, query in enumerate(TEXTS):
            connection.execute(f"CREATE TABLE bare.texts_{number} AS {query}")
        connection.execute("DETACH bare")
    bare.unlink()
    return 0
