"""What becomes of the first rows of each dataset, told before a run stumbles over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from alignment_assets.host.expected import EXPECTED, told
from alignment_assets.inference.backend import Finding
from alignment_assets.recipe.datasets import DatasetReference, PromptSource
from alignment_assets.recipe.run import Run
from alignment_assets.sources import hints, readers
from alignment_assets.sources.consent import Evidence
from alignment_assets.sources.files import Row
from alignment_assets.sources.rows import human_label_row, persona_row, source_prompt_row

# So many rows of a dataset are read.
FIRST_ROWS = 100


def look_at_datasets(run: Run) -> Iterator[Finding]:
    """Yield what becomes of the first rows of each dataset; nothing is recorded."""
    recipe = run.recipe
    for source in recipe.prompts:
        row_of = partial(source_prompt_row, source, placeholders=recipe.placeholders)
        yield _first_rows(run, f"prompts.{source.name}", source, row_of)
    row_of = partial(persona_row, recipe.personas, placeholders=recipe.placeholders)
    yield _first_rows(run, "personas", recipe.personas, row_of)
    if recipe.human_labels:
        yield _first_rows(run, "human_labels", recipe.human_labels, human_label_row)
    yield from _evidence(run)


def _first_rows(
    run: Run,
    place: str,
    reference: DatasetReference,
    row_of: Callable[[int, Row], Mapping[str, Any]],
) -> Finding:
    try:
        commit = readers.dataset_commit(reference, run.revisions, keep=False)
        read = list(islice(readers.read_rows(place, reference, run.recipe, commit), FIRST_ROWS))
        made = [row_of(number, row) for number, row in enumerate(read)]
    except EXPECTED as error:
        return Finding(place, "problem", told(error))
    reasons = Counter(row["malformed_reason"] for row in made if row["malformed_reason"])
    lost = reasons.total()
    said = ", ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
    if lost == len(read) and isinstance(reference, PromptSource):
        first = readers.first_row(reference, run.recipe, commit)
        return Finding(place, "problem", hints.unreadable(reference, lost, said, first))
    text = f"{reference.dataset}: of its first {len(read)} rows {len(read) - lost} can be used"
    allowed = run.recipe.limits.allowed("malformed", place.removeprefix("prompts."))
    text = f"{text}; malformed: {said}" if lost else text
    if lost == len(read) and allowed < 1:
        return Finding(place, "problem", f"{text}; look at {place}.columns in the recipe")
    return Finding(place, "warning" if lost / len(read) > allowed else "ok", text)


def _evidence(run: Run) -> Iterator[Finding]:
    rule = run.recipe.consent
    if rule.robots or rule.blocked_domains:
        try:
            found = Evidence.of(run.recipe, [])
        except EXPECTED as error:
            yield Finding("consent", "problem", told(error))
        else:
            domains = sum(len(listed.domains) for listed in found.blocked_domains)
            yield Finding("consent", "ok", f"robots.txt can be read; {domains:,} blocked domains")
