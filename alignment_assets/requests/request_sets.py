"""Which request sets each asset and partition has: a file of ``sql/requests`` and its parameters.

Three parts of the product read this list. Assets have the requests answered, a forecast counts
those without an answer, and pruning the spool keeps the answers to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.stages import Scorer
from alignment_assets.recipe.wordings import needed_templates
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.lineage import SHOWN, Lineage, TablePart, upstream_of

Fingerprint = Callable[[str], str]

# Of the wordings that the recipe names those that an edge would take, and that are not there.
_LACKING = """
WITH wordings AS (
    SELECT *
    FROM (SELECT unnest($named::VARCHAR[]) AS wording_id)
    LEFT JOIN wordings USING (wording_id)
)
SELECT wording_id FROM ({edge}
) WHERE wording_hash IS NULL ORDER BY wording_id
"""


@dataclass(frozen=True)
class RequestSet:
    """The requests that a file of ``sql/requests`` makes for one model.

    Attributes:
        name: the file, ``<asset>/<task>``.
        model: the recipe's name of the model that is to answer.
        parameters: what the file may name, and more.
        asked_as: a file of ``sql/calibration`` that stands in for the table ``completions`` (and
            ``completion_requests``), so that the file asks about other texts; its name is a column.
    """

    name: str
    model: str
    parameters: dict[str, Any]
    asked_as: str | None = None

    @property
    def task(self) -> str:
        """What the model is asked for."""
        return self.name.rsplit("/", 1)[-1]

    @property
    def sql(self) -> str:
        """The query: one row a request."""
        query = sql_files.read_sql("requests", self.name)
        if self.asked_as is None:
            return query
        completions = sql_files.read_sql("calibration", self.asked_as)
        requests = sql_files.read_sql("calibration", "completion_requests")
        return (
            f"WITH completions AS ({completions}\n), completion_requests AS ({requests}\n) "
            f"SELECT *, '{self.asked_as}' AS asked_as, NULL::UUID AS second_completion_id "
            f"FROM ({query}\n)"
        )

    @property
    def values(self) -> dict[str, Any]:
        """The parameters that the query names."""
        return sql_files.named_parameters(self.sql, self.parameters)


def grading(
    recipe: Recipe, fingerprint: Fingerprint, attempt: int, only_prompts: list[str] | None = None
) -> RequestSet:
    """Return what the grader is asked about the prompts to grade (report, section 4.1.4).

    Args:
        recipe: what says who grades, and how.
        fingerprint: gives the fingerprint of one of the recipe's models.
        attempt: from 0; the requests of each are others.
        only_prompts: the prompts to ask about; all if None.
    """
    grader = recipe.controversy
    parameters = {
        **recipe.settings(),
        **grading_parameters(recipe),
        "model_fingerprint": fingerprint(grader.model),
        "attempt": attempt,
        "only_prompts": only_prompts,
    }
    return RequestSet("controversy_labels/grade", grader.model, parameters)


def trying(
    recipe: Recipe,
    fingerprint: Fingerprint,
    name: str,
    attempt: int,
    only_prompts: list[str] | None = None,
) -> RequestSet:
    """Return what a candidate for the grader is asked about the prompts that people have labelled.

    Args:
        recipe: what says how.
        fingerprint: gives the fingerprint of one of the recipe's models.
        name: the candidate, of `Controversy.candidates`.
        attempt: from 0; the requests of each are others.
        only_prompts: the prompts to ask about; all if None.
    """
    candidate = recipe.controversy.candidates[name]
    parameters = {
        **recipe.settings(),
        **grading_parameters(recipe),
        "candidate": name,
        "model_fingerprint": fingerprint(candidate.model),
        "attempt": attempt,
        "only_prompts": only_prompts,
    }
    return RequestSet("grader_trials/grade", candidate.model, parameters)


def grading_parameters(recipe: Recipe) -> dict[str, Any]:
    """Return how the grader samples, and the schema of its answer."""
    grader = recipe.controversy
    schema = grade_schema(grader.reasoning_characters)
    return {"sampling": grader.sampling.as_json(), "answer_schema": schema}


def grade_schema(reasoning_characters: int) -> str:
    """Return the JSON schema of a grader's answer: reasoning first, then the grade."""
    return json.dumps(
        {
            "type": "object",
            "properties": {
                "reasoning": {"type": "string", "maxLength": reasoning_characters},
                "classification": {"type": "string", "enum": ["0", "1", "2", "3"]},
            },
            "required": ["reasoning", "classification"],
            "additionalProperties": False,
        }
    )


