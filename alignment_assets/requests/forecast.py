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

import pyarrow as pa
from duckdb import DuckDBPyConnection

from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference.backend import Inference
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.wordings import read_faults
from alignment_assets.requests.request_sets import RequestSet, all_request_sets, waits_for
from alignment_assets.requests.runner import RequestRunner
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lineage import Lineage
from alignment_assets.warehouse.query import ask

_MEASURED = """
SELECT DISTINCT model, model_fingerprint, task FROM inference_runs WHERE answered > 0
"""


@dataclass(frozen=True)
class Prompts:
    """How many prompts there are.

    Attributes:
        labelled: that people have labelled; None if nothing says so yet.
        graded: that the grader is asked about; None if nothing says so yet.
        tracks: on each track; None if nothing says so yet.
    """

    labelled: int | None
    graded: int | None
    tracks: Mapping[str, int] | None


@dataclass(frozen=True)
class Pending:
    """Requests of one set that have no answer.

    Attributes:
        position: where it stands in the order of work.
        requests: how many; None if that cannot be told yet.
        exact: counted in the tables; otherwise what the recipe and the prompts lead to.
        prompt_price: of a million tokens of prompts; None where the recipe has no price.
        completion_price: of a million tokens generated.
        engines: that would answer now; None for as many as did last.
    """

    position: int
    asset: str
    partition: str | None
    model: str
    task: str
    model_fingerprint: str
    requests: int | None
    exact: bool
    prompt_price: float | None = None
    completion_price: float | None = None
    engines: int | None = None


def count_prompts(connection: DuckDBPyConnection | None, recipe: Recipe) -> Prompts:
    """Count prompts in the database, else those that the recipe says were published.

    A recipe's limit holds for the published ones too. Graded are the prompts of some sources only,
    which the published totals do not tell apart: all of them stand in.
    """
    published: dict[str, int] = {str(track): n for track, n in recipe.published_prompts.items()}
    total = sum(published.values())
    if recipe.limit is not None and recipe.limit < total:
        published = {track: n * recipe.limit // total for track, n in published.items()}
    labelled, licensed, graded, tracks = 0, 0, 0, {}
    if connection is not None:
        (labelled,) = connection.execute(
            "SELECT count(DISTINCT prompt_id) FROM human_labels WHERE malformed_reason IS NULL"
        ).fetchone() or (0,)
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
        labelled or (0 if recipe.human_labels is None else None),
        graded if licensed else sum(published.values()) or None,
        tracks or published or None,
    )


def expected_completions(recipe: Recipe, model: str, tracks: Mapping[str, int]) -> dict[str, int]:
    """Return how many completions a model makes of so many prompts on each track."""
    samples = {"reference": recipe.completions.reference_completions}
    asked = recipe.variants(model)
    return {
        track: tracks.get(track, 0) * sum(samples.get(name, 1) for name in variants)
        for track, variants in asked.items()
    }


def expected_requests(
    recipe: Recipe, prompts: Prompts, asset: str, partition: str | None, requests: RequestSet
) -> int | None:
    """Return how many requests there will be; None if nothing says so yet."""
    if asset == "grader_trials":
        return prompts.labelled
    if asset == "controversy_labels" or partition is None:
        return prompts.graded
    if prompts.tracks is None:
        return None
    completions = expected_completions(recipe, partition, prompts.tracks)
    if asset == "completions":
        return sum(completions.values())
    if asset == "rewards":
        return completions[str(requests.parameters["track"])]
    models = (*recipe.completions.models, partition)
    if asset in ("degraded_answers", "calibration_answers"):
        return _expected_of_ladders(recipe, prompts.tracks, requests)
    if asset == "reference_logprobs":
        scope, pairs = recipe.reference_logprobs.scope, recipe.selection.pairs_per_prompt
        all_candidates = sum(
            sum(expected_completions(recipe, model, prompts.tracks).values()) for model in models
        )
        selected = 2 * pairs * sum(prompts.tracks.values())
        asked = {"none": 0, "selected": selected, "candidates": all_candidates}
        return min(asked[scope], all_candidates)
    candidates = sum(
        expected_completions(recipe, model, {"controversial": 1})["controversial"]
        for model in models
    )
    compared = min(recipe.rewards.compared_candidates, candidates)
    return prompts.tracks.get("controversial", 0) * compared * (compared - 1)


def _expected_of_ladders(recipe: Recipe, tracks: Mapping[str, int], requests: RequestSet) -> int:
    """Return how many requests ladders take, and the scorers that are tried on them."""
    if not recipe.calibration.prompts:
        return 0
    drawn = {track: min(recipe.calibration.prompts, n) for track, n in tracks.items()}
    steps = len(read_faults(recipe))
    ladders = drawn.get(str(requests.parameters["scorer"]), 0)
    if requests.asked_as == "standard":
        asked = [expected_completions(recipe, name, drawn) for name in recipe.completions.models]
        return sum(completions["standard"] for completions in asked)
    per_ladder = {"degrade": steps, "compare": (steps + 1) * steps}
    return ladders * per_ladder.get(requests.task, steps + 1)


