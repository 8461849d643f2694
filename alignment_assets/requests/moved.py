"""What is asked is what is named: requests whose inputs have changed since they got their names.

Most files of ``sql/requests`` name a request by what they put into it. Where the name was given
before, in another asset, a file of ``sql/moved`` tells which names no longer fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duckdb import DuckDBPyConnection

from alignment_assets.host.expected import Expected
from alignment_assets.warehouse import sql_files


class MovedError(Expected):
    """Requests are named by other inputs than they have now; the message says what to remake."""


def has_own_names(name: str) -> bool:
    """Return whether a file of ``sql/requests`` asks under names that another asset gave."""
    return name in sql_files.sql_names("moved")


def check_unmoved(
    connection: DuckDBPyConnection,
    name: str,
    parameters: Mapping[str, Any],
    asset: str,
    partition: str | None,
) -> None:
    """Raise a MovedError if a request that is not final would be asked with other inputs.

    Args:
        connection: has the table ``final`` of the requests that need not be asked.
        name: of the file in ``sql/requests``, and of the one in ``sql/moved``.
        parameters: what that may name, and more.
        asset: who asks.
        partition: for which partition.
    """
    query = sql_files.read_sql("moved", name)
    found = connection.execute(
        f"SELECT remake, what, count(*) FROM ({query}\n) GROUP BY ALL ORDER BY ALL",
        sql_files.named_parameters(query, parameters),
    ).fetchall()
    if found:
        brackets = f"[{partition}]" if partition else ""
        moved = "; ".join(f"{count:,} × {what}" for _, what, count in found)
        raise MovedError(
            f"{asset}{brackets}: nothing was asked, as requests are named by what has changed "
            f"since ({moved}). Materialize {found[0][0]}{brackets} first, then this again"
        )