def completing(recipe: Recipe, fingerprint: Fingerprint, model: str) -> list[RequestSet]:
    """Return what a model is asked to answer: its ``completion_requests``, with texts put in."""
    return [RequestSet("completions/generate", model, {**recipe.settings(), "model": model})]


def scoring(recipe: Recipe, fingerprint: Fingerprint, model: str) -> list[RequestSet]:
    """Return what the scorer of each track is asked about a model's completions."""
    return [
        _scoring(recipe, fingerprint, scorer, {"model": model, "track": track})
        for track, scorer in recipe.rewards.scorers.items()
    ]


def _scoring(
    recipe: Recipe,
    fingerprint: Fingerprint,
    scorer: Scorer,
    parameters: Mapping[str, str],
    asked_as: str | None = None,
) -> RequestSet:
    asked = {
        **recipe.settings(),
        **parameters,
        "rubric": scorer.rubric,
        "thinking": thinking(scorer.thinking_tokens),
        "scorer_fingerprint": fingerprint(scorer.model),
    }
    return RequestSet(f"rewards/{scorer.task}", scorer.model, asked, asked_as)


def degrading(recipe: Recipe, fingerprint: Fingerprint, track: str) -> list[RequestSet]:
    """Return what a model is asked to make of its answers, so that a track's scorer is tried."""
    model = recipe.calibration_model
    parameters = {
        **recipe.settings(),
        "scorer": track,
        "model_fingerprint": fingerprint(model),
        "sampling": recipe.completion_sampling(model).as_json(),
    }
    return [RequestSet("degraded_answers/degrade", model, parameters)]


def calibrating(recipe: Recipe, fingerprint: Fingerprint, track: str) -> list[RequestSet]:
    """Return what a track's scorer is asked about ladders; of a judge also in pairs.

    The judge of the controversial track is asked about standard answers, too, which have the
    rewards of another.
    """
    scorer, judge = recipe.rewards.scorers[track], recipe.rewards.comparison_judge
    asked = {"model": "ladder", "scorer": track}
    sets = [_scoring(recipe, fingerprint, scorer, {**asked, "track": track}, "score")]
    if track == "standard":
        return sets
    parameters = {
        **recipe.settings(),
        "scorer": track,
        "scorer_fingerprint": fingerprint(judge),
        "thinking": thinking(recipe.rewards.comparison_thinking_tokens),
    }
    return [
        *sets,
        _scoring(recipe, fingerprint, scorer, {**asked, "track": "standard"}, "standard"),
        RequestSet("calibration_answers/compare", judge, parameters),
    ]


def thinking(tokens: int | None) -> str | None:
    """Return the sampling of a judge that may think for so many tokens; None if it does not."""
    return None if tokens is None else json.dumps({"thinking_tokens": tokens})


def comparing(recipe: Recipe, fingerprint: Fingerprint, policy: str) -> list[RequestSet]:
    """Return what the judge is asked about the first candidates of a policy's prompts."""
    judge = recipe.rewards.comparison_judge
    parameters = {
        **recipe.settings(),
        "policy": policy,
        "judge_fingerprint": fingerprint(judge),
        "thinking": thinking(recipe.rewards.comparison_thinking_tokens),
    }
    return [RequestSet("judge_comparisons/compare", judge, parameters)]


