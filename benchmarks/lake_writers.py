"""Writers and readers of a DuckLake: who waits for whom, and how fast rows get in.

The catalog is in PostgreSQL (a server of its own that syncs its commits), the files in a folder.
Rows are completions of 1 KB that go ``straight``, put in place as assets put them, with lineage.

Measured, by turns and in several rounds of one run: six writers on six partitions of one table, and
on six tables of the same columns; a reader alone and beside the six; and a large partition, put in
place on the lake and in the DuckDB file.

Run it with ``python -m benchmarks.lake_writers``; ``make lake`` installs what it takes.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import PARTITION_COLUMNS
from alignment_assets.warehouse.resource import LakeWarehouse, Warehouse
from benchmarks.report import Claim, conclude, show
from benchmarks.synthetic import draw_texts
from tests.support.postgres import postgres_server

WRITERS, REPLACEMENTS, ROWS = 6, 5, 20_000
CHARACTERS = 1_000
# As many texts of that length as `draw_texts` cuts from what it has.
DRAWN = 10_000
READING_SECONDS = 10.0
PATIENCE = 600.0
ONE_TABLE, READER, PUBLISHING = 1.25, 3.0, 5.0
MODELS = [f"model {number}" for number in range(WRITERS)]
TABLES = [f"completions_{number}" for number in range(WRITERS)]
# What a reader asks: how many rows of each marking a partition has, and all of their texts.
QUESTION = """
SELECT model, list(DISTINCT sample_index), count(*), sum(strlen(text)) FROM {table} GROUP BY model
"""

_ROWS = """
SELECT
    content_hash([$model, (range + $first)::VARCHAR])::VARCHAR AS named,
    as_id(named) AS completion_id,
    completion_id AS request_id,
    completion_id AS prompt_id,
    $model AS model,
    'default' AS variant,
    $mark::INTEGER AS sample_index,
    text,
    sha256(text) AS text_hash,
    range::UBIGINT AS normal_hash,
    NULL::VARCHAR AS reasoning,
    NULL::VARCHAR AS error,
    NULL::INTEGER AS text_tokens,
    NULL::INTEGER AS cached_tokens,
    'stop' AS finish_reason,
    200 AS prompt_tokens,
    250 AS completion_tokens,
    'synthetic' AS engine,
    '1' AS engine_version,
    '{}' AS engine_settings,
    'fingerprint' AS model_fingerprint,
    1.5::FLOAT AS seconds,
    TIMESTAMP '2026-01-01' AS answered_at
FROM texts
"""


def declare_copies() -> None:
    """Have this process know six more tables with the columns of completions, without rules."""
    tables = sql_files.tables()
    original = tables["completions"]
    for name in TABLES:
        ddl = original.ddl.replace("TABLE completions", f"TABLE {name}").replace(
            "COLUMN completions.", f"COLUMN {name}."
        )
        tables[name] = replace(original, name=name, ddl=ddl)
        PARTITION_COLUMNS[name] = "model"


@dataclass
class Times:
    """Seconds of what a process did, by name."""

    turns: list[float] = field(default_factory=list)


TIMES = Times()


class TimedFile(Warehouse):
    """A DuckDB file that notes how long it was held alone."""

    @contextmanager
    def attach_in_turn(
        self, connection: duckdb.DuckDBPyConnection, *, exclusive: bool, purpose: str
    ) -> Iterator[None]:
        """Attach it, and note how long it was held."""
        with super().attach_in_turn(connection, exclusive=exclusive, purpose=purpose):
            started = time.monotonic()
            yield
        if exclusive:
            TIMES.turns.append(time.monotonic() - started)


class TimedLake(LakeWarehouse):
    """A DuckLake that notes how long each turn took, with attaching and letting go."""

    @contextmanager
    def _turn(self, purpose: str) -> Iterator[None]:
        with super()._turn(purpose):
            started = time.monotonic()
            yield
            TIMES.turns.append(time.monotonic() - started)


Database = TimedFile | TimedLake


def rows_of(model: str, mark: int, rows: int) -> pa.Table:
    """Return a partition's completions, all marked with a number."""
    parts = []
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(sql_files.macros())
        for first in range(0, rows, DRAWN):
            count = min(DRAWN, rows - first)
            texts = pa.table(
                {
                    "range": np.arange(count),
                    "text": draw_texts(count, CHARACTERS, f"{model} {first}"),
                }
            )
            connection.register("texts", texts)
            query = f"SELECT * EXCLUDE (named) FROM ({_ROWS})"
            named = {"model": model, "mark": mark, "first": first}
            parts.append(connection.execute(query, named).to_arrow_table())
    return pa.concat_tables(parts)


