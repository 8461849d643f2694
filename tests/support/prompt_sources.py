"""Hand-written prompt sources, and a grader that does what prompts say, for tests of the rules."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment_assets.inference.types import Answer, Request
from alignment_assets.recipe.load import load_recipe
from tests.conftest import ANY_LOSS, Graph, changed_recipe
from tests.support.fakes import FakeInference

READ = "key:source_prompts or key:origin_consent"
RULED = "key:prompt_exclusions or key:licensed_prompts"
GRADED = "key:wordings or key:controversy_labels or key:alignment_prompts"


class StatedGrader(FakeInference):
    """Grades a prompt with the number that it states as ``grade N``; 0 without one."""

    def _answer(self, request: Request) -> Answer:
        if request.task != "grade":
            return super()._answer(request)
        stated = re.search(r"grade (\d)", request.messages[-1]["content"])
        grade = {"reasoning": "stated", "classification": stated.group(1) if stated else "0"}
        return Answer(request.request_id, request.task, "stop", text=json.dumps(grade))


def row(text: Any, name: str, **columns: Any) -> dict[str, Any]:
    """A row of the mix whose prompt is one user message."""
    chosen = [{"role": "user", "content": text}, {"role": "assistant", "content": "answer"}]
    return {"chosen": chosen, "source": None, "id": name, "url": None, **columns}


def write_lines(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def entry(name: str, recipe: str = "demo") -> dict[str, Any]:
    """Return an entry of ``prompts`` of a recipe that comes along, as its file says it.

    But for the language: rows that are written by hand say none.
    """
    (found,) = (one for one in load_recipe(recipe).prompts if one.name == name)
    said = found.model_dump(mode="json")
    said["columns"].pop("language", None)
    return said


def reading(**datasets: str) -> list[dict[str, Any]]:
    """Return entries of the demo's ``prompts``, each with another file."""
    return [{**entry(name), "dataset": dataset} for name, dataset in datasets.items()]


def on_sources(
    graph: Graph,
    folder: Path,
    mix: list[dict[str, Any]],
    *,
    polyglot: tuple[str, ...] = (),
    prism: tuple[tuple[str, str], ...] = (),
    changes: dict[str, Any] | None = None,
) -> Graph:
    """The graph on these sources; a source that is left empty gets one row of its own."""
    additions = [{"prompt": text} for text in polyglot or ["a polyglot prompt"]]
    opened = [
        {"opening_prompt": text, "conversation_id": f"c{number}", "conversation_type": kind}
        for number, (text, kind) in enumerate(prism or [("a PRISM prompt", "values guided")])
    ]
    prompts = reading(
        preference_mix=write_lines(folder / "mix.jsonl", mix),
        polyglot_toxicity_prompts=write_lines(folder / "p.jsonl", additions),
        prism_prompts=write_lines(folder / "prism.jsonl", opened),
    )
    inference = StatedGrader(log=graph.inference.log)
    recipe = changed_recipe({"prompts": prompts, **copy.deepcopy(ANY_LOSS), **(changes or {})})
    return replace(graph, recipe=recipe, inference=inference)
