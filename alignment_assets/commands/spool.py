"""``alignment-assets spool``: the answers of engines that are on disk, and looking after them."""

from __future__ import annotations

from pathlib import Path

import typer

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.rows import chosen_format, show, write
from alignment_assets.commands.terminal import Format, console, say
from alignment_assets.requests.spool_care import list_spool, verify_spool


def list_answers(recipe: str | None, format: Format | None, output: Path | None) -> None:
    """Do what ``spool list`` says; its words are in `app`."""
    form = chosen_format(format, output)
    run = run_to_read(recipe)
    write(list_spool(run), form, output, console)


def verify_answers(recipe: str | None) -> None:
    """Do what ``spool verify`` says; its words are in `app`."""
    run = run_to_read(recipe)
    with console.status("reading"):
        rows, quarantined = verify_spool(run)
    show(rows, console)
    spare = sum(rows["spare_answers"].to_pylist()) if rows.num_rows else 0
    if spare:
        console.print(
            f"{spare:,} spare answers: of several to a request the first final one in file order "
            f"counts, the others do no harm.",
            highlight=False,
        )
    for line in quarantined:
        say(line)
    if quarantined:
        raise typer.Exit(1)