def marked(rows: pa.Table, mark: int) -> pa.Table:
    """Return rows with another number, so that they are not the ones that stand."""
    place = rows.column_names.index("sample_index")
    marks = pa.array(np.full(len(rows), mark), pa.int32())
    return rows.set_column(place, "sample_index", marks)


def publish(database: Database, table: str, model: str, rows: pa.Table) -> dict[str, float]:
    """Put a partition in place; return the seconds of each step, and of the turn it took."""
    started, spent = time.monotonic(), time.process_time()
    with database.stage(table, {"model": model}, straight=True) as staging:
        staging.insert_arrow(rows)
        added = time.monotonic()
        staging.publish({}, inputs=())
    ended = time.monotonic()
    return {
        "to publish(), s": added - started,
        "publish(), s": ended - added,
        "turn held, s": TIMES.turns[-1],
        "rows at hand to published, s": ended - started,
        "processor s": time.process_time() - spent,
    }


def database_of(kind: str, settings: dict[str, Any]) -> Database:
    """Return a database of either kind."""
    return TimedLake(**settings) if kind == "lake" else TimedFile(**settings)


# --- writers --------------------------------------------------------------------------------------


def write(
    kind: str,
    settings: dict[str, Any],
    table: str,
    model: str,
    first: int,
    together: Barrier,
    stop: Event | None,
    results: Any,
) -> None:
    """Replace a partition five times, or until told to stop; report the steps' seconds."""
    declare_copies()
    logging.disable(logging.WARNING)  # of waits
    database = database_of(kind, settings)
    rows = rows_of(model, first, ROWS)
    done: list[dict[str, float]] = []
    failed = 0
    together.wait(PATIENCE)
    number = 0
    while number < REPLACEMENTS if stop is None else not stop.is_set():
        number += 1
        try:
            done.append(publish(database, table, model, marked(rows, first + number)))
        except Exception as error:
            print(f"{table}[{model}]: {error}")
            failed += 1
    results.put((done, failed))


def start_writers(
    kind: str,
    settings: dict[str, Any],
    tables: Sequence[str],
    first: int,
    stop: Event | None,
) -> tuple[Barrier, Callable[[], tuple[list[dict[str, float]], int]]]:
    """Start six; return what they begin together at, and what waits for what they report."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(WRITERS + 1), context.Queue()
    writers = [
        context.Process(
            target=write, args=(kind, settings, table, model, first, together, stop, results)
        )
        for table, model in zip(tables, MODELS, strict=True)
    ]
    for writer in writers:
        writer.start()

    def finish() -> tuple[list[dict[str, float]], int]:
        found = [next_of(results, *writers) for _ in writers]
        for writer in writers:
            writer.join()
        return [line for done, _ in found for line in done], sum(failed for _, failed in found)

    return together, finish


def next_of(results: Any, *processes: BaseProcess) -> Any:
    """Return what the next process reports; fail as soon as one of them has failed."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        try:
            return results.get(timeout=1)
        except queue.Empty:
            assert not any(process.exitcode for process in processes), "a process has failed"
    raise TimeoutError("a process reports nothing")


