"""What engines are asked for each asset and partition: the files of ``sql/requests``, filled in.

Assets ask these; a forecast counts them; pruning the spool keeps their answers.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from duckdb import DuckDBPyConnection

from alignment_assets.assets.partitions import largest_first, model_names
from alignment_assets.recipe.model import Recipe
from alignment_assets.requests.runner import Question
from alignment_assets.warehouse import sql_files

Fingerprint = Callable[[str], str]


def grading(
    recipe: Recipe, fingerprint: Fingerprint, attempt: int, only_prompts: list[str] | None = None
) -> Question:
    """Return the grader's question about each licensed prompt (report, section 4.1.4).

    Args:
        recipe: the run.
        fingerprint: gives the fingerprint of one of the recipe's models.
        attempt: from 0; each is a question of its own.
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
    return Question("controversy_labels", grader.model, "grade", parameters)


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


def completing(recipe: Recipe, model: str) -> Question:
    """Return what a model is asked to answer: its ``completion_requests``, with texts put in."""
    return Question("completions", model, "generate", {**recipe.settings(), "model": model})


def rewarding(recipe: Recipe, fingerprint: Fingerprint, model: str) -> list[Question]:
    """Return what the scorer of each track is asked about a model's completions."""
    scorers = {"standard": recipe.rewards.standard, "controversial": recipe.rewards.controversial}
    return [
        Question(
            f"rewards_{scoring.task}",
            scoring.model,
            scoring.task,
            {
                **recipe.settings(),
                "model": model,
                "track": track,
                "rubric": scoring.rubric,
                "scorer_fingerprint": fingerprint(scoring.model),
            },
        )
        for track, scoring in scorers.items()
    ]


def comparing(recipe: Recipe, fingerprint: Fingerprint, policy: str) -> Question:
    """Return what the judge is asked about the first candidates of a policy's prompts."""
    judge = recipe.rewards.comparison_judge
    parameters = {
        **recipe.settings(),
        "policy": policy,
        "judge_fingerprint": fingerprint(judge),
    }
    return Question("judge_comparisons", judge, "compare", parameters)


def asked_partitions(recipe: Recipe) -> list[tuple[str, str | None]]:
    """Return every asset and partition that asks engines, in the order in which they can."""
    models = model_names(recipe)
    policies = largest_first(recipe, recipe.completions.policies)
    return [
        ("controversy_labels", None),
        *(("completions", model) for model in models),
        *(("rewards", model) for model in models),
        *(("judge_comparisons", policy) for policy in policies),
    ]


def all_questions(
    recipe: Recipe, fingerprint: Fingerprint
) -> Mapping[tuple[str, str | None], list[Question]]:
    """Return every question by asset and partition, in the order of `asked_partitions`.

    Later attempts at grading are for answers that do not parse: they are among them, about all
    prompts.
    """
    attempts = range(recipe.controversy.attempts)
    questions: dict[tuple[str, str | None], list[Question]] = {}
    for asset, partition in asked_partitions(recipe):
        if asset == "controversy_labels" or partition is None:
            asked = [grading(recipe, fingerprint, attempt) for attempt in attempts]
        elif asset == "completions":
            asked = [completing(recipe, partition)]
        elif asset == "rewards":
            asked = rewarding(recipe, fingerprint, partition)
        else:
            asked = [comparing(recipe, fingerprint, partition)]
        questions[asset, partition] = asked
    return questions


def waits_for(
    connection: DuckDBPyConnection, recipe: Recipe, asset: str, partition: str | None
) -> str | None:
    """Return what a partition's questions wait for; None if the tables that they read are whole.

    Until then they are too few, or others than will be asked.
    """
    (prompts, wordings) = connection.execute(
        "SELECT (SELECT count(*) FROM licensed_prompts), (SELECT count(*) FROM wordings)"
    ).fetchone() or (0, 0)
    if not wordings:
        return "wordings"
    if asset == "controversy_labels":
        return None if prompts else "licensed_prompts"
    query = sql_files.read_sql("analysis", "unanswered_requests")
    values = sql_files.named_parameters(query, recipe.settings())
    needed = (
        {*recipe.completions.models, partition} if asset == "judge_comparisons" else {partition}
    )
    missing = [
        f"{table}[{model}]"
        for model, requested, completed, rewarded, not_asked in connection.execute(
            query, values
        ).fetchall()
        for table, lacks in (
            ("completion_requests", not requested or not_asked),
            ("completions", completed < requested and asset != "completions"),
            ("rewards", rewarded < completed and asset == "judge_comparisons"),
        )
        if model in needed and lacks
    ]
    return ", ".join(missing) or None
