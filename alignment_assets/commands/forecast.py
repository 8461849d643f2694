"""``alignment-assets forecast``: what the pending requests will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from alignment_assets.assets.graph import default_resources
from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.rows import chosen_format, show, write
from alignment_assets.commands.terminal import Format, console, say, tell
from alignment_assets.host.proposed import proposed
from alignment_assets.requests.forecast import Forecaster, now_utc
from alignment_assets.warehouse.query import ask, isolate, question_text

# What a terminal has room for, and under which name.
SHOWN = {
    "asset": "asset",
    "partition": "partition",
    "model": "model",
    "pending": "pending",
    "prompt_tokens": "tokens_in",
    "completion_tokens": "tokens_out",
    "engine_hours": "engine_h",
    "gpu_hours": "gpu_h",
    "to_pay": "to_pay",
    "bytes": "bytes",
    "finishes_at": "finishes_at",
    "basis": "basis",
}
SHOWN_OF_ACTUAL = {
    "asset": "asset",
    "partition": "partition",
    "model": "model",
    "requests": "requests",
    "forecast_completion_tokens": "tokens_out, forecast",
    "completion_tokens": "actual",
    "completion_tokens_ratio": "ratio",
    "forecast_seconds": "seconds, forecast",
    "seconds": "actual ",
    "seconds_ratio": "ratio ",
    "forecast_bytes": "bytes, forecast",
    "bytes": "actual  ",
    "bytes_ratio": "ratio  ",
}


def forecast(
    recipe: str | None = None,
    pilot: int | None = None,
    format: Format | None = None,
    output: Path | None = None,
) -> None:
    """Do what the command says; its words are in `app`."""
    form = chosen_format(format, output)
    run = chosen_run(recipe)
    resources = default_resources(run)
    forecaster = Forecaster(run, **resources, log=tell)
    if pilot:
        forecaster.pilot(pilot)
    now = now_utc()
    with forecaster.warehouse.read() as connection:
        pending = forecaster.pending(connection)
        isolate(connection, forecaster.warehouse.members)
        rows = forecaster.forecast(connection, pending, now)
        actual = ask(connection, question_text("forecast_against_actual"), {})
    forecaster.keep(rows, now)
    if form != "table" or output:
        write(rows, form, output, console)
        return
    show(for_terminal(rows), console)
    say(total_line(rows))
    if actual.num_rows:
        shown = actual.select([*SHOWN_OF_ACTUAL]).rename_columns([*SHOWN_OF_ACTUAL.values()])
        show(shown, console, "Forecast against actual")


def for_terminal(rows: pa.Table) -> pa.Table:
    """Return the columns of a forecast that a terminal has room for; ~ marks expected counts."""
    lines = [
        {
            **row,
            "pending": "unknown"
            if row["pending"] is None
            else f"{'' if row['counted'] == 'exact' else '~'}{row['pending']:,}",
            "finishes_at": row["finishes_at"] and f"{row['finishes_at']:%m-%d %H:%M}",
        }
        for row in rows.to_pylist()
    ]
    columns = {
        name: pa.array([line[column] for line in lines], rows.schema.field(column).type)
        if column not in ("pending", "finishes_at")
        else pa.array([line[column] for line in lines], pa.string())
        for column, name in SHOWN.items()
        if column != "to_pay" or any(line["to_pay"] is not None for line in lines)
    }
    return pa.table(columns)


def total_line(rows: pa.Table) -> str:
    """Say in one line what a forecast adds up to, and what is not in it."""
    listed: list[dict[str, Any]] = rows.to_pylist()
    known = [row for row in listed if row["seconds"] is not None]

    def total(name: str, among: Sequence[Mapping[str, Any]] = known) -> float:
        return sum(row[name] or 0 for row in among)

    if not listed:
        return "Nothing is pending."
    text = f"Total: {total('pending', listed):,} requests"
    hint = f"`{proposed('forecast --pilot 50')}` asks 50 requests of each that is ready."
    if not known:
        return f"{text}; nothing measured yet. {hint}"
    text += (
        f"; {total('prompt_tokens'):,} tokens in, {total('completion_tokens'):,} out, "
        f"{total('engine_hours'):,.2f} engine hours, {total('gpu_hours'):,.2f} GPU hours, "
        f"{total('bytes') / 1e9:,.3f} GB of answers"
    )
    if any(row["to_pay"] is not None for row in known):
        text += f", {total('to_pay'):,.2f} to pay by the prices of models"
    unknown = len(listed) - len(known)
    if not unknown:
        return f"{text}; finished at {listed[-1]['finishes_at']} UTC, one after another from now."
    return (
        f"{text}; without {unknown} row(s) that no run or no prompt says anything about yet. {hint}"
    )