def race(
    kind: str, settings: dict[str, Any], tables: Sequence[str], first: int
) -> tuple[float, list[dict[str, float]], int]:
    """Return the seconds until all six are done, each replacement's, and how many failed."""
    together, finish = start_writers(kind, settings, tables, first, None)
    together.wait(PATIENCE)
    started = time.monotonic()
    done, failed = finish()
    return time.monotonic() - started, done, failed


def races(lake: dict[str, Any], rounds: int) -> list[Claim]:
    """Run both races by turns."""
    ways = {"six partitions of one table": TABLES[:1] * WRITERS, "six tables": TABLES}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    turns: dict[str, list[float]] = {way: [] for way in ways}
    wholes: dict[str, list[float]] = {way: [] for way in ways}
    failures = 0
    for number in range(rounds + 1):
        for way, tables in ways.items() if number % 2 else reversed(ways.items()):
            took, done, failed = race("lake", lake, tables, number * 100)
            failures += failed
            if number:  # the first has no rows to replace
                seconds[way].append(took)
                turns[way] += [line["turn held, s"] for line in done]
                wholes[way] += [line["rows at hand to published, s"] for line in done]
    show(
        f"{WRITERS} writers × {REPLACEMENTS} replacements of {ROWS:,} rows, {rounds} rounds",
        ["", "seconds, median", "each", "turn held, s", "rows at hand to published, s"],
        [
            [
                way,
                statistics.median(seconds[way]),
                ", ".join(f"{one:.1f}" for one in seconds[way]),
                statistics.median(turns[way]),
                statistics.median(wholes[way]),
            ]
            for way in ways
        ],
    )
    one, six = (statistics.median(found) for found in seconds.values())
    return [
        Claim("six partitions of one table, × six tables", one / six, at_most=ONE_TABLE),
        Claim("failed replacements", failures, at_most=0),
    ]


# --- a reader -------------------------------------------------------------------------------------


def read(kind: str, settings: dict[str, Any], seconds: float, results: Any) -> None:
    """Ask again and again: of a database that stays open, and of one opened for each question.

    Report both lists of seconds, and how often a partition was not whole.
    """
    declare_copies()
    database = database_of(kind, settings)
    question = QUESTION.format(table=TABLES[0])
    asked: list[float] = []
    opened: list[float] = []
    parts = 0
    with database.read() as connection:
        known = sorted(connection.execute(question).fetchall())
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            started = time.monotonic()
            found = connection.execute(question).fetchall()
            asked.append(time.monotonic() - started)
            parts += sorted(found) != known
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.monotonic()
        with database.read() as connection:
            found = connection.execute(question).fetchall()
        opened.append(time.monotonic() - started)
        parts += [(len(marks), rows) for _, marks, rows, _ in sorted(found)] != [(1, ROWS)] * 6
    results.put((asked, opened, parts))


def high(seconds: list[float]) -> float:
    """Return the 95th percentile."""
    return float(np.percentile(seconds, 95))


def readings(lake: dict[str, Any], elsewhere: dict[str, Any], rounds: int) -> list[Claim]:
    """Have a reader ask alone and beside six writers of the same table, by turns.

    The third way, six writers on a lake of their own, is what sharing two cores alone costs.
    """
    context = multiprocessing.get_context("spawn")
    writing = {"alone": None, "beside six writers": lake, "beside six elsewhere": elsewhere}
    found: dict[str, tuple[list[float], list[float]]] = {place: ([], []) for place in writing}
    for settings in (lake, elsewhere):
        for model in MODELS:
            publish(TimedLake(**settings), TABLES[0], model, rows_of(model, 1, ROWS))
    parts = failures = published = 0
    for number in range(rounds):
        for place, (asked, opened) in found.items():
            results = context.Queue()
            stop, finish = context.Event(), None
            written = writing[place]
            if written:
                together, finish = start_writers(
                    "lake", written, TABLES[:1] * WRITERS, 10_000 + number * 1000, stop
                )
                together.wait(PATIENCE)
            reader = context.Process(target=read, args=("lake", lake, READING_SECONDS, results))
            reader.start()
            more_asked, more_opened, more_parts = next_of(results, reader)
            reader.join()
            asked += more_asked
            opened += more_opened
            parts += more_parts
            stop.set()
            if finish:
                done, failed = finish()
                published, failures = published + len(done), failures + failed
    show(
        f"a reader of {WRITERS * ROWS:,} texts; beside it {published} partitions were replaced",
        ["", "open: median s", "95th percentile", "questions", "opening: median s", "95th", "read"],
        [
            [
                place,
                statistics.median(asked),
                high(asked),
                len(asked),
                statistics.median(opened),
                high(opened),
                len(opened),
            ]
            for place, (asked, opened) in found.items()
        ],
    )
    (alone, alone_opening), (beside, beside_opening), (apart, _) = found.values()
    return [
        Claim(
            "an open reader's 95th percentile, × alone", high(beside) / high(alone), None, READER
        ),
        Claim("the same beside writers of another lake", high(apart) / high(alone)),
        Claim(
            "the first of a reader that opens it each time",
            high(beside_opening) / high(alone_opening),
        ),
        Claim("times that it saw a part", parts, at_most=0),
        Claim("failed replacements beside it", failures, at_most=0),
    ]


