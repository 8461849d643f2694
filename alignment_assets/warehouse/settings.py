"""DuckDB's settings in this product, and what a machine decides of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignment_assets.host.machine import MEBI, cores, memory_bytes

# Of the machine's memory, for one process: dagster.yaml lets four runs work at once, and a fifth of
# the memory is left to all else.
PROCESS_MEMORY_SHARE = 0.2


def duckdb_settings(configured: Mapping[str, Any], spill: Path) -> dict[str, Any]:
    """Return the settings of a connection.

    Args:
        configured: what the configuration says, which goes first.
        spill: the folder for what outgrows memory, of one process and file.
    """
    return {
        "memory_limit": f"{int(memory_bytes() * PROCESS_MEMORY_SHARE) // MEBI}MiB",
        "threads": cores(),
        # Rows have no order but the one a query asks for.
        "preserve_insertion_order": "false",
        # With it, DuckDB 1.5.5 left a database that cannot be opened after about one kill of a
        # writer in 150 (docs/performance.md).
        "experimental_metadata_reuse": "false",
        **configured,
        "temp_directory": str(spill),
    }
