"""Scorers and judges are tried before selection goes by their scores.

A model makes its own answers worse in named steps; who scores a track is asked about each step, by
the very question that rewards are made with. The figures are SQL
(``sql/assets/judge_calibration.sql``); here belong who is asked, and the gate before selection.
"""

import duckdb
from dagster import (
    AllPartitionMapping,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    asset_check,
)

from alignment_assets.assets.factory import from_models, message_first, publish, table_asset
from alignment_assets.assets.partitions import models_feed_scorers, scorer_partitions
from alignment_assets.assets.plain import llm_asset
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.settings import table_settings
from alignment_assets.recipe.wordings import read_faults
from alignment_assets.requests.request_sets import Fingerprint, calibrating, degrading, request_ids
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.resource import Warehouse

GROUP = "rewards"
TABLE = "judge_calibration"
# What every scorer has a figure of, and what the judge of comparisons has. Of others nothing may be
# there to be measured: no family, or no labels.
_OF_SCORERS = {
    *("ladder_spearman", "ladder_kendall", "step_seen", "ties", "retest"),
    *("length_correlation", "length_slope"),
}
_OF_JUDGES = {
    *("pairwise_spearman", "pairwise_kendall", "position_bias", "first_preferred", "flips"),
    *("agreement_spearman", "agreement_kendall", "label_mass"),
}
# Of which part of a scorer's figures a bound has to have one.
_PARTS = {"label_mass": ("scores", "comparisons")}
_STRANGERS = """
SELECT DISTINCT scorer
FROM calibration_answers
WHERE asked_as = 'score' AND model_fingerprint NOT IN (
    SELECT scorer_fingerprint
    FROM rewards
    WHERE track = calibration_answers.scorer AND scorer_fingerprint IS NOT NULL
)
ORDER BY scorer
"""
_TRACKS = "SELECT DISTINCT track FROM alignment_prompts ORDER BY track"


class CalibrationError(Expected):
    """Scorers that are not good enough, or were not tried; the message says in what."""


def calibration_assets(run: Run) -> list[AssetsDefinition]:
    """Build the assets that scorers are tried with."""
    recipe = run.recipe
    feeds = models_feed_scorers(recipe)
    scorers = recipe.rewards.scorers.values()
    return [
        llm_asset(
            run,
            "degraded_answers",
            degrading,
            group=GROUP,
            deps=[*from_models(["completions"], feeds), "alignment_prompts", "wordings"],
            partitions=scorer_partitions(recipe),
            files=["degraded_answers/degrade"],
            counts="missing_reason",
        ),
        llm_asset(
            run,
            "calibration_answers",
            calibrating,
            group=GROUP,
            deps=[
                "degraded_answers",
                *from_models(["completions"], feeds),
                *("alignment_prompts", "wordings"),
            ],
            partitions=scorer_partitions(recipe),
            files=[
                *(f"rewards/{scorer.task}" for scorer in scorers),
                "calibration_answers/compare",
            ],
            parts=[
                sql_files.read_sql("calibration", name)
                for name in sql_files.sql_names("calibration")
            ],
            settings={
                "rubric": [scorer.rubric for scorer in scorers],
                "thinking": [
                    *(scorer.thinking_tokens for scorer in scorers),
                    recipe.rewards.comparison_thinking_tokens,
                ],
            },
            counts="asked_as",
        ),
        _judge_calibration_asset(run),
    ]


def _judge_calibration_asset(run: Run) -> AssetsDefinition:
    recipe = run.recipe
    query = sql_files.read_sql("assets", TABLE)

    @table_asset(
        TABLE,
        group=GROUP,
        kinds={"sql"},
        deps=[
            *("degraded_answers", "calibration_answers"),
            *from_models(["completions", "rewards"], models_feed_scorers(recipe)),
            "alignment_prompts",
        ],
        version=sql_files.code_version(query, settings=table_settings(recipe)),
        partitions=scorer_partitions(recipe),
    )
    def build(context: AssetExecutionContext, warehouse: Warehouse) -> MaterializeResult[None]:
        part = TablePart(TABLE, context.partition_key)
        parameters = {**recipe.settings(), **part.values}
        with warehouse.stage(TABLE, part.values) as staging:
            Lineage(staging.connection, parameters).check(part)
            staging.insert(query, parameters)
            made = publish(context, run, staging, parameters)
        # As of an asset that was never made: selection waits for this where there is a gate, but
        # pairs are not made of it, and another figure makes none of them stale.
        return MaterializeResult(metadata=made.metadata, data_version=DataVersion("INITIAL"))

    return build


def gate_deps(recipe: Recipe) -> list[AssetDep]:
    """Return what selection waits for besides what it is made of."""
    if not recipe.calibration.has_gate:
        return []
    return [AssetDep(TABLE, partition_mapping=AllPartitionMapping())]


