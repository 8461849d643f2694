"""The work file: a queue that several engines drain, and what is left of it after a death."""

from __future__ import annotations

import json
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.inference.spool import SpoolWriter
from alignment_assets.inference.types import REQUEST_SCHEMA, Answer, AnsweredBy
from alignment_assets.inference.work_queue import CLAIM, WorkQueue, write_unanswered
from tests.support.ids import uid
from tests.support.processes import other, wait_for_word

SETTINGS = '{"max_model_len": 1024}'


def write_work(path: Path, count: int, row_group_size: int = 1024) -> list[str]:
    """Write a work file of numbered requests and return their ids."""
    ids = [uid(f"r{number}") for number in range(count)]
    rows = [
        {
            "request_id": request_id,
            "task": "generate",
            "messages": [{"role": "user", "content": f"Question {request_id}"}],
            "sampling": json.dumps({"max_tokens": 4}),
        }
        for request_id in ids
    ]
    table = pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)
    pq.write_table(table, path, row_group_size=row_group_size)
    return ids


@pytest.mark.parametrize("count", [0, 1, CLAIM, 2 * CLAIM + 1, 2500])
@pytest.mark.parametrize("row_group_size", [7, 1024])
def test_requests_come_whole_and_in_order(tmp_path: Path, count: int, row_group_size: int) -> None:
    ids = write_work(tmp_path / "work.parquet", count, row_group_size)
    requests = list(WorkQueue(tmp_path / "work.parquet"))
    assert [request.request_id for request in requests] == ids
    for request in requests[-3:]:
        assert request.messages == [{"role": "user", "content": f"Question {request.request_id}"}]
        assert request.sampling == {"max_tokens": 4}
    assert list(WorkQueue(tmp_path / "work.parquet")) == []  # all are claimed


def drain(pipe: Connection, path: Path) -> None:
    """Take requests one by one, and say which they were."""
    pipe.send("ready")
    wait_for_word(pipe)
    pipe.send([request.request_id for request in WorkQueue(path)])


def test_engines_that_drain_one_queue_take_each_request_once(tmp_path: Path) -> None:
    ids = write_work(tmp_path / "work.parquet", 20_000)
    with ExitStack() as started:
        engines = [started.enter_context(other(drain, tmp_path / "work.parquet")) for _ in range(4)]
        for engine in engines:
            engine.hear()
        for engine in engines:
            engine.tell()
        taken = [engine.hear() for engine in engines]
    assert sorted(request_id for part in taken for request_id in part) == sorted(ids)


def test_an_engine_leaves_the_others_all_but_what_it_has_claimed(tmp_path: Path) -> None:
    ids = write_work(tmp_path / "work.parquet", 1000)
    slow = iter(WorkQueue(tmp_path / "work.parquet"))
    assert next(slow).request_id == ids[0]
    rest = [request.request_id for request in WorkQueue(tmp_path / "work.parquet")]
    assert rest == ids[CLAIM:]


def test_what_a_dead_engine_left_is_asked_again_in_order(tmp_path: Path) -> None:
    ids = write_work(tmp_path / "work.parquet", 5000)
    kept = {*ids[:100], *ids[3000::7]}
    with SpoolWriter(tmp_path / "spool", AnsweredBy("fake", "1", SETTINGS)) as writer:
        for number, request_id in enumerate(sorted(kept)):
            reason = ("stop", "length", "context_length")[number % 3]
            writer.add(Answer(request_id, "generate", reason, text="yes"))
        writer.add(Answer(ids[200], "generate", "failed", error="no answer"))
    rest = tmp_path / "rest.parquet"
    missing = [request_id for request_id in ids if request_id not in kept]

    count = write_unanswered(tmp_path / "work.parquet", tmp_path / "spool", SETTINGS, rest)

    assert count == len(missing)
    assert [request.request_id for request in WorkQueue(rest)] == missing
    with SpoolWriter(tmp_path / "spool", AnsweredBy("fake", "1", SETTINGS)) as writer:
        for request_id in missing:
            writer.add(Answer(request_id, "generate", "stop", text="yes"))
    assert write_unanswered(tmp_path / "work.parquet", tmp_path / "spool", SETTINGS, rest) == 0
