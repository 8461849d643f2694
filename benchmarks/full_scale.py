"""The published run at its size, without its engines: how long does everything else take?

453,235 prompts, five models and one policy: 21 and 20 candidates of 1 KB each, 9.4 million. The
spool holds every answer, so the assets run as they do for a user and ask nobody. Each step is a
process of its own; seconds, those of its processor, those spent on lineage (whether all above
belongs together, and what is read of it) and on the page that people see of it, peak memory and the
growth of the database's file are shown for each. Then every rule of ``sql/checks`` runs again, and
every question of ``sql/analysis``.

Beside them run the least that could be done: one GROUP BY over the columns that selection reads,
and one scan of the texts with one CREATE TABLE AS of those that are selected for each table.

``--compare`` also runs at a ninth of the size and says how much more than linearly time grows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from alignment_assets.assets import factory
from alignment_assets.host.machine import MEBI
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import all_request_sets
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage
from alignment_assets.warehouse.resource import Warehouse, rules_of
from benchmarks import bare
from benchmarks.by_hand import take_as_made
from benchmarks.report import Claim, conclude, show
from benchmarks.row_by_row import PROMPTS as SCRIPT_PROMPTS
from benchmarks.row_by_row import select_row_by_row
from benchmarks.synthetic import (
    POLICY,
    PROMPTS,
    Answered,
    apertus,
    controversial_in_mix,
    fill_sources,
    fill_spool,
    materialize,
)

# Of the memory that is promised, what is left over is for Python and what DuckDB does not count.
MEMORY_LIMIT = "2100MiB"
MEMORY_LIMITS = {"selected_pairs": "1000MiB", "dpo_pairs": "1400MiB", "qrpo_samples": "1400MiB"}
THREADS = 2
CHARACTERS = 1_000
SMALL = 50_000 / 450_000
SELECTION, TRAINING, REQUEST_SECONDS, GROWTH = 3.0, 2.0, 60.0, 1.25
SELECTION_GIBIBYTES, TRAINING_GIBIBYTES, GIBIBYTES = 1.5, 2.0, 3.0
LINEAGE_SHARE, PAGE_SHARE = 0.1, 0.03
# What the database of the published size took when ids were texts, and the share that it may take.
BYTES_BEFORE, SIZE = 9_000 * MEBI, 0.67

_console = Console(width=120)


@dataclass(frozen=True)
class Step:
    """What one process did."""

    name: str
    rows: int
    seconds: float
    processor: float
    peak: int
    grown: int
    lineage: float
    page: float


@dataclass
class World:
    """A database and a spool of some size, and what was measured on it."""

    home: Path
    prompts: int
    characters: int
    steps: list[Step] = field(default_factory=list)
    memory_limit: str = MEMORY_LIMIT
    made: int = 0

    @property
    def warehouse(self) -> Warehouse:
        """The database, within the promised memory."""
        return Warehouse(
            database=str(self.home / "alignment.duckdb"),
            connection_config={"memory_limit": self.memory_limit, "threads": THREADS},
        )

    def run(self, name: str, body: Callable[..., int], *arguments: Any) -> None:
        """Run a step in a process of its own."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        before = self.size()
        self.memory_limit = MEMORY_LIMITS.get(name.split("[")[0], MEMORY_LIMIT)
        process = context.Process(target=_measured, args=(theirs, body, self, *arguments))
        process.start()
        theirs.close()
        rows, seconds, processor, peak, lineage, page = ours.recv()
        process.join()
        step = Step(name, rows, seconds, processor, peak, self.size() - before, lineage, page)
        self.steps.append(step)
        _console.print(
            f"{name}: {seconds:,.1f} s, lineage {lineage:,.1f} s, processor {processor:,.1f} s, "
            f"of it page {page:,.1f} s, "
            f"{peak / MEBI:,.0f} MiB",
            highlight=False,
            markup=False,
        )

    def seconds(self, *starts: str) -> float:
        """Return the seconds of the steps whose names start so."""
        return sum(step.seconds for step in self.steps if step.name.startswith(starts))

    def processor(self, *starts: str) -> float:
        """Return the seconds of processor of the steps whose names start so."""
        return sum(step.processor for step in self.steps if step.name.startswith(starts))

    def peak(self, *starts: str) -> float:
        """Return the highest memory of the steps whose names start so, in GiB."""
        return max(step.peak for step in self.steps if step.name.startswith(starts)) / 2**30

    def size(self) -> int:
        """Return the bytes of the database's file."""
        path = self.warehouse.path
        return path.stat().st_size if path.exists() else 0