def check_calibration(warehouse: Warehouse, run: Run, fingerprint: Fingerprint) -> None:
    """Raise a CalibrationError unless all scorers have been tried and are good enough.

    Args:
        warehouse: has the figures.
        run: the recipe, which says what is good enough, if anything.
        fingerprint: gives the fingerprint of one of the recipe's models.

    Raises:
        CalibrationError: one was not tried as it would be now, or does not pass.
    """
    if not run.recipe.calibration.has_gate:
        return
    with warehouse.read() as connection:
        missing = _untried(connection, run.recipe, fingerprint)
        if missing:
            tried = f"key:degraded_answers or key:calibration_answers or key:{TABLE}"
            command = f"materialize --select '{tried}'"
            raise CalibrationError(
                f"nothing was selected: the recipe's calibration holds scorers to what {TABLE} "
                f"says of them, and {missing}. `{proposed(command)}` tries them"
            )
        faults = find_faults(connection, run.recipe)
    if faults:
        raise CalibrationError(
            f"nothing was selected: {'; '.join(faults)}. Take another scorer, judge or rubric, or "
            f"other bounds; `{proposed('query judges_measured')}` shows all figures"
        )


def find_faults(connection: duckdb.DuckDBPyConnection, recipe: Recipe) -> list[str]:
    """Return in which ways scorers are not what the recipe's calibration wants of them.

    What is wanted and was not measured is a fault, on tracks that have prompts; whether a judge
    favours its family can only be measured where some of the models are of it.
    """
    query = sql_files.read_sql("analysis", "judges_measured")
    rows = connection.execute(
        f"SELECT scorer, measure, value, low, high, at_least, at_most, holds FROM ({query}\n)",
        sql_files.named_parameters(query, recipe.settings()),
    ).fetchall()
    found, there = [], {(row[0], row[1]) for row in rows}
    for scorer, measure, value, low, high, at_least, at_most, holds in rows:
        if not holds:
            interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
            bounds = [f"at least {at_least:g}"] if at_least is not None else []
            bounds += [f"at most {at_most:g}"] if at_most is not None else []
            found.append(
                f"{measure} of the {scorer} track's scorer is {value:.3f}{interval}, where the "
                f"recipe wants {' and '.join(bounds)}"
            )
    for (track,) in connection.execute(_TRACKS).fetchall():
        found += [
            f"nothing gives {measure} of the {track} track's scorer"
            for measure in _needed(recipe, track)
            if (track, measure) not in there
        ]
    return found


def _needed(recipe: Recipe, track: str) -> list[str]:
    """Return the figures that a track's scorer has to have, because the recipe bounds them."""
    wanted = {*recipe.calibration.at_least, *recipe.calibration.at_most}
    measurable = _OF_SCORERS | (_OF_JUDGES if track == "controversial" else set())
    parts = {**_PARTS, "step_seen": [name for name, _ in read_faults(recipe)]}
    return [
        f"{measure} ({part})" if part else measure
        for measure in sorted(wanted & measurable)
        for part in parts.get(measure, [""])
    ]


def _untried(
    connection: duckdb.DuckDBPyConnection, recipe: Recipe, fingerprint: Fingerprint
) -> str | None:
    """Return why the figures do not tell of the scorers as they are now; None if they do."""
    lineage = Lineage(connection, recipe.settings())
    for scorer in recipe.rewards.scorers:
        part = TablePart(TABLE, scorer)
        misfits = [*lineage.misfits_above(part), *lineage.misfits_of(part)]
        if misfits:
            return misfits[0].text
        for table, sets in (
            ("degraded_answers", degrading(recipe, fingerprint, scorer)),
            ("calibration_answers", calibrating(recipe, fingerprint, scorer)),
        ):
            now = {one for each in sets for one in request_ids(connection, each.sql, each.values)}
            there = f"FROM {table} WHERE scorer = $scorer AND request_id IS NOT NULL"
            if now != {*request_ids(connection, there, {"scorer": scorer})}:
                return f"{table}[{scorer}] was asked otherwise than it would be now"
    for (scorer,) in connection.execute(_STRANGERS).fetchall():
        return f"another than was tried gave the rewards of the {scorer} track"
    return None


def calibration_check(run: Run) -> AssetChecksDefinition:
    """Build the check that scorers are what the recipe's calibration wants."""

    @asset_check(
        asset=TABLE,
        name="within_bounds",
        description="Scorers are as good as the recipe's calibration wants. Otherwise "
        "quantile_rewards is not made: nothing is selected by their scores.",
    )
    def check(context: AssetCheckExecutionContext, warehouse: Warehouse) -> AssetCheckResult:
        with message_first(), warehouse.read() as connection:
            faults = find_faults(connection, run.recipe)
        return AssetCheckResult(
            passed=not faults,
            severity=AssetCheckSeverity.WARN,
            metadata={"offending": len(faults), **({"faults": faults} if faults else {})},
        )

    return check
