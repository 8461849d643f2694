"""The gate: no prompt is graded by who agreed too little with people in its trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from alignment_assets.assets.graders import AGREEMENT, TRIALS, compare_with_people
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.recipe.stages import Controversy
from alignment_assets.requests.request_sets import Fingerprint, request_ids, trying
from alignment_assets.warehouse.lineage import Lineage, TablePart
from alignment_assets.warehouse.resource import Warehouse

_FIGURES = """
SELECT
    candidate, model, wording, graded_prompts,
    accuracy, accuracy_low, accuracy_high, kappa, kappa_low, kappa_high, unparsable
FROM figures
JOIN (
    SELECT
        candidate,
        any_value(model) AS model,
        any_value(wording) AS wording,
        count(*) FILTER (grade IS NULL) / count(*) AS unparsable
    FROM grader_trials
    GROUP BY candidate
) AS tried USING (candidate)
WHERE threshold = $threshold
ORDER BY candidate
"""


class GateError(Expected):
    """A grader that is not good enough, or was not tried; the message says who is."""


@dataclass(frozen=True)
class Figures:
    """How a candidate did in its trial, at the recipe's threshold; None where nothing says so."""

    candidate: str
    model: str
    wording: str
    prompts: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    unparsable: float | None

    @property
    def text(self) -> str:
        """The figures in words."""
        named = (
            ("accuracy", self.accuracy, self.accuracy_low, self.accuracy_high),
            ("kappa", self.kappa, self.kappa_low, self.kappa_high),
        )
        told = [
            f"{name} {figure:.3f} [{low:.3f}, {high:.3f}]"
            for name, figure, low, high in named
            if figure is not None and low is not None and high is not None
        ]
        return f"{', '.join(told) or 'no figure'} on {self.prompts:,} prompts"

    def faults(self, rule: Controversy, unparsable: float) -> list[str]:
        """Return in which ways the candidate fails the gate; none if it passes."""
        at_low = rule.gate_on == "lower_end"
        held = (
            ("accuracy", rule.min_accuracy, self.accuracy_low if at_low else self.accuracy),
            ("kappa", rule.min_kappa, self.kappa_low if at_low else self.kappa),
        )
        found = []
        for name, least, figure in held:
            what = f"the lower end of {name}" if at_low else name
            if least is None:
                continue
            if figure is None:
                found.append(f"nothing gives its {name}")
            elif figure < least:
                found.append(f"{what} is {figure:.3f}, below controversy.min_{name} {least:g}")
        if self.unparsable is not None and self.unparsable > unparsable:
            found.append(
                f"{self.unparsable:.1%} of its answers are no grade, more than limits.unparsable "
                f"{unparsable:.1%}"
            )
        return found

    def goodness(self, rule: Controversy) -> tuple[float, float]:
        """Return what candidates are ordered by: kappa where the gate has one, else accuracy."""
        at_low = rule.gate_on == "lower_end"
        kappa = self.kappa_low if at_low else self.kappa
        accuracy = self.accuracy_low if at_low else self.accuracy
        ordered = [-2.0 if figure is None else figure for figure in (kappa, accuracy)]
        return (ordered[0], ordered[1]) if rule.min_kappa is not None else (ordered[1], ordered[0])


def check_gate(warehouse: Warehouse, run: Run, fingerprint: Fingerprint) -> None:
    """Raise a GateError unless the recipe's grader has been tried and is good enough.

    Args:
        warehouse: has the trials.
        run: the recipe, which says what is good enough, if anything.
        fingerprint: gives the fingerprint of one of the recipe's models.

    Raises:
        GateError: it has not been tried as it would grade now, or does not pass.
    """
    recipe, grader = run.recipe, run.recipe.controversy.grader.name
    if not recipe.controversy.has_gate:
        return
    command = f"materialize --select 'key:{TRIALS}+1'"
    trials = f"`{proposed(command)}`"
    with warehouse.read() as connection:
        lineage = Lineage(connection, recipe.settings())
        why = {
            name: _untried(connection, lineage, recipe, fingerprint, name)
            for name in recipe.controversy.candidates
        }
        # As of now: the table of figures may be of other trials, another threshold or grader.
        tried = [name for name, reason in why.items() if reason is None]
        given = {**recipe.settings(), "controversy_candidates": tried}
        compare_with_people(connection, AGREEMENT, given)
        rows = connection.execute(_FIGURES, {"threshold": recipe.controversy.threshold}).fetchall()
    if why[grader]:
        raise GateError(
            f"nothing was graded: the recipe's gate goes by the trial of {grader}, and "
            f"{why[grader]}. {trials} runs the trials"
        )
    figures = {row[0]: Figures(*row) for row in rows}
    if grader not in figures:
        raise GateError(
            "nothing was graded: the recipe's gate goes by trials, and no prompt that people have "
            "labelled could be asked about: the table human_labels has no usable label, or its "
            "labels have ids alone, of which no admitted row of a source has the prompt"
        )
    own = figures[grader]
    faults = own.faults(recipe.controversy, recipe.limits.allowed("unparsable", None))
    if faults:
        raise GateError(
            f"nothing was graded: {grader} fails the recipe's gate: {'; '.join(faults)} "
            f"({own.text}). {_best([*figures.values()], recipe)}; {trials} tries others that the "
            f"recipe names under controversy.trials"
        )


def _untried(
    connection: duckdb.DuckDBPyConnection,
    lineage: Lineage,
    recipe: Recipe,
    fingerprint: Fingerprint,
    name: str,
) -> str | None:
    """Return why the trial of a candidate does not say how it would grade now; None if it does."""
    trial = TablePart(TRIALS, name)
    if trial not in lineage.made:
        return "it has not been tried"
    misfits = [*lineage.misfits_above(trial), *lineage.misfits_of(trial)]
    if misfits:
        return misfits[0].text
    asked = [
        trying(recipe, fingerprint, name, attempt) for attempt in range(recipe.controversy.attempts)
    ]
    now = {one for each in asked for one in request_ids(connection, each.sql, each.values)}
    there = "FROM grader_trials WHERE candidate = $candidate"
    if not now.issuperset(request_ids(connection, there, {"candidate": name})):
        return "it was tried by other weights, wordings or sampling than grade now"
    return None


def _best(figures: Sequence[Figures], recipe: Recipe) -> str:
    rule, unparsable = recipe.controversy, recipe.limits.allowed("unparsable", None)
    passing = [one for one in figures if not one.faults(rule, unparsable)]
    order: Callable[[Figures], Any] = lambda one: one.goodness(rule)  # noqa: E731
    if passing:
        best = max(passing, key=order)
        return (
            f"Of those tried the best one that passes is {best.candidate} ({best.text}): say "
            f"controversy: {{model: {best.model}, wording: {best.wording}}}"
        )
    best = max(figures, key=order)
    others = "the only one tried" if len(figures) == 1 else f"the best of {len(figures)} tried"
    return f"None that was tried passes; {best.candidate} is {others} ({best.text})"
