"""A finished home of a real run, held against what follows from its sources and answers.

Which answer belongs to which question is looked up in the spool by the request's id; what the
question should have been, the checker says from the tables alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import duckdb

from alignment_assets.inference.spool import spool_folder, whole_files
from alignment_assets.inference.spool_queries import ANSWERED_ID
from alignment_assets.recipe.run import Run
from alignment_assets.requests.request_sets import all_request_sets
from alignment_assets.warehouse.opening import database_of
from tests.model import checker as checking
from tests.model.checker import PARTITION_COLUMNS, TABLES, Checker, History, read_tables
from tests.model.engine import AskedLog, asked_hash


def problems_of_home(run: Run, fingerprints: Mapping[str, str]) -> list[str]:
    """Return what is missing in a home, or does not follow from its sources and answers.

    Args:
        run: a recipe, all of which has been made, and its home.
        fingerprints: those of its models.
    """
    with patch.object(checking, "fingerprint_of", lambda _, model: fingerprints[model]):
        history = History()
        history.saw(run.recipe)
        places = [
            (table, partition)
            for table in TABLES
            for partition in run.recipe.members.get(PARTITION_COLUMNS.get(table, ""), [None])
        ]
        history.made = dict.fromkeys(places, (run.recipe,))
        tables = read_tables(database_of(run.database_settings))
        held = Checker(tables, run.recipe, history, log_of_home(run, fingerprints), strict=True)
        found = [str(finding) for place in places for finding in held.check(place)]
    needed = set(TABLES) - {"selection_exclusions"}
    return found + [f"{table}: no rows" for table in sorted(needed) if not tables[table]]


def log_of_home(run: Run, fingerprints: Mapping[str, str]) -> AskedLog:
    """Return the answers of a home's spool, by the hash of what they answer."""
    log = AskedLog(Path())
    with database_of(run.database_settings).read() as connection:
        requests = all_request_sets(run.recipe, lambda model: fingerprints[model])
        for (asset, partition), sets in requests.items():
            answers = _answers(spool_folder(run.spool, asset, partition))
            for asked in sets:
                rows = connection.execute(asked.sql, asked.values).to_arrow_table().to_pylist()
                for row in rows:
                    name = asked_hash(
                        row["kind"],
                        asked.task,
                        fingerprints[asked.model],
                        row["messages"],
                        json.loads(row["sampling"] or "{}"),
                        row["labels"],
                        row["answer_schema"],
                    )
                    log.answers.setdefault(name, []).extend(answers.get(str(row["request_id"]), []))
    return log


def _answers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    files = [str(path) for path in whole_files(folder)]
    if not files:
        return {}
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT * REPLACE ({ANSWERED_ID}::VARCHAR AS request_id) "
            "FROM read_parquet($files, union_by_name = true)",
            {"files": files},
        ).to_arrow_table()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        labels = {one["label"]: one["logprob"] for one in row["label_logprobs"] or ()}
        found.setdefault(row["request_id"], []).append({**row, "label_logprobs": labels})
    return found
