"""A synthetic world of any size: sources as read, and a spool in which engines have answered all.

The published size (report, section 4.1.4) is 453,235 prompts. Texts are words drawn by frequency,
so that they compress about as real ones do; rewards have ties. Everything is drawn from seeds.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from dagster import DagsterInstance

from alignment_assets.commands.materialize import LOGGERS, QUIET, plan_launches
from alignment_assets.definitions import build_defs
from alignment_assets.inference.backend import Inference, Job
from alignment_assets.inference.counting import COUNTED_SCHEMA
from alignment_assets.inference.spool import spool_folder
from alignment_assets.inference.types import ANSWER_SCHEMA
from alignment_assets.recipe.load import find_recipe, parse_recipe
from alignment_assets.recipe.model import Model, Recipe
from alignment_assets.recipe.run import Run
from alignment_assets.requests.runner import RequestSet
from alignment_assets.warehouse.resource import Warehouse

PUBLISHED = {"standard": 380_537, "controversial": 72_698}
PROMPTS = sum(PUBLISHED.values())
# Ours: how many of the controversial ones come from the mix, and from PRISM; PolygloToxicityPrompts
# has the rest. The report gives the sum.
FROM_MIX, FROM_PRISM = 0.3, 0.07
EXCLUDED_SHARE = 0.02  # rows of the mix that the licence drops
PERSONAS = 200_000
PROMPT_CHARACTERS = 300
SEED = 1
CORPUS_BYTES = 16 << 20
VOCABULARY = 8_000
PART = 50_000  # answers that one task writes
FILE_ROWS = 1_000
# Requests that an engine has at once, so that they end in another order than they began.
IN_FLIGHT = 256
POLICY = "apertus-8b-sft"
ANSWERED_AT = datetime(2026, 1, 1)


class Answered(Inference):
    """An engine that must not be asked: the spool has all answers."""

    def fingerprint(self, model: str, run: Run) -> str:
        """Return the name, as if it told weights and template."""
        return f"fingerprint of {model}"

    def tokenizer(self, model: str, run: Run) -> str | None:
        """Return a fingerprint that is none."""
        return "0" * 64

    def count_tokens(
        self, model: str, run: Run, uncounted: Path, counted: Path, report: Callable[[str], None]
    ) -> None:
        """Draw counts: what tokenizers take, `benchmarks.policy_tokens` measures."""
        draw = np.random.default_rng(SEED)
        with pq.ParquetFile(uncounted) as file, pq.ParquetWriter(counted, COUNTED_SCHEMA) as writer:
            for batch in file.iter_batches(columns=["content_id"]):
                rows = batch.num_rows
                columns = {
                    "content_id": batch.column(0),
                    "prompt_tokens": pa.array(draw.integers(20, 400, rows), pa.int32()),
                    "completion_tokens": pa.array(draw.integers(1, 500, rows), pa.int32()),
                    "missing_reason": pa.nulls(rows, pa.string()),
                }
                arrays = [columns[name] for name in COUNTED_SCHEMA.names]
                writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=COUNTED_SCHEMA))

    def limits(self, model: Model) -> str:
        """Return the same limits for all."""
        return "{}"

    def answer(self, job: Job) -> None:
        """Fail: something is missing in the spool."""
        raise AssertionError(f"{job.progress.total} requests for {job.name} have no answer")


def apertus(policies: list[str] | None = None) -> Recipe:
    """Return the published run for one policy (or those named)."""
    path = find_recipe("apertus")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["completions"]["policies"] = policies or [POLICY]
    content["consent"]["unknown_origins"] = "admitted"  # the sources here are made up
    return parse_recipe(content, path)


def materialize(
    recipe: Recipe, warehouse: Warehouse, selection: str, partition: str | None = None
) -> None:
    """Run assets as a user does, with the engine that is never asked.

    Each runs its table's rules on its new rows; Dagster's checks of whole tables are left out.
    """
    defs = build_defs(
        Run(recipe, warehouse.home), {"warehouse": warehouse, "inference": Answered()}
    )
    job = defs.resolve_implicit_global_asset_job_def().with_logger_defs(LOGGERS)
    with DagsterInstance.ephemeral() as instance:
        for launch in plan_launches(defs, selection, partition):
            job.get_subset(
                asset_selection=set(launch.assets), asset_check_selection=set()
            ).execute_in_process(
                partition_key=launch.partition, instance=instance, run_config=QUIET
            )


# Prompts alone, for what needs nothing before them.
MANY_PROMPTS = """
INSERT INTO alignment_prompts BY NAME
SELECT
    content_hash(['prompt', number::VARCHAR]) AS prompt_hash,
    as_id(prompt_hash) AS prompt_id,
    'standard' AS track,
    [{'role': 'user', 'content': repeat('a question about life ', 15) || number}] AS messages,
    sha256(number::VARCHAR) AS messages_hash,
    'preference_mix' AS dataset,
    ['preference_mix'] AS datasets