# --- a large partition ----------------------------------------------------------------------------


def publish_large(kinds: dict[str, dict[str, Any]], count: int, rounds: int, results: Any) -> None:
    """Put a large partition in place, on the one and in the other, by turns."""
    declare_copies()
    rows = rows_of("large", 0, count)
    for number in range(rounds + 1):
        for kind, settings in kinds.items():
            new = marked(rows, number)
            done = publish(database_of(kind, settings), TABLES[0], "large", new)
            results.put((kind, number, done))


def large(kinds: dict[str, dict[str, Any]], count: int, rounds: int) -> list[Claim]:
    """Have it done by a process of its own; the first round has no rows to replace."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    publishing = context.Process(target=publish_large, args=(kinds, count, rounds, results))
    publishing.start()
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range((rounds + 1) * len(kinds)):
        kind, number, done = next_of(results, publishing)
        if number:
            found[kind].append(done)
    publishing.join()
    middle = {
        kind: {name: statistics.median(line[name] for line in lines) for name in lines[0]}
        for kind, lines in found.items()
    }
    columns = list(middle["lake"])
    show(
        f"a partition of {count:,} texts put in place of another, medians of {rounds}",
        ["", *columns],
        [[kind, *figures.values()] for kind, figures in middle.items()],
    )

    def faster(name: str) -> float:
        return middle["file"][name] / middle["lake"][name]

    return [
        Claim("rows a second of turn held, × the file's", faster("turn held, s"), PUBLISHING),
        Claim(
            "rows a second from rows at hand to published, × the file's",
            faster("rows at hand to published, s"),
        ),
    ]


def main() -> None:
    """Measure, show, and fail where it falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large partition")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["races", "readings", "large"])
    arguments = parser.parse_args()
    declare_copies()
    only, rounds = arguments.only, arguments.rounds
    with tempfile.TemporaryDirectory() as folder, postgres_server(durable=True) as server:
        os.environ["PGPASSWORD"] = server.password
        kinds: dict[str, dict[str, Any]] = {"lake": {}, "file": {}}
        for name in ("small", "elsewhere", "large"):
            home = Path(folder) / name
            kinds["lake"][name] = {
                "database": f"postgres:{server.create(name)}",
                "data": str(home / "lake"),
                "folder": str(home),
            }
            kinds["file"][name] = {"database": str(home / "alignment.duckdb")}
        claims = []
        if only in (None, "races"):
            claims += races(kinds["lake"]["small"], rounds)
        if only in (None, "readings"):
            claims += readings(kinds["lake"]["small"], kinds["lake"]["elsewhere"], rounds)
        if only in (None, "large"):
            settings = {kind: by_name["large"] for kind, by_name in kinds.items()}
            claims += large(settings, arguments.rows, rounds)
    conclude(*claims)


if __name__ == "__main__":
    main()