def _measured(pipe: Any, body: Callable[..., int], world: World, *arguments: Any) -> None:
    spent: list[float] = []
    Lineage.check = _timed(Lineage.check, spent)  # type: ignore[method-assign]
    Lineage.read = _timed(Lineage.read, spent)  # type: ignore[method-assign]
    pages: list[float] = []
    for name in ("ask_about", "page_metadata", "drawn_answers"):
        setattr(factory, name, _timed(getattr(factory, name), pages, time.process_time))
    started, processor = time.monotonic(), time.process_time()
    rows = body(world, *arguments)
    seconds, processor = time.monotonic() - started, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send((rows, seconds, processor, peak, sum(spent), sum(pages)))


def _timed(
    function: Callable[..., Any],
    spent: list[float],
    clock: Callable[[], float] = time.monotonic,
) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        started = clock()
        try:
            return function(*arguments)
        finally:
            spent.append(clock() - started)

    return call


def build(world: World, asset: str, partition: str | None) -> int:
    """Materialize an asset, or one partition of it; return its rows."""
    materialize(apertus(), world.warehouse, f"key:{asset}", partition)
    column = (
        "policy" if "policy" in {c.name for c in sql_files.tables()[asset].columns} else "model"
    )
    where = f"WHERE {column} = '{partition}'" if partition else ""
    with world.warehouse.read() as connection:
        (rows,) = connection.execute(f"SELECT count(*) FROM {asset} {where}").fetchone() or (0,)
    return int(rows)


def check(world: World, table: str) -> int:
    """Run a table's rules on all its rows; return how many rules there are."""
    settings = apertus().settings()
    with world.warehouse.read() as connection:
        for rule in rules_of(table):
            query = sql_files.read_sql("checks", rule)
            found = connection.execute(
                query, sql_files.named_parameters(query, settings)
            ).fetchmany(3)
            assert not found, (rule, found)
    return len(rules_of(table))


def ask(world: World, question: str) -> int:
    """Ask a question of ``sql/analysis``; return the rows of the answer."""
    query = sql_files.read_sql("analysis", question)
    with world.warehouse.read() as connection:
        (pair,) = connection.execute("SELECT min(pair_id) FROM dpo_pairs").fetchone() or (None,)
        given = {**apertus().settings(), "pair_id": pair, "pending": "[]"}
        values = {name: given.get(name) for name in sql_files.parameter_names(query)}
        return len(connection.execute(query, values).fetchall())


def sources(world: World) -> int:
    """Fill the tables that are read from outside."""
    fill_sources(world.warehouse, world.prompts)
    run = Run(apertus(), world.home)
    take_as_made(world.warehouse, run, {"source_prompts", "origin_consent", "personas"})
    return world.prompts


def answers(world: World, asset: str, partition: str | None) -> int:
    """Fill a part of the spool; that is no step of ours."""
    inference = Answered()
    run = Run(apertus(), world.home)
    requests = all_request_sets(run.recipe, lambda model: inference.fingerprint(model, run))
    asked = requests[asset, partition]
    if asset == "controversy_labels":
        asked = asked[:1]  # all of them parse
    return sum(
        fill_spool(
            world.warehouse,
            asset,
            partition,
            each,
            characters=world.characters,
            controversial=controversial_in_mix(world.prompts),
        )
        for each in asked
    )


def rehearse(world: World) -> None:
    """Run everything, in the graph's order."""
    models = apertus().answering_models
    materialize(apertus(), world.warehouse, "key:wordings")
    world.run("(sources)", sources)
    for table in ("prompt_exclusions", "licensed_prompts"):
        world.run(table, build, table, None)
    world.run("(answers)", answers, "controversy_labels", None)
    for table in ("controversy_labels", "alignment_prompts"):
        world.run(table, build, table, None)
    for model in models:
        world.run(f"completion_requests[{model}]", build, "completion_requests", model)
    for asset in ("completions", "rewards"):
        for model in models:
            world.run("(answers)", answers, asset, model)
            world.run(f"{asset}[{model}]", build, asset, model)
    world.run("(answers)", answers, "judge_comparisons", POLICY)
    for asset in (
        "judge_comparisons",
        "judge_rankings",
        "policy_tokens",
        "quantile_rewards",
        "selected_pairs",
        "dpo_pairs",
        "qrpo_samples",
        "selection_exclusions",
        "selection_report",
    ):
        world.run(f"{asset}[{POLICY}]", build, asset, POLICY)
    world.run("(answers)", answers, "reference_logprobs", POLICY)
    for asset in ("reference_logprobs", "training_export"):
        world.run(f"{asset}[{POLICY}]", build, asset, POLICY)
    for table in sql_files.tables():
        if rules_of(table):
            world.run(f"checks: {table}", check, table)
    for question in sql_files.sql_names("analysis"):
        world.run(f"analysis: {question}", ask, question)


