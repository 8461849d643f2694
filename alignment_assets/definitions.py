"""What Dagster loads: ``defs``, the asset graph of the chosen recipe.

Importing this reads ``ALIGNMENT_RECIPE``, ``ALIGNMENT_HOME`` and the recipe's files. It opens no
database, network or engine, and loads neither torch nor vllm. `build_defs` makes the graph of any
run and resources.
"""

from __future__ import annotations

from alignment_assets.assets.graph import build_defs, default_resources, open_run

__all__ = ["build_defs", "default_resources", "defs", "open_run"]

defs = build_defs(open_run())
