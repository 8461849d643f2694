"""The whole graph once more in plain Python, from sources and answers, to hold a database against.

Nothing here runs the product's SQL or rules. Each table is recomputed from what stands in the
tables that it is made from; what an engine said is looked up in the log of a
`tests.model.engine.RememberingInference` by exactly what should have been asked. Hashes that stand
in the tables are recomputed, or only tell which of several known texts is meant.

What has to hold after a publish: the published rows are those that follow from what stands
upstream and the recipe; and what stands upstream of them fits together, back to
``alignment_prompts`` for completions, rewards and what a policy's assets make of them. A table
that nobody has remade since the recipe changed is held to the recipe it was made by: it may be
old, but what is built on it may not mix old and new.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from typing import Any

from alignment_assets.recipe.model import Recipe
from alignment_assets.warehouse.database import Database
from tests.model import reading
from tests.model.engine import AskedLog, asked_hash, fingerprint_of
from tests.model.reading import Row, filled, sha256, transcript, with_system
from tests.support.fakes import row_tokens
from tests.support.reference_selection import (
    Candidate,
    Placed,
    Rules,
    by_score,
    content_hash,
    exclusion_reason,
    place,
    rank,
    select,
)
from tests.support.texts import plain_normal_hash

Place = tuple[str, str | None]
POLICY_TABLES = (
    "judge_comparisons",
    "judge_rankings",
    "policy_tokens",
    "quantile_rewards",
    "selected_pairs",
    "dpo_pairs",
    "qrpo_samples",
    "reference_logprobs",
    "selection_exclusions",
)
MODEL_TABLES = ("completion_requests", "completions", "rewards")
PROMPT_TABLES = (
    "source_prompts",
    "origin_consent",
    "prompt_exclusions",
    "licensed_prompts",
    "controversy_labels",
    "alignment_prompts",
    "personas",
    "wordings",
)
TABLES = (*PROMPT_TABLES, *MODEL_TABLES, *POLICY_TABLES)
PARTITION_COLUMNS = {
    "source_prompts": "dataset",
    **dict.fromkeys(MODEL_TABLES, "model"),
    **dict.fromkeys(POLICY_TABLES, "policy"),
}
# What each policy table is made from, beside the models' tables and the prompts.
POLICY_INPUTS = {
    "judge_comparisons": (),
    "judge_rankings": ("judge_comparisons",),
    "policy_tokens": (),
    "quantile_rewards": ("judge_comparisons", "judge_rankings", "policy_tokens"),
    "selected_pairs": ("judge_comparisons", "judge_rankings", "quantile_rewards"),
    "dpo_pairs": (
        *("judge_comparisons", "judge_rankings", "policy_tokens", "quantile_rewards"),
        "selected_pairs",
    ),
    "qrpo_samples": (
        *("judge_comparisons", "judge_rankings", "policy_tokens", "quantile_rewards"),
        *("selected_pairs", "dpo_pairs"),
    ),
    "reference_logprobs": ("policy_tokens", "quantile_rewards", "selected_pairs"),
    "selection_exclusions": (
        *("judge_comparisons", "judge_rankings", "quantile_rewards", "selected_pairs"),
    ),
}


# The checker can also be held against a product without them, whose ids are whole hashes.
NEWER_COLUMNS = {"prompt_hash", "persona_hash", "sample_index"}


@dataclass(frozen=True, order=True)
class Finding:
    """Something that does not fit.

    Attributes:
        published: the table, with its partition, that was published just now.
        where: the table, with its partition, whose rows do not fit.
        what: what is wrong, without ids, so that the same fault has the same words.
        example: one of the rows.
    """

    published: str
    where: str
    what: str
    example: str = field(compare=False, default="")

    def __str__(self) -> str:
        return f"published {self.published}: {self.where}: {self.what} ({self.example})"


def same_id(value: Any) -> str:
    """Return an id in one form, whether it is kept as the hash's text or as a UUID."""
    return str(value).replace("-", "")[:32]


def whole_hash(row: Row, kind: str) -> str:
    """Return the hash that draws go by: of a row with its id alone, that is the whole hash."""
    return str(row.get(f"{kind}_hash") or row[f"{kind}_id"])


def completion_hash(prompt: Row, row: Row) -> str:
    """Return the hash of what names a completion of a prompt."""
    parts = (row["model"], row["variant"], row["sample_index"])
    return content_hash(whole_hash(prompt, "prompt"), *parts)


def label_of(place: Place) -> str:
    table, partition = place
    return f"{table}[{partition}]" if partition else table


@dataclass
class History:
    """What was, so that an old row can be told from a wrong one.

    Attributes:
        made: by which recipe a table or partition was made; several, if a kill left it open.
        wordings: every text that each wording had in the table ``wordings``, by its id.
        fingerprints: every fingerprint that each model had, and by which name.
        personas: every persona by its id.
    """

    made: dict[Place, tuple[Recipe, ...]] = field(default_factory=dict)
    wordings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    fingerprints: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    personas: dict[str, str] = field(default_factory=dict)

    def saw(self, recipe: Recipe) -> None:
        """Take note of a recipe and of what its files say now."""
        for model in recipe.models:
            _add(self.fingerprints[model], fingerprint_of(recipe, model))
        for wording, text in reading.wording_texts(recipe).items():
            _add(self.wordings[wording], text)
        self.personas.update(reading.personas(recipe))


def _add(known: list[str], value: str) -> None:
    if value not in known:
        known.append(value)


def read_tables(database: Database) -> dict[str, list[Row]]:
    with database.read() as connection:
        return {
            table: connection.execute(f"FROM {table}").to_arrow_table().to_pylist()
            for table in TABLES
        }


