"""``alignment-assets report``: what a run made, as one HTML page for whoever opens no Dagster.

Here belongs what stands on the page, and in which order; `pages.html` writes it.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster import Definitions

from alignment_assets.assets.graph import build_defs, default_resources
from alignment_assets.commands.chosen import chosen_run
from alignment_assets.commands.home import dagster_instance
from alignment_assets.commands.rows import written
from alignment_assets.commands.status import kept, look_into, status_rows, statuses
from alignment_assets.commands.terminal import say
from alignment_assets.host.hub import Kind, recorded_commit
from alignment_assets.host.proposed import proposed
from alignment_assets.pages.answers import Answer, ask_published
from alignment_assets.pages.html import Block, Section, answer_block, html_page
from alignment_assets.pages.questions import questions_of
from alignment_assets.recipe.datasets import DatasetReference
from alignment_assets.recipe.model import Model
from alignment_assets.recipe.run import Run
from alignment_assets.requests.forecast import now_utc
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.query import Rows, fetch, opened_to_ask
from alignment_assets.warehouse.schema import product_version
from alignment_assets.warehouse.snapshots import snapshot_to_read

# What a run comes down to, from what was read to what a trainer takes.
FIGURES = (
    *("source_prompts", "licensed_prompts", "alignment_prompts", "completions", "rewards"),
    *("dpo_pairs", "qrpo_samples"),
)
# The questions that tell what was excluded: the table that has to be made first, and what it means
# that the answer has no rows.
EXCLUDED = {
    "exclusions_by_rule": ("prompt_exclusions", "No row was read."),
    "rules_without_rows": ("prompt_exclusions", "Every rule of the recipe meets some row."),
    "losses": ("source_prompts", "Nothing was lost."),
    "selection_exclusions_by_reason": ("selection_exclusions", "No prompt has no pair."),
}
OTHERS = ("prompts_by_track", "forecast_against_actual", "engines_by_model")
NO_FORECAST = "No run has followed a forecast."
NO_ENGINES = "No engine has answered."
# From what has to be looked at to what is well.
STATUSES = ("inconsistent", "missing", "stale", "empty", "kept", "fresh")
WELL = ("empty", "kept", "fresh")
ABOUT_DATABASE = "SELECT recipe, product_version, created_at, migrated_at FROM database_info"


@dataclass(frozen=True)
class Found:
    """What a database holds, asked at one moment.

    Attributes:
        tables: the tables of the graph by stage, upstream first.
        status: rows of `commands.status.status_rows`.
        answers: to all questions of the report, by name.
        database: the row of ``database_info``.
        snapshot: which snapshot it is, and of when; None for the database itself.
    """

    tables: Mapping[str, Sequence[str]]
    status: Sequence[Mapping[str, Any]]
    answers: Mapping[str, Answer]
    database: Rows
    snapshot: str | None = None

    def of(self, table: str) -> list[Mapping[str, Any]]:
        """Return the status of a table's partitions."""
        return [row for row in self.status if row["table"] == table and _word(row) != "left"]

    def is_missing(self, table: str) -> bool:
        """Return whether a table was never made, no partition of it."""
        return not self.rows(table) and {_word(part) for part in self.of(table)} == {"missing"}

    def rows(self, table: str) -> int:
        """Return how many rows a table has."""
        return sum(row["rows"] for row in self.of(table))


def report(recipe: str | None, output: Path | None, snapshot: bool) -> None:
    """Do what the command says; its words are in `app`."""
    run = chosen_run(recipe)
    page = report_page(run, snapshot=snapshot)
    path = output or run.home / "report.html"
    with written(path) as file:
        file.write(page.encode())
    say(f"{path}: {len(page.encode()) / 1e3:,.0f} kB; open it in a browser")