def measuring(recipe: Recipe, fingerprint: Fingerprint, policy: str) -> list[RequestSet]:
    """Return which completions a policy is asked the log-probability of."""
    parameters = {
        **recipe.settings(),
        "policy": policy,
        "model_fingerprint": fingerprint(policy),
    }
    return [RequestSet("reference_logprobs/loglikelihood", policy, parameters)]


def asked_partitions(recipe: Recipe) -> list[tuple[str, str | None]]:
    """Return every asset and partition that asks engines, in the order in which they can."""
    models, policies = recipe.answering_models, recipe.policies
    return [
        *(("grader_trials", candidate) for candidate in recipe.controversy.candidates),
        ("controversy_labels", None),
        *(("completions", model) for model in models),
        *(("rewards", model) for model in models),
        *(("degraded_answers", track) for track in recipe.rewards.scorers),
        *(("calibration_answers", track) for track in recipe.rewards.scorers),
        *(("judge_comparisons", policy) for policy in policies),
        *(("reference_logprobs", policy) for policy in policies),
    ]


def all_request_sets(
    recipe: Recipe, fingerprint: Fingerprint
) -> Mapping[tuple[str, str | None], list[RequestSet]]:
    """Return all requests by asset and partition, in the order of `asked_partitions`.

    Later attempts at grading are for answers that do not parse: they are among them, about all
    prompts.
    """
    by_partition = {
        "completions": completing,
        "rewards": scoring,
        "degraded_answers": degrading,
        "calibration_answers": calibrating,
        "judge_comparisons": comparing,
        "reference_logprobs": measuring,
    }
    attempts = range(recipe.controversy.attempts)
    grades: dict[tuple[str, str | None], list[RequestSet]] = {
        ("controversy_labels", None): [grading(recipe, fingerprint, n) for n in attempts],
        **{
            ("grader_trials", name): [trying(recipe, fingerprint, name, n) for n in attempts]
            for name in recipe.controversy.candidates
        },
    }
    return {
        place: grades.get(place) or by_partition[place[0]](recipe, fingerprint, str(place[1]))
        for place in asked_partitions(recipe)
    }


def lacking_wordings(connection: DuckDBPyConnection, recipe: Recipe, part: TablePart) -> list[str]:
    """Return the wordings that a part is asked with and that the table has not.

    Without them there would be no question. They are those that the recipe names and the edge of
    the part to ``wordings`` would take.
    """
    if "wordings" not in upstream_of(part.table):
        return []
    edge = sql_files.read_sql("edges", f"{part.table}/wordings")
    given = sql_files.named_parameters(edge, {**recipe.settings(), **part.values})
    named = {**given, "named": needed_templates(recipe)}
    rows = connection.execute(_LACKING.format(edge=edge), named).fetchall()
    return [name for (name,) in rows]


def request_ids(connection: DuckDBPyConnection, query: str, values: Mapping[str, Any]) -> list[str]:
    """Return the ``request_id`` of each row of a query, as text."""
    rows = connection.execute(
        f"SELECT CAST(request_id AS VARCHAR) FROM ({query}\n)", dict(values)
    ).fetchall()
    return [one for (one,) in rows]


def waits_for(lineage: Lineage, recipe: Recipe, asset: str, partition: str | None) -> str | None:
    """Return what has to be made before a partition's requests are all known.

    For example, the comparisons of a policy are asked about the best rewards of every model: while
    ``rewards[qwen3-14b]`` is behind, their requests are too few, or of other completions. A
    forecast then counts by arithmetic, and pruning leaves the partition's answers alone.

    Returns:
        The tables above, with their partitions, that are not made or do not fit what they were
        made of; None if all do.
    """
    part = TablePart(asset, partition)
    names = [misfit.part.label for misfit in lineage.misfits_above(part)]
    if lacking_wordings(lineage.connection, recipe, part):
        names.append("wordings")
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}" if names else None