@dataclass(frozen=True)
class Forecaster:
    """Makes forecasts for a run on the resources that its steps would have.

    Attributes:
        log: takes a line now and then.
    """

    run: Run
    warehouse: Database
    inference: Inference
    gpus: GpuPool
    log: Callable[[str], None]

    def pilot(self, requests: int) -> int:
        """Ask some requests of each model and task that has no runs yet; return how many.

        They are drawn by their hash from the first partition that is ready to ask, from each of its
        sets of requests (the tracks of rewards) in proportion, and answered into the spool: a run
        will not ask them again.
        """
        asked = 0
        with self.warehouse.read() as connection:
            measured = set(connection.execute(_MEASURED).fetchall())
            lineage = Lineage(connection, self.run.recipe.settings())
            ready = {
                place: sets
                for place, sets in self._request_sets().items()
                if waits_for(lineage, self.run.recipe, *place) is None
            }
        for (asset, partition), sets in ready.items():
            runner = self._runner(asset, partition)
            alike: dict[tuple[str, str, str], list[tuple[RequestSet, int]]] = {}
            for each in sets:
                place = (each.model, self._fingerprint(each.model), each.task)
                unanswered = runner.count(each)[1] if place not in measured else 0
                if unanswered:
                    alike.setdefault(place, []).append((each, unanswered))
            for place, parts in alike.items():
                share = min(1.0, requests / sum(unanswered for _, unanswered in parts))
                for each, unanswered in parts:
                    runner.answer(each, at_most=max(1, round(unanswered * share)))
                measured.add(place)
            asked += sum(progress.done for progress in runner.progress)
        return asked

    def pending(self, connection: DuckDBPyConnection) -> list[Pending]:
        """Count what has no answer yet, in the order in which it is asked."""
        prompts = count_prompts(connection, self.run.recipe)
        lineage = Lineage(connection, self.run.recipe.settings())
        listed: list[Pending] = []
        waiting = self._request_sets()
        models = {requests.model for sets in waiting.values() for requests in sets}
        engines = self.inference.engines(models, self.run)
        for (asset, partition), sets in waiting.items():
            waits = waits_for(lineage, self.run.recipe, asset, partition) is not None
            for requests in sets:
                price = self.run.recipe.models[requests.model].price
                listed.append(
                    Pending(
                        len(listed),
                        asset,
                        partition,
                        requests.model,
                        requests.task,
                        self._fingerprint(requests.model),
                        self._count(connection, prompts, asset, partition, requests, waits),
                        not waits,
                        price.prompt if price else None,
                        price.completion if price else None,
                        engines.get(requests.model),
                    )
                )
        return listed

    def forecast(
        self, connection: DuckDBPyConnection, pending: Sequence[Pending], now: datetime
    ) -> pa.Table:
        """Return one row for each partition, model and task with pending requests.

        Columns: those of ``sql/analysis/forecast.sql``, its ``ends_after_seconds`` replaced by
        ``finishes_at``, if partitions are worked off one after another from ``now`` (UTC).
        """
        rows = ask(
            connection,
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

    def _request_sets(self) -> dict[tuple[str, str | None], list[RequestSet]]:
        """Return what is asked at first: a second try at a grade is for few prompts."""
        asked = all_request_sets(self.run.recipe, self._fingerprint)
        again = ("grader_trials", "controversy_labels")
        return {place: sets[:1] if place[0] in again else sets for place, sets in asked.items()}

    def _count(
        self,
        connection: DuckDBPyConnection,
        prompts: Prompts,
        asset: str,
        partition: str | None,
        requests: RequestSet,
        waits: bool,
    ) -> int | None:
        runner = self._runner(asset, partition)
        if not waits:
            return runner.count_in(connection, requests)[1]
        expected = expected_requests(self.run.recipe, prompts, asset, partition, requests)
        if expected is None or asset in ("judge_comparisons", "reference_logprobs"):
            return expected
        # What is made of it already may be answered.
        made, unanswered = runner.count_in(connection, requests)
        return max(expected - made, 0) + unanswered

    def _fingerprint(self, model: str) -> str:
        return self.inference.fingerprint(model, self.run)

    def _runner(self, asset: str, partition: str | None) -> RequestRunner:
        return RequestRunner(
            self.run,
            self.warehouse,
            self.inference,
            self.gpus,
            asset,
            partition,
            None,
            self.log,
        )


def now_utc() -> datetime:
    """Return the present moment as the database keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


def all_expected_completions(connection: DuckDBPyConnection | None, recipe: Recipe) -> int:
    """Return how many completions a recipe makes, all models and policies together."""
    tracks = count_prompts(connection, recipe).tracks or {}
    return sum(
        sum(expected_completions(recipe, model, tracks).values())
        for model in recipe.answering_models
    )