def report_page(run: Run, *, snapshot: bool = False) -> str:
    """Return the report of a run as HTML.

    Args:
        run: the recipe and its home.
        snapshot: of the last snapshot, for which no writer waits.

    Raises:
        QueryError: there is no database or snapshot, or it cannot be read.
    """
    found = _find(run, snapshot)
    recipe = run.recipe
    facts = [
        ("Recipe", f"{recipe.name}: {recipe.description}" if recipe.description else recipe.name),
        ("Fingerprint", recipe.fingerprint),
        ("Seed", str(recipe.seed)),
        ("Limit", "none: all prompts" if recipe.limit is None else f"{recipe.limit:,} prompts"),
        ("Made", f"{now_utc():%Y-%m-%d %H:%M} UTC"),
        *([("Snapshot", found.snapshot)] if found.snapshot else []),
    ]
    sections = [
        _state(found, run),
        Section(
            "what was excluded, and why",
            blocks=list(_excluded(found)),
        ),
        *_stages(found),
        Section(
            "forecast and versions",
            blocks=[
                answer_block(found.answers["forecast_against_actual"], NO_FORECAST),
                answer_block(found.answers["engines_by_model"], NO_ENGINES),
                *_versions(found, run),
            ],
        ),
    ]
    return html_page(f"{recipe.name}: preference-alignment data", facts, sections)


def _find(run: Run, snapshot: bool) -> Found:
    resources = default_resources(run)
    defs = build_defs(run, resources)
    tables = _by_stage(defs)
    pages = [one.name for of in tables.values() for table in of for one in questions_of(table)]
    names = dict.fromkeys([*EXCLUDED, *pages, *OTHERS])
    with opened_to_ask(resources["warehouse"], snapshot=snapshot) as connection:
        there = look_into(connection, run, defs)
        answers = ask_published(connection, names, run.recipe.settings())
        database = fetch(connection, ABOUT_DATABASE, {})
    if snapshot:
        path = snapshot_to_read(run.home)
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        status = status_rows(there, kept(there, defs)).to_pylist()
        return Found(tables, status, answers, database, f"{path.name}, {made:%Y-%m-%d %H:%M} UTC")
    with dagster_instance(run) as instance:
        status = status_rows(there, statuses(there, run, defs, instance)).to_pylist()
    return Found(tables, status, answers, database)


def _by_stage(defs: Definitions) -> dict[str, list[str]]:
    """Return the tables of each stage, the group of the graph, both upstream first."""
    graph = defs.resolve_asset_graph()
    stages: TopologicalSorter[str] = TopologicalSorter()
    tables: dict[str, list[str]] = {}
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        tables.setdefault(node.group_name, []).append(key.to_user_string())
        above = {graph.get(parent).group_name for parent in node.parent_keys}
        stages.add(node.group_name, *sorted(above - {node.group_name}))
    return {stage: tables[stage] for stage in stages.static_order()}


def _state(found: Found, run: Run) -> Section:
    numbers = Rows(FIGURES, ["BIGINT"] * len(FIGURES), [[found.rows(name) for name in FIGURES]])
    rows, told = [], []
    for table in (name for tables in found.tables.values() for name in tables):
        parts = found.of(table)
        words = Counter(map(_word, parts))
        listed = ", ".join(f"{words[word]} {word}" for word in STATUSES if words[word])
        partitions = len(parts) if parts[0]["partition"] else None
        counts = [_sum(part[name] for part in parts) for name in ("rows", "requested", "missing")]
        rows.append((table, partitions, *counts, listed if len(words) > 1 else _word(parts[0])))
        if len(words) > 1 or any(":" in part["status"] for part in parts):
            told += [part for part in parts if _word(part) not in WELL]
    columns = ("table", "partitions", "rows", "requests", "unanswered", "status")
    types = ("VARCHAR", *["BIGINT"] * 4, "VARCHAR")
    told += [row for row in found.status if _word(row) == "left"]
    blocks = [
        Block("rows", numbers, form="numbers"),
        *_beside_published(found, run),
        Block("tables", Rows(columns, types, rows), marked="status"),
    ]
    if told:
        named_by = ("table", "partition", "status")
        reasons = [[row[name] for name in named_by] for row in told]
        blocks.append(Block("in detail", _texts(named_by, reasons), marked="status"))
    if found.snapshot:
        return Section("what is there", ["What the snapshot holds."], None, blocks)
    if all(_word(row) in (*WELL, "left") for row in found.status):
        return Section("what is there", ["All tables are what the recipe asks for."], None, blocks)
    told_of_all = (
        "Not all tables are what the recipe asks for. This makes them; requests that are answered "
        "are not asked again:"
    )
    return Section("what is there", [told_of_all], proposed("materialize"), blocks)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _word(row: Mapping[str, Any]) -> str:
    """Return the first word of a status: fresh, stale, missing or another."""
    return str(row["status"].split(":")[0].split()[0])