FROM range($prompts) AS numbers (number)
"""


# -- sources ---------------------------------------------------------------------------------------

_SOURCE = """
INSERT INTO source_prompts BY NAME
SELECT
    '{dataset}' AS dataset,
    row_number,
    content_hash(['{dataset}', row_number::VARCHAR]) AS prompt_hash,
    as_id(prompt_hash) AS prompt_id,
    [{{'role': 'user', 'content': text}}] AS messages,
    content_hash([text]) AS messages_hash,
    {more}
FROM texts
"""
_MIX = """
'source ' || row_number % 9 AS source,
CASE WHEN row_number >= {kept} THEN 'flan_v2_' ELSE 'row_' END || row_number AS upstream_id
"""
_ADDITION = "'wildchat' AS source, row_number::VARCHAR AS upstream_id"
_PRISM = _ADDITION + """, '{"conversation_type": "values guided"}' AS extra"""


def fill_sources(warehouse: Warehouse, prompts: int, characters: int = PROMPT_CHARACTERS) -> None:
    """Fill the tables that are read from outside, for about so many prompts in the end.

    The sources are those of the recipe `apertus`.
    """
    share = prompts / PROMPTS
    controversial = round(PUBLISHED["controversial"] * share)
    prism = round(controversial * FROM_PRISM)
    polyglot = controversial - prism - controversial_in_mix(prompts)
    kept = prompts - prism - polyglot
    with warehouse.get_connection() as connection:
        for dataset, rows, more in (
            ("preference_mix", round(kept * (1 + EXCLUDED_SHARE)), _MIX.format(kept=kept)),
            ("polyglot_toxicity_prompts", polyglot, _ADDITION),
            ("prism_prompts", prism, _PRISM),
        ):
            for first in range(0, rows, PART):
                numbers = np.arange(first, min(first + PART, rows))
                drawn = draw_texts(len(numbers), characters, f"{dataset} {first}")
                texts = pa.table({"row_number": numbers, "text": drawn})
                connection.register("texts", texts)
                connection.execute(_SOURCE.format(dataset=dataset, more=more))
        connection.execute(
            "INSERT INTO personas BY NAME SELECT range AS row_number, "
            "content_hash(['persona', range::VARCHAR]) AS persona_hash, "
            "as_id(persona_hash) AS persona_id, "
            "'Somebody who does ' || range AS persona FROM range($personas)",
            {"personas": PERSONAS},
        )


def controversial_in_mix(prompts: int) -> int:
    """Return how many prompts of the mix are graded controversial, in a world of some prompts."""
    return round(PUBLISHED["controversial"] * prompts / PROMPTS * FROM_MIX)


# -- answers ---------------------------------------------------------------------------------------


def fill_spool(
    warehouse: Warehouse,
    asset: str,
    partition: str | None,
    requests: RequestSet,
    *,
    characters: int,
    controversial: int = 0,
) -> int:
    """Answer all requests of a set, nearly in the order in which they are asked; return how many.

    As an engine that holds `IN_FLIGHT` at once does, the one of these that is done next is any.

    Args:
        warehouse: tells the requests.
        asset: whose spool it is.
        partition: the asset's.
        requests: what is asked.
        characters: the mean length of a text.
        controversial: how many grades are above the threshold.
    """
    folder = spool_folder(warehouse.home / "spool", asset, partition)
    folder.mkdir(parents=True, exist_ok=True)
    columns, joined = "request_id", ""
    if requests.task == "loglikelihood":  # whose tokens are those that were counted
        columns = "request_id, counted.prompt_tokens, counted.completion_tokens"
        joined = "JOIN policy_tokens AS counted USING (completion_id)"
    with warehouse.read() as connection:
        asked = connection.execute(
            f"SELECT {columns} FROM ({requests.sql}\n) {joined} ORDER BY asking_order",
            requests.values,
        ).to_arrow_table()
    ids = asked.combine_chunks()
    ends = np.arange(len(ids)) + np.random.default_rng(SEED).integers(0, IN_FLIGHT, len(ids))
    ids = ids.take(pa.array(np.argsort(ends, kind="stable")))
    write = partial(
        _write_answers,
        folder=folder,
        task=requests.task,
        characters=characters,
        controversial=controversial,
    )
    with ProcessPoolExecutor() as processes:
        parts = ((first, ids[first : first + PART]) for first in range(0, len(ids), PART))
        for _ in processes.map(write, *zip(*parts, strict=True)) if len(ids) else ():
            pass
    return len(ids)


def _write_answers(
    first: int, asked: pa.Table, *, folder: Path, task: str, characters: int, controversial: int
) -> None:
    name = f"{task}-{first:010d}"
    draw = np.random.default_rng([SEED, first])
    for number, start in enumerate(range(0, len(asked), FILE_ROWS)):
        part = asked[start : start + FILE_ROWS]
        rows = len(part)
        columns: dict[str, Any] = {
            "request_id": part["request_id"].combine_chunks(),
            "finish_reason": pa.repeat("stop", rows),
            "task": pa.repeat(task, rows),
            "prompt_tokens": pa.array(draw.integers(20, 400, rows), pa.int32()),
            "completion_tokens": pa.array(draw.integers(1, 500, rows), pa.int32()),
            **{name: part[name].combine_chunks() for name in part.column_names[1:]},
            "engine": pa.repeat("synthetic", rows),
            "engine_version": pa.repeat("1", rows),
            "engine_settings": pa.repeat("{}", rows),
            "seconds": pa.array(draw.uniform(0.5, 30.0, rows)),
            "answered_at": pa.repeat(pa.scalar(ANSWERED_AT, pa.timestamp("us")), rows),
        }
        if task == "generate":
            columns["text"] = draw_texts(rows, characters, f"{name} {start}")
            columns["text_hash"] = pa.array(
                hashlib.sha256(text.encode()).hexdigest() for text in columns["text"].to_pylist()
            )
            truncated = draw.random(rows) < 0.02
            columns["finish_reason"] = pa.array(np.where(truncated, "length", "stop"))
        elif task == "grade":
            grades = np.where(np.arange(first + start, first + start + rows) < controversial, 2, 0)
            reasons = draw_texts(rows, characters // 2, f"{name} {start}").to_pylist()
            columns["text"] = pa.array(
                json.dumps({"reasoning": reason, "classification": str(grade)})
                for reason, grade in zip(reasons, grades + draw.integers(0, 2, rows), strict=True)
            )
        elif task == "loglikelihood":
            columns["value"] = pa.array(-draw.uniform(1.0, 900.0, rows))
        elif task == "classify":
            columns["value"] = pa.array(np.round(draw.normal(0.0, 4.0, rows) * 8) / 8)  # ties
        else:
            entries = _weighed("123456789" if task == "rate" else "AB")
            columns["label_logprobs"] = entries.take(pa.array(draw.integers(0, len(entries), rows)))
        table = pa.table(
            [
                columns[field.name] if field.name in columns else pa.nulls(rows, field.type)
                for field in ANSWER_SCHEMA
            ],
            schema=ANSWER_SCHEMA,
        )
        pq.write_table(
            table,
            folder / f"{name}-{number:08d}.parquet",
            compression="zstd",
            write_page_checksum=True,
        )


@cache
def _weighed(labels: str) -> pa.Array:
    """Return two hundred answers that weigh some labels: fewer than rows, so there are ties."""
    draw = np.random.default_rng(SEED)
    kind = ANSWER_SCHEMA.field("label_logprobs").type
    return pa.array(
        [
            [
                {"label": label, "logprob": float(np.float32(math.log(weight)))}
                for label, weight in zip(labels, draw.dirichlet(np.ones(len(labels))), strict=True)
            ]
            for _ in range(200)
        ],
        kind,
    )


def draw_texts(rows: int, characters: int, purpose: str) -> pa.Array:
    """Return texts of half to one and a half times so many characters."""
    corpus = _corpus()
    draw = np.random.default_rng([SEED, *purpose.encode()])
    ends = np.cumsum(draw.integers(characters // 2, characters * 3 // 2 + 1, rows))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    start = int(draw.integers(0, len(corpus) - int(offsets[-1])))
    return pa.StringArray.from_buffers(
        rows, pa.py_buffer(offsets), pa.py_buffer(corpus[start : start + int(offsets[-1])])
    )


@cache
def _corpus() -> bytes:
    """Return words, the frequent ones often, that all texts are cut from."""
    draw = np.random.default_rng(SEED)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    words = ["".join(draw.choice(letters, size)) for size in draw.integers(2, 11, VOCABULARY)]
    frequency = 1 / np.arange(1, VOCABULARY + 1)
    found = draw.choice(words, CORPUS_BYTES // 6, p=frequency / frequency.sum())
    return " ".join(found)[:CORPUS_BYTES].encode()
