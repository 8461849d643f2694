"""Requests made by the real SQL from a few prompts, personas and a recipe, without an engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from alignment_assets.inference.fingerprint import Weights, model_fingerprint
from alignment_assets.recipe.model import Recipe
from alignment_assets.recipe.wordings import read_wordings
from alignment_assets.requests.request_sets import grade_schema
from alignment_assets.sources.conversations import Message, as_id, messages_hash, prompt_hash
from alignment_assets.warehouse import sql_files
from tests.conftest import changed_recipe
from tests.support.tables import arrow_column
from tests.support.texts import plain_normal_hash

MODEL, COOL, POLICY = "smollm2-135m", "smollm2-135m-cool", "smollm2-135m-policy"
SEVERAL_TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "May one lie?"},
    {"role": "assistant", "content": "Seldom."},
    {"role": "user", "content": "When?"},
]


def one_turn(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


CHATS = (
    ("standard", [SEVERAL_TURNS[0], *one_turn("How far is the moon?")]),
    ("controversial", SEVERAL_TURNS),
    *(("standard", one_turn(f"What is  {n} + {n}?")) for n in range(20)),
    *(("controversial", one_turn(f"Is war {n} just?")) for n in range(20)),
)

TABLES = (
    *("licensed_prompts", "alignment_prompts", "personas", "wordings"),
    *("completion_requests", "completions", "rewards"),
)

Rows = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Asked:
    """Everything that decides what engines are asked."""

    recipe: Recipe = field(default_factory=changed_recipe)
    chats: Sequence[tuple[str, list[Message]]] = CHATS
    personas: Sequence[str] = tuple(f"A baker with {n} ovens." for n in range(9))
    revision: str = "commit-1"

    def having(self, changes: dict[str, Any]) -> Asked:
        return replace(self, recipe=changed_recipe(changes))

    def fingerprint(self, model: str) -> str:
        weights = Weights(model, self.revision, self.revision)
        return model_fingerprint(weights, self.recipe.models[model], self.recipe)

    def database(self, *models: str, threads: int = 2) -> Database:
        return Database(self, models, threads)

    def requests(self, model: str = MODEL) -> Rows:
        return self.database(model).requests(model)


class Database:
    """The tables that requests are made from, in memory, with the requests of some models."""

    def __init__(self, asked: Asked, models: Iterable[str], threads: int) -> None:
        self.asked = asked
        self.connection = duckdb.connect(config={"threads": threads})
        self.connection.execute(sql_files.macros())
        for table in TABLES:
            self.connection.execute(sql_files.tables()[table].ddl)
        prompts = [
            {
                "prompt_id": as_id(prompt_hash(messages)),
                "prompt_hash": prompt_hash(messages),
                "track": track,
                "messages": messages,
                "messages_hash": messages_hash(messages),
                "dataset": "preference_mix",
                "datasets": ["preference_mix"],
                "dataset_order": 1,
                "consent_basis": "source_rule",
            }
            for track, messages in asked.chats
        ]
        people = [
            {"persona_id": as_id(hashed), "persona_hash": hashed, "persona": text}
            for text in asked.personas
            for hashed in [messages_hash([{"role": "persona", "content": text}])]
        ]
        self.fill("alignment_prompts", prompts)
        self.fill("licensed_prompts", [{**row, "track": "graded"} for row in prompts])
        self.fill("personas", people)
        self.fill("wordings", list(read_wordings(asked.recipe)))
        for model in models:
            parameters = {
                **self.settings(model),
                **{
                    f"{track}_variants": names
                    for track, names in asked.recipe.variants(model).items()
                },
                "model_fingerprint": asked.fingerprint(model),
                "sampling": asked.recipe.completion_sampling(model).as_json(),
            }
            query = sql_files.read_sql("assets", "completion_requests")
            values = sql_files.named_parameters(query, parameters)
            self.connection.execute(f"INSERT INTO completion_requests BY NAME ({query}\n)", values)

    def settings(self, model: str) -> dict[str, Any]:
        return {**self.asked.recipe.settings(), "model": model}

    def fill(self, table: str, rows: list[dict[str, Any]]) -> None:
        columns = {
            column.name: arrow_column(column, [row.get(column.name) for row in rows])
            for column in sql_files.tables()[table].columns
        }
        columns |= {"row_number": list(range(len(rows)))} if "row_number" in columns else {}
        self.connection.register("filled", pa.table(columns))
        self.connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM filled")

    def run(self, kind: str, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        query = sql_files.read_sql(kind, name)
        values = sql_files.named_parameters(query, parameters)
        return list(self.connection.execute(query, values).to_arrow_table().to_pylist())

    def requests(self, model: str) -> Rows:
        """Return a model's completion requests with the messages it reads, by completion."""
        read = self.run("requests", "completions/generate", self.settings(model))
        messages = {row["completion_id"]: row["messages"] for row in read}
        rows = self.connection.execute("FROM completion_requests").to_arrow_table().to_pylist()
        mine = {row["completion_id"]: row for row in rows if row["model"] == model}
        assert messages.keys() == mine.keys()
        assert len({row["request_id"] for row in mine.values()}) == len(mine)
        return {name: {**row, "messages": messages[name]} for name, row in mine.items()}

    def answer(self, model: str, ending: str = "") -> None:
        """Answer a model's requests, each with its variant's name, and reward the answers."""
        answers = [
            {
                **row,
                "text": f"{row['variant']} {row['sample_index']}{ending}",
                "text_hash": f"hash of {row['variant']} {row['sample_index']}{ending}",
                "normal_hash": plain_normal_hash(f"{row['variant']} {row['sample_index']}{ending}"),
                "finish_reason": "stop",
                **dict.fromkeys(("engine", "engine_version", "engine_settings"), "fake"),
                "answered_at": datetime(2025, 9, 2),
                "reward": 1.0,
                "scorer": "judge",
                "task": "rate",
            }
            for row in self.requests(model).values()
        ]
        self.fill("completions", answers)
        self.fill("rewards", answers)

    def grades(self, attempt: int = 0, only: list[str] | None = None) -> Rows:
        grader = self.asked.recipe.controversy
        parameters = {
            "attempt": attempt,
            "only_prompts": only,
            "model_fingerprint": self.asked.fingerprint(grader.model),
            "sampling": grader.sampling.as_json(),
            "answer_schema": grade_schema(grader.reasoning_characters),
            "controversy_wording": grader.wording,
        }
        rows = self.run("requests", "controversy_labels/grade", parameters)
        return {row["prompt_id"]: row for row in rows}

    def ratings(self, track: str, rubric: str, name: str = "rewards/rate") -> Rows:
        scorer = self.asked.fingerprint("smollm2-135m-judge")
        parameters = {"track": track, "rubric": rubric, "scorer_fingerprint": scorer}
        parameters |= {"thinking": None}
        rows = self.run("requests", name, {**self.settings(MODEL), **parameters})
        return {row["completion_id"]: row for row in rows}


ASKED = Asked()