def _beside_published(found: Found, run: Run) -> Iterator[Block]:
    """Yield how many prompts a track has, beside how many the report had that the recipe names."""
    published = run.recipe.published_prompts
    if not published:
        return
    prompts = Counter[str]()
    for row in found.answers["prompts_by_track"].rows.records:
        prompts[row["track"]] += row["prompts"]
    rows = [
        (track, prompts[track], count, round(prompts[track] / count, 4) if count else None)
        for track, count in published.items()
    ]
    columns = ("track", "prompts", "published", "ratio")
    types = ("VARCHAR", "BIGINT", "BIGINT", "DOUBLE")
    yield Block("prompts beside the published", Rows(columns, types, rows))


def _excluded(found: Found) -> Iterator[Block]:
    for name, (table, empty) in EXCLUDED.items():
        answer = found.answers[name]
        if found.is_missing(table):
            answer = replace(answer, rows=Rows(answer.rows.columns, answer.rows.types, []))
            empty = f"Nothing is known yet: {table} is not made."
        yield answer_block(answer, empty)


def _stages(found: Found) -> Iterator[Section]:
    """Yield the tables of each stage that questions are about, each question where it is first."""
    shown = set(EXCLUDED)
    for stage, tables in found.tables.items():
        sections = []
        for table in tables:
            questions = questions_of(table)
            if not questions:
                continue
            about = [sql_files.tables()[table].description]
            if found.is_missing(table):
                command = proposed(f"materialize --select '+key:{table}'")
                sections.append(Section(table, [*about, "Not made yet:"], command))
                continue
            again = [one.title for one in questions if one.name in shown]
            if again:
                about.append(f"Above: {', '.join(again)}.")
            new = [one.name for one in questions if one.name not in shown]
            shown |= set(new)
            sections.append(
                Section(table, about, blocks=[answer_block(found.answers[name]) for name in new])
            )
        yield Section(stage.replace("_", " "), sections=sections)


def _versions(found: Found, run: Run) -> Iterator[Block]:
    recipe = run.recipe
    programs = [
        ("alignment-assets", product_version()),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in ("dagster", "duckdb", "matplotlib")),
    ]
    yield Block("programs that made this page", _texts(("program", "version"), programs))
    yield Block("database", found.database)
    models = [
        (name, model.backend_name, model.weights, *_revision("model", model.weights, model, run))
        for name, model in recipe.models.items()
    ]
    columns = ("model", "backend", "weights", "revision", "commit")
    yield Block("models", _texts(columns, models))
    references = {
        **{source.name: source for source in recipe.prompts},
        "personas": recipe.personas,
        **({"human labels": recipe.human_labels} if recipe.human_labels else {}),
    }
    datasets = [
        (name, one.dataset, *_revision("dataset", one.dataset, one, run))
        for name, one in references.items()
    ]
    yield Block("datasets", _texts(("rows of", "dataset", "revision", "commit"), datasets))


def _revision(
    kind: Kind, place: str, named: Model | DatasetReference, run: Run
) -> tuple[str | None, str | None]:
    """Return the revision of what comes from the hub, and its commit; of files there is none."""
    if not place.startswith("hf:"):
        return None, None
    commit = recorded_commit(kind, place.removeprefix("hf:"), named.revision, run.revisions)
    return named.revision, commit or "not looked up yet"


def _texts(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Rows:
    return Rows(columns, ["VARCHAR"] * len(columns), rows)
