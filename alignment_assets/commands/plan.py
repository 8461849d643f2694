"""``alignment-assets materialize --plan``: what it would make and ask, and what that would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from alignment_assets.commands.forecast import for_terminal, total_line
from alignment_assets.commands.rows import show
from alignment_assets.commands.terminal import console, say, tell
from alignment_assets.recipe.run import Run
from alignment_assets.requests.forecast import Forecaster, now_utc
from alignment_assets.requests.spool_care import list_spool
from alignment_assets.warehouse.query import Rows, isolate

if TYPE_CHECKING:
    from alignment_assets.commands.materialize import Launch

COLUMNS = ("launch", "assets", "partition", "to_ask", "answers_kept")


def print_plan(run: Run, resources: Mapping[str, Any], launches: Sequence[Launch]) -> None:
    """Print launches with the requests they have to ask, and a forecast; nothing is started.

    Counts that rest on the prompts there will be, and not on tables, are marked with ~.
    """
    forecaster = Forecaster(run, **resources, log=tell)
    planned = {
        (key.to_user_string(), launch.partition) for launch in launches for key in launch.assets
    }
    with forecaster.warehouse.read() as connection:
        pending = [
            one for one in forecaster.pending(connection) if (one.asset, one.partition) in planned
        ]
        isolate(connection, forecaster.warehouse.members)
        forecast = forecaster.forecast(connection, pending, now_utc())
    kept = {(row["asset"], row["partition"]): row["answers"] for row in list_spool(run).to_pylist()}
    lines = []
    for number, launch in enumerate(launches, start=1):
        parts = [(key.to_user_string(), launch.partition) for key in launch.assets]
        asked = [one for one in pending if (one.asset, one.partition) in parts]
        counts = [one.requests for one in asked]
        exact = all(one.exact for one in asked)
        known = sum(count for count in counts if count is not None)
        to_ask = f"{'' if exact else '~'}{known:,}" if None not in counts else "unknown"
        answers = sum(kept.get(part, 0) for part in parts)
        assets = ", ".join(name for name, _ in parts)
        lines.append((number, assets, launch.partition, to_ask, f"{answers:,}"))
    show(Rows(COLUMNS, ["BIGINT", *["VARCHAR"] * 2, *["BIGINT"] * 2], lines), console, "Plan")
    if forecast.num_rows:
        show(for_terminal(forecast), console, "Forecast")
    say(f"{total_line(forecast)} Nothing was started.")