def _is_of(row: Row, subsets: Iterable[str]) -> list[str]:
    """Return the sub-collections that a row of a source belongs to."""
    place = f" {row['source'] or ''} {row['upstream_id'] or ''} ".lower()
    return [
        subset
        for subset in subsets
        if re.search(rf"[^a-z0-9]{re.escape(subset.lower())}[^a-z0-9]", place)
    ]


def _ruled(row: Row, recipe: Recipe) -> tuple[str, str | None]:
    """Return what of the recipe decides about a row's consent, and how."""
    consent = recipe.consent
    of_subsets = {consent.subsets[name].decision for name in _is_of(row, consent.subsets)}
    if of_subsets:
        return "subset_rule", max(of_subsets)  # "refused" comes after "admitted"
    for name in (row["source"], row["dataset"]):
        if name in consent.sources:
            return "source_rule", consent.sources[name].decision
    return "source_rule", consent.unknown_origins


@dataclass
class Checker:
    """Holds the tables of a database against what follows from sources and answers.

    Attributes:
        tables: all rows.
        recipe: as it is now.
        strict: whether scores must also be those of the wordings and scorers that stand now. If
            not, it is enough that all that a policy's pairs compare were asked alike.
    """

    tables: Mapping[str, list[Row]]
    recipe: Recipe
    history: History
    log: AskedLog
    strict: bool = False

    def check(self, published: Place) -> list[Finding]:
        """Return what does not fit in a table that was published just now and upstream of it."""
        table, partition = published
        found: list[Finding] = []

        def note(place: Place, problems: Iterable[tuple[str, str]]) -> None:
            seen: dict[str, str] = {}
            for what, example in problems:
                seen.setdefault(what, example)
            label = label_of(published)
            found.extend(Finding(label, label_of(place), what, text) for what, text in seen.items())

        note(published, self._problems(published, self.recipe))
        upstream: list[Place] = []
        if table in POLICY_TABLES:
            models = self._members(self.recipe, partition)
            upstream = [(name, model) for name in MODEL_TABLES for model in models]
            upstream += [(name, partition) for name in POLICY_INPUTS[table]]
            note(published, self._mixed_scorers(models))
        elif table == "alignment_prompts":
            upstream = [("controversy_labels", None)]
        elif table == "licensed_prompts":
            upstream = [("prompt_exclusions", None), ("origin_consent", None)]
        elif table == "prompt_exclusions":
            upstream = [("origin_consent", None)]
        for above in upstream:
            note(above, self._upstream_problems(above))
        return found

    def differences(self, place: Place) -> list[tuple[str, str]]:
        """Return in what a table would be another if it were made now, by the recipe as it is."""
        return list(self._problems(place, self.recipe))

    def leftovers(self) -> list[str]:
        """Return what has rows of models, policies or sources that the recipe no longer has."""
        recipe = self.recipe
        known = {
            "dataset": {source.name for source in recipe.prompts},
            "model": {*recipe.completions.models, *recipe.completions.policies},
            "policy": set(recipe.completions.policies),
        }
        return sorted(
            {
                label_of((table, row[column]))
                for table, column in PARTITION_COLUMNS.items()
                for row in self.tables[table]
                if row[column] not in known[column]
            }
        )

    # --- what stands, and by what it was made --------------------------------------------------

    def _upstream_problems(self, place: Place) -> list[tuple[str, str]]:
        """Hold a table to the recipe that it was made by, or to one of those that it may be."""
        made = self.history.made.get(place, ())
        if not made:
            return [] if not self._rows(place) else [("rows that nobody made", "")]
        if place[0] == "origin_consent":
            # What pages said when it was made is what counts, whatever their files say since.
            urls = {row["origin_url"] for row in self._source_rows(self.recipe)} - {None}
            missing = urls - {row["origin_url"] for row in self._rows(place)}
            return [("pages that nobody looked at", min(missing))] if missing else []
        problems: list[tuple[str, str]] = []
        for recipe in made:
            problems = list(self._problems(place, recipe, upstream=True))
            if not problems:
                break
        return problems

    def _rows(self, place: Place) -> list[Row]:
        table, partition = place
        if partition is None:
            return self.tables[table]
        column = PARTITION_COLUMNS[table]
        return [row for row in self.tables[table] if row[column] == partition]

    def _problems(
        self, place: Place, recipe: Recipe, upstream: bool = False
    ) -> Iterator[tuple[str, str]]:
        table, partition = place
        rows = self._rows(place)
        if table in ("completion_requests", "completions", "rewards") or table in (
            "controversy_labels",
            "judge_comparisons",
            "reference_logprobs",
        ):
            yield from getattr(self, f"_{table}")(rows, recipe, partition, upstream)
        else:
            key, expected = getattr(self, f"_{table}")(recipe, partition)
            if table == "personas":  # what is no usable one stays, with the reason
                rows = [row for row in rows if row["malformed_reason"] is None]
            yield from _compared(rows, expected, key)

    def _members(self, recipe: Recipe, policy: str | None) -> list[str]:
        return [*recipe.completions.models, *([policy] if policy else [])]

    @cached_property
    def _prompts(self) -> dict[str, Row]:
        return {same_id(row["prompt_id"]): row for row in self.tables["alignment_prompts"]}

    @cached_property
    def _completions_by_id(self) -> dict[str, Row]:
        return {same_id(row["completion_id"]): row for row in self.tables["completions"]}

    @cached_property
    def _wordings_now(self) -> dict[str, str]:
        return {row["wording_id"]: row["text"] for row in self.tables["wordings"]}

    def _texts(self, wording: str, upstream: bool) -> list[str]:
        """Return the texts that a wording may have been asked with, the present one first."""
        now = [self._wordings_now[wording]] if wording in self._wordings_now else []
        if not upstream or self.strict:
            return now
        return [*now, *(text for text in self.history.wordings[wording] if text not in now)]

    def _fingerprints(self, model: str, recipe: Recipe, upstream: bool) -> list[str]:
        own = [fingerprint_of(recipe, model)] if model in recipe.models else []
        if not upstream:
            return own
        return [*own, *(known for known in self.history.fingerprints[model] if known not in own)]

    # --- stage one: prompts --------------------------------------------------------------------

    def _source_prompts(self, recipe: Recipe, partition: str | None) -> tuple[Any, list[Row]]:
        (source,) = (source for source in recipe.prompts if source.name == partition)
        rows = reading.source_rows(source, recipe)
        return ("dataset", "row_number"), [
            {name: value for name, value in row.items() if not name.startswith("prompt_") or value}
            for row in rows
        ]

    def _personas(self, recipe: Recipe, _: str | None) -> tuple[Any, list[Row]]:
        return ("persona_id",), [
            {"persona_id": name, "persona_hash": name, "persona": text}
            for name, text in reading.personas(recipe).items()
        ]

    def _wordings(self, recipe: Recipe, _: str | None) -> tuple[Any, list[Row]]:
        # Which of the folder's wordings are needed is the product's to say; that the scorers'
        # and the variants' are among them shows where they are asked with.
        there = {row["wording_id"] for row in self.tables["wordings"]}
        texts = reading.wording_texts(recipe)
        return ("wording_id",), [
            {"wording_id": name, "text": texts.get(name), "wording_hash": sha256(texts[name])}
            for name in sorted(there & texts.keys())
        ]

    def _origin_consent(self, recipe: Recipe, _: str | None) -> tuple[Any, list[Row]]:
        urls = {row["origin_url"] for row in self.tables["source_prompts"] if row["origin_url"]}
        return ("origin_url",), [reading.consent_row(url, recipe) for url in sorted(urls)]

    def _prompt_exclusions(self, recipe: Recipe, _: str | None) -> tuple[Any, list[Row]]:
        expected, admitted = [], []
        first: dict[tuple[str, str], Row] = {}
        for row in self._source_rows(recipe):
            rule = self._rule(row, recipe)
            if rule is None:
                known = first.setdefault((row["dataset"], same_id(row["prompt_id"])), row)
                rule = "repeat" if known is not row else None
            if rule is None:
                admitted.append(row)
            else:
                expected.append((row, rule))
        if recipe.limit is not None:
            hashes = {whole_hash(row, "prompt") for row in admitted}
            order = sorted(
                hashes, key=lambda name: (content_hash(recipe.seed, "limit", name), name)
            )
            taken = set(order[: recipe.limit])
            expected += [
                (row, "limit") for row in admitted if whole_hash(row, "prompt") not in taken
            ]
        return ("dataset", "row_number"), [
            {
                **{name: row[name] for name in ("dataset", "row_number", "prompt_id")},
                "rule": rule,
            }
            for row, rule in expected
        ]

    def _source_rows(self, recipe: Recipe) -> list[Row]:
        names = [source.name for source in recipe.prompts]
        rows = [row for row in self.tables["source_prompts"] if row["dataset"] in names]
        return sorted(rows, key=lambda row: (names.index(row["dataset"]), row["row_number"]))

    def _rule(self, row: Row, recipe: Recipe) -> str | None:
        """Return the rule that drops a row of the sources by itself."""
        if row["messages"] is None:
            return "malformed"
        licence = recipe.licence
        if _is_of(row, licence.excluded_subsets) or row["source"] in licence.excluded_sources:
            return "licence"
        status = self._consent_status.get(row["origin_url"])
        if status == "blocked" or (status != "admitted" and _ruled(row, recipe)[1] != "admitted"):
            return "consent"
        (source,) = (source for source in recipe.prompts if source.name == row["dataset"])
        extra = json.loads(row["extra"]) if row["extra"] else {}
        if any({**extra, **row}.get(name) not in kept for name, kept in source.keep.items()):
            return "keep"
        if sum(len(m["content"]) for m in row["messages"]) > recipe.max_prompt_characters:
            return "too_long"
        return None

    @cached_property
    def _consent_status(self) -> dict[str, str]:
        return {row["origin_url"]: row["status"] for row in self.tables["origin_consent"]}

    def _licensed_prompts(self, recipe: Recipe, _: str | None) -> tuple[Any, list[Row]]:
        dropped = {(row["dataset"], row["row_number"]) for row in self.tables["prompt_exclusions"]}
        tracks = {source.name: source.track for source in recipe.prompts}
        kept = ("dataset", "row_number", "prompt_id", "messages", "source", "upstream_id")
        return ("dataset", "row_number"), [
            {
                **{name: row[name] for name in kept},
                "prompt_hash": whole_hash(row, "prompt"),
                "messages_hash": reading.messages_hash(row["messages"]),
                "track": tracks[row["dataset"]],
                "dataset_order": list(tracks).index(row["dataset"]) + 1,
                "consent_basis": "robots_txt"
                if self._consent_status.get(row["origin_url"]) == "admitted"
                else _ruled(row, recipe)[0],
            }
            for row in self._source_rows(recipe)
            if (row["dataset"], row["row_number"]) not in dropped and row["messages"]
        ]

    # --- stage two: labels ---------------------------------------------------------------------

    def _controversy_labels(
        self, rows: list[Row], recipe: Recipe, _: str | None, upstream: bool
    ) -> Iterator[tuple[str, str]]:
        graded: dict[str, Row] = {}
        for row in sorted(self.tables["licensed_prompts"], key=lambda row: row["dataset_order"]):
            if row["track"] == "graded":
                graded.setdefault(same_id(row["prompt_id"]), row)
        yield from _same_keys(rows, graded, "prompt_id", extra_is_fine=upstream)
        grader = recipe.controversy
        schema = {
            "type": "object",
            "properties": {
                "reasoning": {"type": "string", "maxLength": grader.reasoning_characters},
                "classification": {"type": "string", "enum": ["0", "1", "2", "3"]},
            },
            "required": ["reasoning", "classification"],
            "additionalProperties": False,
        }
        sampling = grader.sampling.model_dump()
        for row in rows:
            prompt = graded.get(same_id(row["prompt_id"]))
            if prompt is None:
                continue
            answers = [
                answer
                for system in self._texts("controversy_system", upstream)
                for question in self._texts("controversy_question", upstream)
                for fingerprint in self._fingerprints(grader.model, recipe, upstream)
                for answer in self.log.to(
                    asked_hash(
                        "generate",
                        "grade",
                        fingerprint,
                        [
                            {"role": "system", "content": system},
                            {
                                "role": "user",
                                "content": filled(question, transcript(prompt["messages"])),
                            },
                        ],
                        sampling,
                        None,
                        json.dumps(schema),
                    )
                )
            ]
            if not any(
                answer["text"] == row["raw_answer"]
                and answer["finish_reason"] == row["finish_reason"]
                for answer in answers
            ):
                yield "grades that are no answer to what is asked now", _shown(row, "raw_answer")
            enough = row["attempts"] == grader.attempts
            if row["attempts"] > grader.attempts or (row["grade"] is None and not enough):
                yield "grades of another number of attempts", _shown(row, "attempts")
            grade = _grade(row["raw_answer"])
            controversial = None if grade is None else grade >= grader.threshold
            if (row["grade"], row["is_controversial"]) != (grade, controversial):
                yield "grades other than what was answered", _shown(row, "grade")

    def _alignment_prompts(self, recipe: Recipe, _: str | None) -> tuple[Any, list[Row]]:
        labels = {
            same_id(row["prompt_id"]): row["is_controversial"]
            for row in self.tables["controversy_labels"]
        }
        by_prompt: dict[str, list[tuple[Row, bool]]] = defaultdict(list)
        for row in sorted(self.tables["licensed_prompts"], key=lambda row: row["dataset_order"]):
            prompt_id = same_id(row["prompt_id"])
            controversial = row["track"] == "controversial"
            if row["track"] == "graded":
                if (label := labels.get(prompt_id)) is None:
                    continue
                controversial = label
            by_prompt[prompt_id].append((row, controversial))
        return ("prompt_id",), [
            {
                "prompt_id": rows[0][0]["prompt_id"],
                "prompt_hash": whole_hash(rows[0][0], "prompt"),
                "track": "controversial" if any(yes for _, yes in rows) else "standard",
                "messages": rows[0][0]["messages"],
                "messages_hash": reading.messages_hash(rows[0][0]["messages"]),
                "dataset": rows[0][0]["dataset"],
                "datasets": [row["dataset"] for row, _ in rows],
            }
            for rows in by_prompt.values()
        ]

    # --- stage three: completions --------------------------------------------------------------

    def _completion_requests(
        self, rows: list[Row], recipe: Recipe, model: str, upstream: bool
    ) -> Iterator[tuple[str, str]]:
        asked, policy = recipe.completions, model in recipe.completions.policies
        variants = {
            "standard": [
                *asked.standard_variants,
                *(["charter"] if model in asked.standard_charter_models else []),
            ],
            "controversial": list(asked.controversial_variants),
        }
        expected = {
            (prompt_id, variant, number): prompt
            for prompt_id, prompt in self._prompts.items()
            for variant in (["reference"] if policy else variants[prompt["track"]])
            for number in range(asked.reference_completions if variant == "reference" else 1)
        }
        found = {
            (same_id(row["prompt_id"]), row["variant"], row["sample_index"]): row for row in rows
        }
        if len(found) < len(rows):
            yield "a request twice", ""
        yield from _strangers(rows, self._prompts)
        if missing := expected.keys() - found.keys():
            yield "prompts or variants that are not asked", str(sorted(missing)[0])
        if extra := found.keys() - expected.keys():
            yield "prompts or variants that are asked too much", str(sorted(extra)[0])
        own = recipe.models[model]
        sampling = asked.sampling.model_dump()
        for name in ("temperature", "max_tokens"):
            if getattr(own, name) is not None:
                sampling[name] = getattr(own, name)
        fingerprint = fingerprint_of(recipe, model)
        for key in expected.keys() & found.keys():
            row, prompt = found[key], expected[key]
            if row["track"] != prompt["track"]:
                yield "requests for the other track", _shown(row, "track")
            if json.loads(row["sampling"]) != sampling:
                yield "requests with other sampling", row["sampling"]
            if same_id(row["model_fingerprint"]) != same_id(fingerprint):
                yield "requests of other weights or templates", row["model_fingerprint"]
            name = completion_hash(prompt, row)
            if same_id(row["completion_id"]) != same_id(name):
                yield "another completion_id than that of the row", str(row["completion_id"])
            if not upstream:
                yield from self._drawn(row, name, recipe)

    def _drawn(self, row: Row, name: str, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Say whether a new request has the wording and persona that fall to it by its hash."""
        variant = row["variant"]
        wording = {"persona": "persona", "charter": "charter_persona"}.get(variant)
        principle = persona = None
        if variant == "principle":
            principles: dict[str, int] = defaultdict(int)
            for known in self.tables["wordings"]:
                if known["kind"] == "principle":
                    principles[known["principle"]] += 1
            number = _index(recipe.seed, "principle", name, len(principles))
            principle = sorted(principles)[number]
            number = _index(recipe.seed, "wording", name, principles[principle])
            wording = f"principle/{principle}/{number:02d}"
        if variant == "persona":
            people = sorted({whole_hash(known, "persona") for known in self.tables["personas"]})
            persona = people[_index(recipe.seed, "persona", name, len(people))]
        if (row["principle"], row["wording_id"]) != (principle, wording):
            yield "another wording than the one drawn", _shown(row, "wording_id")
        if same_id(row["persona_id"]) != same_id(persona):
            yield "another persona than the one drawn", _shown(row, "persona_id")
        text = None if wording is None else self._wordings_now.get(wording)
        if same_id(row["wording_hash"]) != same_id(None if text is None else sha256(text)):
            yield "another text of the wording than the present one", _shown(row, "wording_id")

    def _completions(
        self, rows: list[Row], recipe: Recipe, model: str, upstream: bool
    ) -> Iterator[tuple[str, str]]:
        requests = {
            same_id(row["completion_id"]): row
            for row in self.tables["completion_requests"]
            if row["model"] == model
        }
        yield from _same_keys(rows, requests, "completion_id")
        yield from _strangers(rows, self._prompts)
        for row in rows:
            request = requests.get(same_id(row["completion_id"]))
            prompt = self._prompts.get(same_id(row["prompt_id"]))
            if request is None or prompt is None:
                continue
            if same_id(row["request_id"]) != same_id(request["request_id"]):
                yield "completions of another request than the present one", _shown(row, "variant")
            answers = [
                answer
                for system in self._systems(request)
                for fingerprint in self._named(model, recipe, request["model_fingerprint"])
                for answer in self.log.to(
                    asked_hash(
                        "generate",
                        "generate",
                        fingerprint,
                        with_system(system, prompt["messages"]),
                        json.loads(request["sampling"]),
                    )
                )
            ]
            kept = ("text", "finish_reason", "error", "prompt_tokens", "completion_tokens")
            if not any(all(answer[name] == row[name] for name in kept) for answer in answers):
                yield (
                    "completions that are no answer to their prompt, wording, persona and settings",
                    _shown(row, "variant", "text"),
                )

    def _systems(self, request: Row) -> list[str | None]:
        """Return the system prompt that a request names; none if there is no such text."""
        if request["wording_id"] is None:
            return [None]
        named = same_id(request["wording_hash"])
        texts = [
            text
            for text in self._texts(request["wording_id"], upstream=True)
            if same_id(sha256(text)) == named
        ]
        if request["variant"] != "persona":
            return list(texts)
        people = {same_id(name): text for name, text in self.history.personas.items()}
        persona = people.get(same_id(request["persona_id"]))
        return [] if persona is None else [filled(text, persona) for text in texts]

    def _named(self, model: str, recipe: Recipe, fingerprint: str) -> list[str]:
        return [
            known
            for known in self._fingerprints(model, recipe, upstream=True)
            if same_id(known) == same_id(fingerprint)
        ]

    # --- stage four: rewards -------------------------------------------------------------------

    def _rewards(
        self, rows: list[Row], recipe: Recipe, model: str, upstream: bool
    ) -> Iterator[tuple[str, str]]:
        completions = {
            same_id(row["completion_id"]): row
            for row in self.tables["completions"]
            if row["model"] == model
        }
        yield from _same_keys(rows, completions, "completion_id")
        yield from _strangers(rows, self._prompts)
        for row in rows:
            completion = completions.get(same_id(row["completion_id"]))
            prompt = self._prompts.get(same_id(row["prompt_id"]))
            if completion is None or prompt is None:
                continue
            if row.get("sample_index", completion["sample_index"]) != completion["sample_index"]:
                yield "rewards of another sample", _shown(row, "sample_index")
            if row["track"] != prompt["track"]:
                yield "rewards of the other track", _shown(row, "track")
                continue
            scorer = recipe.rewards.scorers[row["track"]]
            if (row["scorer"], row["task"]) != (scorer.model, scorer.task):
                yield "rewards of another scorer", _shown(row, "scorer", "task")
            if completion["text"] is None:
                if row["reward"] is not None:
                    yield "rewards of no text", _shown(row, "reward")
                continue
            ways = self._asked_as(row, completion, prompt, recipe, upstream)
            if not ways:
                yield (
                    "rewards that are no answer about their prompt, text and rubric",
                    _shown(row, "variant", "reward"),
                )
            elif row.get("scorer_fingerprint", min(ways)[2]) not in {way[2] for way in ways}:
                yield "rewards of another fingerprint", _shown(row, "variant", "scorer")

    def _asked_as(
        self, row: Row, completion: Row, prompt: Row, recipe: Recipe, upstream: bool
    ) -> set[tuple[str, ...]]:
        """Return by which scorers, rubrics and questions a reward can have come about."""
        scorer, found = recipe.rewards.scorers[row["track"]], set()
        for fingerprint in self._fingerprints(scorer.model, recipe, upstream and not self.strict):
            if scorer.task == "classify":
                reply = {"role": "assistant", "content": completion["text"]}
                asked = asked_hash(
                    "classify", "classify", fingerprint, [*prompt["messages"], reply]
                )
                if any(_same(row["reward"], answer["value"]) for answer in self.log.to(asked)):
                    found.add((scorer.model, scorer.task, fingerprint))
                continue
            labels = [str(number) for number in range(1, 10)]
            for system in self._texts(str(scorer.rubric), upstream):
                for question in self._texts("judge_question", upstream):
                    shown = filled(question, transcript(prompt["messages"]), completion["text"])
                    asked = asked_hash(
                        "weigh",
                        "rate",
                        fingerprint,
                        [
                            {"role": "system", "content": system},
                            {"role": "user", "content": shown},
                        ],
                        None,
                        labels,
                    )
                    if any(
                        _same(row["reward"], _mean(answer["label_logprobs"]))
                        for answer in self.log.to(asked)
                    ):
                        found.add((scorer.model, scorer.task, fingerprint, system, question))
        return found

    def _mixed_scorers(self, models: list[str]) -> Iterator[tuple[str, str]]:
        """Say whether scores of one track that are compared were asked in different ways."""
        common: dict[str, set[tuple[str, ...]]] = {}
        told: set[str] = set()
        for row in self.tables["rewards"]:
            prompt = self._prompts.get(same_id(row["prompt_id"]))
            completion = self._completions_by_id.get(same_id(row["completion_id"]))
            if row["model"] not in models or row["reward"] is None or not (prompt and completion):
                continue
            if completion["text"] is None:
                continue
            ways = {
                way
                for recipe in self.history.made.get(("rewards", row["model"]), ())
                for way in self._asked_as(row, completion, prompt, recipe, True)
            }
            if not ways:
                continue  # told elsewhere
            track = row["track"]
            common[track] = common.get(track, ways) & ways
            if not common[track] and track not in told:
                told.add(track)
                yield (
                    f"rewards of one track ({track}) by different scorers or rubrics",
                    row["model"],
                )

    def _judge_comparisons(
        self, rows: list[Row], recipe: Recipe, policy: str, upstream: bool
    ) -> Iterator[tuple[str, str]]:
        rules = self._rules(recipe, policy)
        expected: set[tuple[str, str]] = set()
        for candidates in self._controversial(recipe, policy).values():
            first = by_score(candidates, rules)[: rules.compared]
            names = [same_id(one.completion_id) for one in first]
            expected |= set(permutations(names, 2))
        found = {
            (same_id(row["first_completion_id"]), same_id(row["second_completion_id"])): row
            for row in rows
        }
        if expected - found.keys():
            yield "comparisons that are missing", ""
        if found.keys() - expected:
            yield "comparisons of completions that are not the first", ""
        yield from _strangers(rows, self._prompts)
        judge = recipe.rewards.comparison_judge
        ways: set[tuple[str, ...]] | None = None
        for (first, second), row in found.items():
            one, other = self._completions_by_id.get(first), self._completions_by_id.get(second)
            prompt = self._prompts.get(same_id(row["prompt_id"]))
            if one is None or other is None or prompt is None:
                yield "comparisons of completions that are gone", ""
                continue
            if None in (one["text"], other["text"]):
                yield "comparisons of no text", ""
                continue
            mine = set()
            for fingerprint in self._fingerprints(judge, recipe, upstream and not self.strict):
                for system in self._texts("compare_charter_system", upstream):
                    for question in self._texts("compare_question", upstream):
                        shown = filled(
                            question, transcript(prompt["messages"]), one["text"], other["text"]
                        )
                        asked = asked_hash(
                            "weigh",
                            "compare",
                            fingerprint,
                            [
                                {"role": "system", "content": system},
                                {"role": "user", "content": shown},
                            ],
                            None,
                            ["A", "B"],
                        )
                        for answer in self.log.to(asked):
                            given = answer["label_logprobs"] or {}
                            if _same(row["first_logprob"], given.get("A")) and _same(
                                row["second_logprob"], given.get("B")
                            ):
                                mine.add((fingerprint, system, question))
            if not mine:
                yield "comparisons that are no answer about their prompt and texts", ""
            elif row["first_logprob"] is not None:
                ways = mine if ways is None else ways & mine
        if ways is not None and not ways:
            yield "comparisons by different judges or wordings", ""

    def _rules(self, recipe: Recipe, policy: str | None) -> Rules:
        selection = recipe.selection.model_dump()
        return Rules(
            policy=str(policy),
            models=recipe.completions.models,
            seed=recipe.seed,
            compared=recipe.rewards.compared_candidates,
            **selection,
        )

    def _candidates(self, recipe: Recipe, policy: str | None) -> dict[str, list[Candidate]]:
        """Return the scored completions of a policy's prompts."""
        members = self._members(recipe, policy)
        tokens = {
            same_id(row["completion_id"]): row for row in self._rows(("policy_tokens", policy))
        }
        listed: dict[str, list[Candidate]] = defaultdict(list)
        for row in self.tables["rewards"]:
            completion = self._completions_by_id.get(same_id(row["completion_id"]))
            prompt = self._prompts.get(same_id(row["prompt_id"]), row)
            if row["model"] not in members or completion is None:
                continue
            counts = tokens.get(same_id(row["completion_id"]), {})
            kept = ("text", "finish_reason")
            listed[same_id(row["prompt_id"])].append(
                Candidate(
                    str(row["completion_id"]),
                    whole_hash(prompt, "prompt"),
                    row["track"],
                    row["model"],
                    row["variant"],
                    score=row["reward"],
                    sample_index=completion["sample_index"],
                    **{name: completion[name] for name in kept},
                    **{name: counts.get(name) for name in ("prompt_tokens", "completion_tokens")},
                )
            )
        return listed

    def _controversial(self, recipe: Recipe, policy: str | None) -> dict[str, list[Candidate]]:
        return {
            prompt_id: mine
            for prompt_id, candidates in self._candidates(recipe, policy).items()
            if (mine := [one for one in candidates if one.track == "controversial"])
        }

    def _judge_rankings(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        comparisons = {
            (str(row["first_completion_id"]), str(row["second_completion_id"])): (
                row["first_logprob"],
                row["second_logprob"],
            )
            for row in self._rows(("judge_comparisons", policy))
            if row["first_logprob"] is not None and row["second_logprob"] is not None
        }
        return ("completion_id",), [
            {
                "completion_id": one.completion_id,
                "prompt_id": one.prompt_id,
                "score": one.score,
                "score_position": ranked.score_position,
                "wins": ranked.wins,
                "position": ranked.position,
                "rank_reward": ranked.rank_reward,
            }
            for candidates in self._controversial(recipe, policy).values()
            for ranks in [rank(candidates, comparisons, self._rules(recipe, policy))]
            for one in candidates
            for ranked in [ranks[one.completion_id]]
        ]

    # --- stage five: training sets -------------------------------------------------------------

    def _policy_tokens(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        members = self._members(recipe, policy)
        return ("completion_id",), [
            {
                "completion_id": row["completion_id"],
                "prompt_id": row["prompt_id"],
                "missing_reason": None,
                **row_tokens([*prompt["messages"], {"role": "assistant", "content": row["text"]}]),
            }
            for row in self.tables["completions"]
            if row["model"] in members and row["text"] is not None
            for prompt in [self._prompts.get(same_id(row["prompt_id"]))]
            if prompt is not None
        ]

    def _quantile_rewards(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        ranks = {
            same_id(row["completion_id"]): row["rank_reward"]
            for row in self._rows(("judge_rankings", policy))
        }
        expected = []
        for candidates in self._candidates(recipe, policy).values():
            rewards = {
                one.completion_id: one.score
                if one.track == "standard"
                else ranks.get(same_id(one.completion_id))
                for one in candidates
            }
            for placed in place(candidates, rewards, self._rules(recipe, policy)):
                one = placed.candidate
                expected.append(
                    {
                        **{
                            name: getattr(one, name)
                            for name in (
                                *("completion_id", "prompt_id", "track", "model", "variant"),
                                "sample_index",
                            )
                        },
                        "normal_hash": None if one.text is None else plain_normal_hash(one.text),
                        **{
                            name: getattr(placed, name)
                            for name in (
                                *("reward", "n_references", "quantile", "band"),
                                "ineligible_reason",
                            )
                        },
                    }
                )
        return ("completion_id",), expected

    def _placed(self, policy: str | None) -> dict[str, list[Placed]]:
        """Return the quantile rewards that stand, with the texts that stand."""
        listed: dict[str, list[Placed]] = defaultdict(list)
        for row in self._rows(("quantile_rewards", policy)):
            completion = self._completions_by_id.get(same_id(row["completion_id"]), {})
            prompt = self._prompts.get(same_id(row["prompt_id"]), row)
            candidate = Candidate(
                str(row["completion_id"]),
                whole_hash(prompt, "prompt"),
                row["track"],
                row["model"],
                row["variant"],
                completion.get("text"),
                row["reward"],
                completion.get("sample_index", 0),
            )
            listed[same_id(row["prompt_id"])].append(
                Placed(
                    candidate,
                    *(
                        row[name]
                        for name in (
                            *("reward", "n_references", "quantile", "band"),
                            "ineligible_reason",
                        )
                    ),
                )
            )
        return listed

    def _selected_pairs(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        expected = []
        for placed in self._placed(policy).values():
            for number, (chosen, rejected) in enumerate(
                select(placed, self._rules(recipe, policy))
            ):
                expected.append(
                    {
                        "prompt_id": chosen.candidate.prompt_id,
                        "track": chosen.candidate.track,
                        "pair_index": number,
                        **_sides(chosen, rejected),
                    }
                )
        return ("prompt_id", "pair_index"), expected

    def _dpo_pairs(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        placed = {
            same_id(one.candidate.completion_id): one
            for each in self._placed(policy).values()
            for one in each
        }
        tokens = {
            same_id(row["completion_id"]): row["completion_tokens"]
            for row in self._rows(("policy_tokens", policy))
        }
        expected = []
        for row in self._rows(("selected_pairs", policy)):
            prompt_id = same_id(row["prompt_id"])
            prompt = self._prompts.get(prompt_id)
            sides = {}
            for side in ("chosen", "rejected"):
                name = same_id(row[f"{side}_completion_id"])
                completion = self._completions_by_id.get(name)
                if completion is not None:
                    sides[side] = completion
            if prompt is None or len(sides) < 2:
                continue
            pair = [placed.get(same_id(row[f"{side}_completion_id"])) for side in sides]
            references = sorted(
                one.reward
                for one in self._placed(policy).get(prompt_id, ())
                if one.candidate.variant == "reference"
                and one.reward is not None
                and (recipe.selection.references == "all" or one.ineligible_reason is None)
            )
            expected.append(
                {
                    "prompt_id": row["prompt_id"],
                    "pair_index": row["pair_index"],
                    "track": prompt["track"],
                    "prompt": prompt["messages"],
                    "reference_rewards": references,
                    **(_sides(*pair) if all(pair) else {}),
                    **{
                        side: [{"role": "assistant", "content": completion["text"]}]
                        for side, completion in sides.items()
                    },
                    **{
                        f"{side}_{name}": completion[of]
                        for side, completion in sides.items()
                        for name, of in (("model", "model"), ("variant", "variant"))
                    },
                    **{
                        f"{side}_tokens": tokens.get(same_id(completion["completion_id"]))
                        for side, completion in sides.items()
                    },
                }
            )
        return ("prompt_id", "pair_index"), expected

    def _qrpo_samples(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        samples: dict[str, Row] = {}
        rows = self._rows(("dpo_pairs", policy))
        for row in sorted(rows, key=lambda row: row["pair_index"]):
            for side in ("chosen", "rejected"):
                name = str(row[f"{side}_completion_id"])
                samples.setdefault(
                    name,
                    {
                        "completion_id": name,
                        "selected_as": side,
                        "completion": row[side],
                        "reward": row[f"{side}_reward"],
                        "quantile": row[f"{side}_quantile"],
                        "model": row[f"{side}_model"],
                        **{
                            one: row[one]
                            for one in ("prompt_id", "track", "prompt", "reference_rewards")
                        },
                    },
                )
        return ("completion_id",), list(samples.values())

    def _reference_logprobs(
        self, rows: list[Row], recipe: Recipe, policy: str, upstream: bool
    ) -> Iterator[tuple[str, str]]:
        scope, wanted = recipe.reference_logprobs.scope, set[str]()
        if scope == "selected":
            for row in self._rows(("selected_pairs", policy)):
                wanted |= {same_id(row[f"{side}_completion_id"]) for side in ("chosen", "rejected")}
        elif scope == "candidates":
            wanted = {
                same_id(row["completion_id"])
                for row in self._rows(("quantile_rewards", policy))
                if row["ineligible_reason"]
                not in ("no completion", "too many tokens", "no token counts")
                and row["normal_hash"] is not None
            }
        found = {same_id(row["completion_id"]): row for row in rows}
        if wanted != found.keys():
            yield "log-probabilities of other completions", ""
        for name, row in found.items():
            completion, prompt = (
                self._completions_by_id.get(name),
                self._prompts.get(same_id(row["prompt_id"])),
            )
            if completion is None or prompt is None:
                continue
            messages = [*prompt["messages"], {"role": "assistant", "content": completion["text"]}]
            if not any(
                _same(row["logprob"], answer["value"])
                and (
                    row["logprob"] is None
                    or row["completion_tokens"] == answer["completion_tokens"]
                )
                for fingerprint in self._fingerprints(policy, recipe, upstream)
                for answer in self.log.to(
                    asked_hash("loglikelihood", "loglikelihood", fingerprint, messages)
                )
            ):
                yield "log-probabilities that are no answer about their prompt and text", ""

    def _selection_exclusions(self, recipe: Recipe, policy: str | None) -> tuple[Any, list[Row]]:
        rules = self._rules(recipe, policy)
        paired = {same_id(row["prompt_id"]) for row in self._rows(("selected_pairs", policy))}
        return ("prompt_id",), [
            {
                "prompt_id": placed[0].candidate.prompt_id,
                "track": placed[0].candidate.track,
                "reason": exclusion_reason(placed, rules) or "not_selected",
                "n_references": placed[0].n_references,
                "n_candidates": len(placed),
                "n_eligible": sum(one.ineligible_reason is None for one in placed),
            }
            for prompt_id, placed in self._placed(policy).items()
            if prompt_id not in paired
        ]


def _sides(chosen: Placed, rejected: Placed) -> Row:
    return {
        f"{side}_{name}": value
        for side, one in (("chosen", chosen), ("rejected", rejected))
        for name, value in (
            ("completion_id", one.candidate.completion_id),
            *(("reward", one.reward), ("quantile", one.quantile), ("band", one.band)),
        )
    }


def _grade(text: str | None) -> int | None:
    try:
        value = json.loads(text or "")["classification"]
    except (ValueError, KeyError, TypeError):
        return None
    return int(value) if value in ("0", "1", "2", "3") else None


def _mean(logprobs: Mapping[str, float] | None) -> float | None:
    if not logprobs:
        return None
    weights = {float(label): math.exp(value) for label, value in logprobs.items()}
    return sum(label * weight for label, weight in weights.items()) / sum(weights.values())


def _index(seed: int, purpose: str, name: str, size: int) -> int:
    return int(content_hash(seed, purpose, name)[:13], 16) % size


def _strangers(rows: list[Row], prompts: Mapping[str, Row]) -> Iterator[tuple[str, str]]:
    for row in rows:
        if same_id(row["prompt_id"]) not in prompts:
            yield "rows of prompts that are not in alignment_prompts", str(row["prompt_id"])


def _same_keys(
    rows: list[Row], wanted: Mapping[str, Any], column: str, extra_is_fine: bool = False
) -> Iterator[tuple[str, str]]:
    found = [same_id(row[column]) for row in rows]
    if len(set(found)) < len(found):
        yield f"a {column} twice", ""
    if missing := wanted.keys() - set(found):
        yield "rows that are missing", min(missing)
    if not extra_is_fine and (extra := set(found) - wanted.keys()):
        yield "rows too many", min(extra)


def _compared(rows: list[Row], expected: list[Row], key: tuple[str, ...]) -> Iterator[Any]:
    """Compare the columns of the expected rows with those that stand.

    Some that a table had not at first may be missing in all of its rows.
    """
    columns = {column for row in rows for column in row}

    def key_of(row: Row) -> tuple[Any, ...]:
        return tuple(same_id(row[name]) if name.endswith("_id") else row[name] for name in key)

    found, wanted = {key_of(row): row for row in rows}, {key_of(row): row for row in expected}
    if missing := wanted.keys() - found.keys():
        yield "rows that are missing", str(sorted(missing, key=str)[0])
    if extra := found.keys() - wanted.keys():
        yield "rows too many", str(sorted(extra, key=str)[0])
    for name in sorted(found.keys() & wanted.keys(), key=str):
        for column, value in wanted[name].items():
            if column in NEWER_COLUMNS and column not in columns:
                continue
            stands = found[name][column]
            if column == "extra" and stands is not None:
                stands = json.loads(stands)
            if not _same(stands, value, is_id=column.endswith(("_id", "_hash"))):
                yield f"another {column}", f"{name}: {stands!r:.120} and not {value!r:.120}"


def _same(one: Any, other: Any, is_id: bool = False) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(_same(a, b) for a, b in zip(one, other, strict=True))
    if is_id and one is not None and other is not None:
        return one == other or same_id(one) == same_id(other)
    return bool(one == other)


def _shown(row: Row, *names: str) -> str:
    place = row.get("model") or row.get("policy") or ""
    return f"{place} {same_id(row['prompt_id'])[:8]} " + ", ".join(
        f"{name} {row[name]!r:.60}" for name in names
    )
