"""``alignment-assets labels``: tasks for people, and their labels, in Label Studio's JSON."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alignment_assets.commands.chosen import run_to_read
from alignment_assets.commands.rows import written
from alignment_assets.commands.terminal import console, say, tell
from alignment_assets.host.expected import Expected
from alignment_assets.host.proposed import proposed
from alignment_assets.recipe.wordings import read_wordings
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.opening import database_of
from alignment_assets.warehouse.query import fetch, isolate, opened_to_ask

COLUMNS = ("prompt_id", "annotator", "label", "submitted_at")
LABELS = ("0", "1", "2", "3")
_NEVER = datetime.min.replace(tzinfo=UTC)


class LabelsError(Expected):
    """A file that is no export of labels; the message says why and what to do."""


@dataclass(frozen=True)
class Submission:
    """What a person said of a prompt.

    Attributes:
        prompt_id: the prompt, as its task names it.
        annotator: the person.
        label: what was chosen; empty if nothing was.
        submitted_at: when; the last one counts.
    """

    prompt_id: str
    annotator: str
    label: str
    submitted_at: datetime


def sample(number: int, by: str, recipe: str | None, output: Path | None) -> None:
    """Do what the command says; its words are in `labels_app`."""
    run = run_to_read(recipe)
    database = database_of(run.database_settings)
    question = sql_files.read_sql("analysis", "label_sample")
    given = {"seed": run.recipe.seed, "labels": number, "stratum": by}
    with opened_to_ask(database) as connection:
        isolate(connection, database.members)
        rows = fetch(connection, question, given).records
    if not rows:
        raise Expected(f"no prompt is to be graded; `{proposed('status')}` says what is missing")
    texts = {row["wording_id"]: row["text"] for row in read_wordings(run.recipe)}
    wording = run.recipe.controversy.wording
    # A grader may be told all in its question, which has a place for the conversation.
    rubric = texts[f"{wording}_system"] or texts[f"{wording}_question"].replace("{prompt}", "…")
    text = json.dumps([_task(row, rubric) for row in rows], ensure_ascii=False, indent=1) + "\n"
    if output is None:
        console.file.write(text)
    else:
        with written(output) as file:
            file.write(text.encode())
        strata = len({row["stratum"] for row in rows})
        say(f"{output}: {len(rows):,} tasks of {strata:,} {by}{'s' if strata > 1 else ''}")
    if len(rows) < number:
        tell(f"there are {len(rows):,} prompts to grade, fewer than {number:,}")


def _task(row: Mapping[str, Any], rubric: str) -> dict[str, Any]:
    told = {name: row[name] for name in ("dataset", "source", "language") if row[name] is not None}
    data = {"prompt_id": str(row["prompt_id"]), "instruction": rubric}
    return {"data": {**data, "conversation": row["messages"], **told}}


def import_labels(files: Sequence[Path], output: Path) -> None:
    """Do what the command says; its words are in `labels_app`."""
    submissions: list[Submission] = []
    skipped = 0
    for path in files:
        for found in _submissions(path):
            if found is None:
                skipped += 1
            else:
                submissions.append(found)
    if not submissions:
        raise LabelsError(f"{', '.join(map(str, files))}: nobody has labelled a task; export again")
    last: dict[tuple[str, str, int], Submission] = {}
    for number, one in enumerate(sorted(submissions, key=lambda one: one.submitted_at)):
        # Without a name each is a person of its own.
        last[one.prompt_id, one.annotator, 0 if one.annotator else number] = one
    counted = [last[key] for key in sorted(last)]
    table = io.StringIO(newline="")
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(COLUMNS)
    for one in counted:
        at = "" if one.submitted_at == _NEVER else one.submitted_at.isoformat()
        rows.writerow([one.prompt_id, one.annotator, one.label, at])
    with written(output) as file:
        file.write(table.getvalue().encode("utf-8", "replace"))
    prompts, people = ({getattr(one, name) for one in counted} for name in COLUMNS[:2])
    say(f"{output}: {len(counted):,} labels of {len(prompts):,} prompts by {len(people):,} people")
    unlabelled = sum(one.label not in LABELS for one in counted)
    nameless = sum(_as_id(one.prompt_id) is None for one in counted)
    for number, what in (
        (len(submissions) - len(counted), "earlier submissions of the same person do not count"),
        (skipped, "were skipped or never submitted, and do not count"),
        (unlabelled, "say no grade from 0 to 3: `human_labels` tells each with its reason"),
        (nameless, "name no prompt by its id: `human_labels` tells each with its reason"),
    ):
        if number:
            tell(f"{number:,} {what}")
    say(
        f"In the recipe: human_labels: {{dataset: {json.dumps(str(output.absolute()))}, columns: "
        f"{{prompt_id: prompt_id, annotator: annotator, label: label}}}}"
    )


def _submissions(path: Path) -> Iterator[Submission | None]:
    """Yield what people submitted, None for what was skipped."""
    try:
        tasks = json.loads(path.read_bytes())
    except OSError as error:
        raise LabelsError(f"{path}: {error.strerror}; name an export of Label Studio") from error
    except (RecursionError, ValueError) as error:
        raise LabelsError(f"{path} is no JSON ({error}); export the project as JSON") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise LabelsError(f"{path} is no list of tasks; export the project as JSON")
    for number, task in enumerate(tasks):
        data = task.get("data")
        prompt_id = data.get("prompt_id") if isinstance(data, dict) else None
        if not isinstance(prompt_id, str) or not isinstance(task.get("annotations"), list):
            raise LabelsError(
                f"{path}: task {number} has no data.prompt_id or no annotations: it is no task of "
                f"`labels sample`, or was exported otherwise than as JSON (JSON_MIN lacks both)"
            )
        for annotation in task["annotations"]:
            if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
                yield Submission(
                    _as_id(prompt_id) or prompt_id,
                    _annotator(annotation),
                    _label(annotation),
                    _time(annotation),
                )
            else:
                yield None


def _annotator(annotation: Mapping[str, Any]) -> str:
    """Return who it was: a number, an address, or what the server says of the person."""
    person = annotation.get("completed_by")
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return "" if person is None else str(person).strip()


def _as_id(written: str) -> str | None:
    """Return a prompt's id in the one form that tables have; None if it is none."""
    try:
        return str(uuid.UUID(written))
    except ValueError:
        return None


def _label(annotation: Mapping[str, Any]) -> str:
    """Return the first choice that is a grade; else whatever was chosen first."""
    chosen, results = [], annotation.get("result")
    for result in results if isinstance(results, list) else ():
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict):
            choices = value.get("choices") or [value.get("rating"), value.get("number")]
            listed = choices if isinstance(choices, list) else [choices]
            # A rating of 2.0 is a 2.
            chosen += [str(one).strip().removesuffix(".0") for one in listed if one is not None]
    grades = [one for one in chosen if one in LABELS]
    return (grades or chosen or [""])[0]


def _time(annotation: Mapping[str, Any]) -> datetime:
    for name in ("updated_at", "created_at"):
        try:
            found = datetime.fromisoformat(str(annotation.get(name)))
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return _NEVER