def row_by_row(world: World) -> int:
    """Select the pairs of some prompts as a script does; return its milliseconds."""
    prompts = min(SCRIPT_PROMPTS, world.prompts)
    return round(1000 * select_row_by_row(world.warehouse, prompts, world.home))


def report(world: World) -> None:
    """Print the table of steps."""
    shown = [step for step in world.steps if not step.name.startswith("(")]
    show(
        f"{world.prompts:,} prompts, texts of {world.characters:,} characters, {THREADS} threads, "
        f"memory_limit {MEMORY_LIMIT}, "
        + ", ".join(f"{limit} for {name}" for name, limit in MEMORY_LIMITS.items()),
        [
            *("step", "rows", "s", "of it lineage", "processor s", "of it page", "peak MiB"),
            "file grows by MiB",
        ],
        [
            [
                *(s.name, s.rows, s.seconds, s.lineage, s.processor, s.page, s.peak / MEBI),
                s.grown / MEBI,
            ]
            for s in shown
        ],
    )


def main() -> None:
    """Run it, show the table, and fail where a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=PROMPTS)
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="a text's mean length")
    parser.add_argument("--compare", action="store_true", help="also at a ninth of the size")
    parser.add_argument("--home", type=Path, help="a folder to make it in, and to keep it")
    arguments = parser.parse_args()
    worlds = []
    sizes = [arguments.prompts]
    if arguments.compare:
        sizes.insert(0, round(arguments.prompts * SMALL))
    for prompts in sizes:
        kept = arguments.home if prompts == arguments.prompts else None
        folder = kept or Path(tempfile.mkdtemp())
        try:
            world = World(folder, prompts, arguments.characters)
            worlds.append(world)
            rehearse(world)
            world.made = world.size()
            world.run("(plain scan)", bare.scan)
            world.run("(bare group)", bare.group)
            world.run("(bare texts)", bare.copy_texts)
            world.run("(row by row)", row_by_row)
            report(world)
        finally:
            if not kept:
                shutil.rmtree(folder)
    big = worlds[-1]
    training = ("selected_pairs", "dpo_pairs", "qrpo_samples")
    everything = [step.name for step in big.steps if not step.name.startswith("(")]
    claims = [
        Claim(
            "selected_pairs, processor time × a bare GROUP BY over its columns",
            big.processor("selected_pairs") / big.processor("(bare group)"),
            at_most=SELECTION,
        ),
        Claim(
            "with dpo_pairs and qrpo_samples, processor time × a scan and copies of the texts",
            big.processor(*training) / big.processor("(bare texts)"),
            at_most=TRAINING,
        ),
        Claim("selected_pairs, peak GiB", big.peak("selected_pairs"), at_most=SELECTION_GIBIBYTES),
        Claim("all three, peak GiB", big.peak(*training), at_most=TRAINING_GIBIBYTES),
        Claim("any step, peak GiB", big.peak(*everything), at_most=GIBIBYTES),
        Claim(
            "completion_requests, seconds",
            big.seconds("completion_requests"),
            at_most=REQUEST_SECONDS,
        ),
        Claim(
            "the database, of what it took before (9,000 MiB)",
            big.made / (BYTES_BEFORE * big.prompts / PROMPTS),
            at_most=SIZE,
        ),
    ]
    made = [step for step in big.steps if not step.name.startswith(("(", "checks", "analysis"))]
    share = sum(step.lineage for step in made) / sum(step.seconds - step.lineage for step in made)
    claims.append(Claim("lineage, of the assets' own seconds", share, at_most=LINEAGE_SHARE))
    shown = sum(step.page for step in made)
    claims.append(
        Claim(
            "pages, of the processor time of the assets without them",
            shown / (sum(step.processor for step in made) - shown),
            at_most=PAGE_SHARE,
        )
    )
    if len(worlds) > 1:
        small = worlds[0]
        ratio = (
            big.seconds(*everything) / small.seconds(*everything) / (big.prompts / small.prompts)
        )
        claims.append(Claim("seconds in all, × linear growth", ratio, at_most=GROWTH))
    selecting = ("quantile_rewards", *training)
    (milliseconds,) = (step.rows for step in big.steps if step.name == "(row by row)")
    script = milliseconds / 1000 * big.prompts / min(SCRIPT_PROMPTS, big.prompts)
    show(
        "a training set beside other ways",
        ["", "seconds", "× a plain scan"],
        [
            [name, seconds, seconds / big.seconds("(plain scan)")]
            for name, seconds in (
                ("a plain scan of the same columns", big.seconds("(plain scan)")),
                ("selected_pairs, dpo_pairs and qrpo_samples", big.seconds(*training)),
                ("the same with quantile_rewards", big.seconds(*selecting)),
                ("pairs alone, row by row with datasets.map, scaled", script),
            )
        ],
    )
    conclude(*claims)


if __name__ == "__main__":
    main()
