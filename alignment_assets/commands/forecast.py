"""What the inference that is still to do will take: tokens, engine hours, disk, and when it ends.

Here belong how many requests are pending and the pilot that measures them. What a request takes is
SQL over ``inference_runs`` (``sql/analysis/forecast.sql``).

A forecast goes by what requests of the same model and task took so far. A pilot of some dozens
gives good means of tokens and bytes; its speed is that of an engine which fills up and empties
again, so a long run is faster than a pilot promises. The first thousands of a run put that right.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection

from alignment_assets.assets.completions import variants
from alignment_assets.assets.partitions import model_names
from alignment_assets.commands.query import answer
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.request_sets import all_questions, waits_for
from alignment_assets.requests.runner import Answering, Question
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.resource import Warehouse

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


@dataclass(frozen=True)
class Prompts:
    """How many prompts there are.

    Attributes:
        graded: that the grader is asked about; None if nothing says so yet.
        tracks: on each track; None if nothing says so yet.
    """

    graded: int | None
    tracks: Mapping[str, int] | None


@dataclass(frozen=True)
class Pending:
    """Requests of one question that have no answer.

    Attributes:
        position: where it stands in the order of work.
        requests: how many; None if that cannot be told yet.
        exact: counted in the tables; otherwise what the recipe and the prompts lead to.
    """

    position: int
    asset: str
    partition: str | None
    model: str
    task: str
    model_fingerprint: str
    requests: int | None
    exact: bool


def count_prompts(connection: DuckDBPyConnection | None, recipe: Recipe) -> Prompts:
    """Count prompts in the database, else those that the recipe says were published.

    A recipe's limit holds for the published ones too. Graded are the prompts of some sources only,
    which the published totals do not tell apart: all of them stand in.
    """
    published: dict[str, int] = {str(track): n for track, n in recipe.published_prompts.items()}
    total = sum(published.values())
    if recipe.limit is not None and recipe.limit < total:
        published = {track: n * recipe.limit // total for track, n in published.items()}
    licensed, graded, tracks = 0, 0, {}
    if connection is not None:
        licensed, graded = connection.execute(
            "SELECT count(*), count(DISTINCT prompt_id) FILTER (track = 'graded') "
            "FROM licensed_prompts"
        ).fetchone() or (0, 0)
        tracks = dict(
            connection.execute(
                "SELECT track, count(*) FROM alignment_prompts GROUP BY track"
            ).fetchall()
        )
    return Prompts(
        graded if licensed else sum(published.values()) or None, tracks or published or None
    )


def expected_completions(recipe: Recipe, model: str, tracks: Mapping[str, int]) -> dict[str, int]:
    """Return how many completions a model makes of so many prompts on each track."""
    samples = {"reference": recipe.completions.reference_completions}
    asked = variants(recipe, model)
    return {
        track: tracks.get(track, 0)
        * sum(samples.get(name, 1) for name in asked[f"{track}_variants"])
        for track in ("standard", "controversial")
    }


def expected_requests(
    recipe: Recipe, prompts: Prompts, asset: str, partition: str | None, question: Question
) -> int | None:
    """Return how many requests a question will have; None if nothing says so yet."""
    if asset == "controversy_labels" or partition is None:
        return prompts.graded
    if prompts.tracks is None:
        return None
    completions = expected_completions(recipe, partition, prompts.tracks)
    if asset == "completions":
        return sum(completions.values())
    if asset == "rewards":
        return completions[question.parameters["track"]]
    candidates = sum(
        expected_completions(recipe, model, {"controversial": 1})["controversial"]
        for model in (*recipe.completions.models, partition)
    )
    compared = min(recipe.rewards.compared_candidates, candidates)
    return prompts.tracks.get("controversial", 0) * compared * (compared - 1)


@dataclass(frozen=True)
class Forecaster:
    """Makes forecasts for a recipe on the resources that its runs would have.

    Attributes:
        log: takes a line now and then.
    """

    warehouse: Warehouse
    inference: Inference
    gpus: GpuPool
    recipe: Recipe
    log: Callable[[str], None]

    def pilot(self, requests: int) -> int:
        """Ask some requests of each model and task that has no runs yet; return how many.

        They are drawn by their hash from the first partition that is ready to ask, from each of its
        questions (the tracks of rewards) in proportion, and answered into the spool: a run will
        not ask them again.
        """
        asked = 0
        measured = self._measured()
        for (asset, partition), questions in self._questions().items():
            if self._waits(asset, partition):
                continue
            answering = self._answering(asset, partition)
            kinds: dict[tuple[str, str, str], list[tuple[Question, int]]] = {}
            for question in questions:
                kind = (question.model, self._fingerprint(question.model), str(question.task))
                unanswered = answering.count(question)[1] if kind not in measured else 0
                if unanswered:
                    kinds.setdefault(kind, []).append((question, unanswered))
            for kind, parts in kinds.items():
                total = sum(unanswered for _, unanswered in parts)
                for question, unanswered in parts:
                    share = min(1.0, requests / total)
                    answering.ask(question, at_most=max(1, round(unanswered * share)))
                measured.add(kind)
            asked += sum(run.done for run in answering.runs)
        return asked

    def pending(self) -> list[Pending]:
        """Count what has no answer yet, in the order in which it is asked."""
        with self.warehouse.read() as connection:
            prompts = count_prompts(connection, self.recipe)
        listed: list[Pending] = []
        for (asset, partition), questions in self._questions().items():
            waits = self._waits(asset, partition)
            for question in questions:
                requests = self._count(prompts, asset, partition, question, waits=waits)
                listed.append(
                    Pending(
                        len(listed),
                        asset,
                        partition,
                        question.model,
                        question.task,
                        self._fingerprint(question.model),
                        requests,
                        not waits,
                    )
                )
        return listed

    def forecast(self, pending: Sequence[Pending], now: datetime) -> pa.Table:
        """Return one row for each partition, model and task with pending requests.

        Columns: those of ``sql/analysis/forecast.sql``, its ``ends_after_seconds`` replaced by
        ``finishes_at``, if partitions are worked off one after another from ``now`` (UTC).
        """
        rows = answer(
            self.warehouse,
            self.recipe,
            sql_files.read_sql("analysis", "forecast"),
            {"pending": json.dumps([asdict(one) for one in pending])},
        )
        ends = [
            None if seconds is None else now + timedelta(seconds=round(seconds))
            for seconds in rows["ends_after_seconds"].to_pylist()
        ]
        place = rows.schema.get_field_index("ends_after_seconds")
        return rows.set_column(place, "finishes_at", pa.array(ends, pa.timestamp("s")))

    def keep(self, rows: pa.Table, now: datetime) -> None:
        """Add a forecast to ``inference_forecasts``, so that it can be held against what came."""
        kept_columns = {column.name for column in sql_files.tables()["inference_forecasts"].columns}
        kept = [
            {
                "made_at": now,
                "requests": row["pending"],
                **{name: row[name] for name in kept_columns & row.keys()},
            }
            for row in rows.to_pylist()
            if row["pending"] is not None
        ]
        if kept:
            self.warehouse.append("inference_forecasts", pa.Table.from_pylist(kept))

    def _questions(self) -> dict[tuple[str, str | None], list[Question]]:
        """Return what is asked at first: a second try at a grade is for few prompts."""
        asked = all_questions(self.recipe, self._fingerprint)
        return {
            place: questions[:1] if place[0] == "controversy_labels" else questions
            for place, questions in asked.items()
        }

    def _count(
        self,
        prompts: Prompts,
        asset: str,
        partition: str | None,
        question: Question,
        *,
        waits: bool,
    ) -> int | None:
        if not waits:
            return self._answering(asset, partition).count(question)[1]
        expected = expected_requests(self.recipe, prompts, asset, partition, question)
        if expected is None or asset == "judge_comparisons":
            return expected
        # What is made of it already may be answered.
        made, unanswered = self._answering(asset, partition).count(question)
        return max(expected - made, 0) + unanswered

    def _waits(self, asset: str, partition: str | None) -> bool:
        with self.warehouse.read() as connection:
            return waits_for(connection, self.recipe, asset, partition) is not None

    def _measured(self) -> set[tuple[str, str, str]]:
        with self.warehouse.read() as connection:
            return set(
                connection.execute(
                    "SELECT DISTINCT model, model_fingerprint, task FROM inference_runs "
                    "WHERE answered > 0"
                ).fetchall()
            )

    def _fingerprint(self, model: str) -> str:
        return self.inference.fingerprint(model, self.recipe, self.warehouse.home)

    def _answering(self, asset: str, partition: str | None) -> Answering:
        return Answering(
            self.warehouse,
            self.inference,
            self.gpus,
            self.recipe,
            asset,
            partition,
            None,
            self.log,
        )


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
    hint = "`alignment-assets forecast --pilot 50` asks 50 requests of each that is ready."
    if not known:
        return f"{text}; nothing measured yet. {hint}"
    text += (
        f"; {total('prompt_tokens'):,} tokens in, {total('completion_tokens'):,} out, "
        f"{total('engine_hours'):,.2f} engine hours, {total('gpu_hours'):,.2f} GPU hours, "
        f"{total('bytes') / 1e9:,.3f} GB of answers"
    )
    unknown = len(listed) - len(known)
    if not unknown:
        return f"{text}; finished at {listed[-1]['finishes_at']} UTC, one after another from now."
    return (
        f"{text}; without {unknown} row(s) that no run or no prompt says anything about yet. {hint}"
    )


def now_utc() -> datetime:
    """Return the present moment as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


def all_expected_completions(connection: DuckDBPyConnection | None, recipe: Recipe) -> int:
    """Return how many completions a recipe makes, all models and policies together."""
    tracks = count_prompts(connection, recipe).tracks or {}
    return sum(
        sum(expected_completions(recipe, model, tracks).values()) for model in model_names(recipe)
    )
