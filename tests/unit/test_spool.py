"""The spool: what is on disk when, which answer counts, and what a rerun asks."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignment_assets.inference import spool, spool_files
from alignment_assets.inference.spool import (
    EMPTY_FILE,
    FLUSH_ROWS,
    SpoolError,
    SpoolWriter,
    read_final,
    spool_folder,
    view_answers,
    what_is_wrong,
)
from alignment_assets.inference.types import ANSWER_SCHEMA, Answer, AnsweredBy
from tests.conftest import Graph, changed_recipe
from tests.support.ids import named, uid
from tests.support.processes import other
from tests.support.tables import fill_prompts, take_as_made

SHORT = '{"max_model_len": 1024}'
LONG = '{"max_model_len": 8192}'
MODEL = "smollm2-135m-cool"


def answered_by(settings: str = LONG) -> AnsweredBy:
    return AnsweredBy("fake", "1", settings)


def answer(request: str, text: str = "yes") -> Answer:
    return Answer(uid(request), "generate", "stop", text=text)


def refusal(request: str) -> Answer:
    return Answer(uid(request), "generate", "context_length", error="too long")


def write(folder: Path, *answers: Answer, settings: str = LONG) -> Path:
    """Write answers to a file of their own and return it."""
    before = set(folder.glob("*"))
    with SpoolWriter(folder, answered_by(settings)) as writer:
        for one in answers:
            writer.add(one)
    (file,) = set(folder.glob("*")) - before
    return file


def read(folder: Path, *settings: str) -> dict[str, dict[str, Any]]:
    """Return the answers that count, by the names of the requests."""
    with duckdb.connect() as connection:
        view_answers(connection, folder, settings or (LONG,))
        rows = named(connection.execute("FROM answers").to_arrow_table().to_pylist())
    assert len({row["request_id"] for row in rows}) == len(rows)
    return {row["request_id"]: row for row in rows}


def test_answers_are_in_files_of_four_thousand_and_all_of_them_after_a_flush(
    tmp_path: Path,
) -> None:
    with SpoolWriter(tmp_path, answered_by()) as writer:
        for number in range(FLUSH_ROWS + 500):
            writer.add(answer(f"request {number}"))
        writer.flush()
        assert len(read(tmp_path)) == FLUSH_ROWS + 500
        files = [path for path in tmp_path.iterdir() if path.name != EMPTY_FILE]
        assert sorted(pq.read_metadata(file).num_rows for file in files) == [500, FLUSH_ROWS]
        writer.flush()  # nothing to write, no file
        assert len(list(tmp_path.iterdir())) == len(files) + 1
    assert len(list(tmp_path.iterdir())) == len(files) + 1


def test_an_engine_that_fails_leaves_what_it_answered(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), SpoolWriter(tmp_path, answered_by()) as writer:
        writer.add(answer("one"))
        raise ZeroDivisionError
    assert read(tmp_path).keys() == {"one"}


def test_answers_come_back_as_they_were_given(tmp_path: Path) -> None:
    rated = Answer(
        uid("rated"), "rate", "stop", label_logprobs={"1": -0.5, "9": -12.25}, cached_tokens=40
    )
    text = 'Émile said: "no"\n\x00\U0001f642 {"a": 1}'
    write(
        tmp_path,
        rated,
        Answer(uid("valued"), "classify", "stop", value=-3.125),
        answer("text", text),
    )
    found = read(tmp_path)
    assert found["rated"]["label_logprobs"] == [
        {"label": "1", "logprob": -0.5},
        {"label": "9", "logprob": -12.25},
    ]
    assert found["rated"]["cached_tokens"] == 40
    assert found["rated"]["text"] is found["text"]["label_logprobs"] is None
    assert found["valued"]["value"] == -3.125
    assert found["text"]["text"] == text
    assert abs(found["text"]["answered_at"] - answer("now").answered_at) < timedelta(minutes=5)
    assert (found["text"]["engine"], found["text"]["engine_version"]) == ("fake", "1")


def test_an_answer_carries_the_hash_of_its_text(tmp_path: Path) -> None:
    write(tmp_path, answer("text", "Émile"), Answer(uid("valued"), "classify", "stop", value=1.0))
    found = read(tmp_path)
    assert found["text"]["text_hash"] == hashlib.sha256("Émile".encode()).hexdigest()
    assert found["valued"]["text_hash"] is None


def test_files_of_earlier_versions_are_read_alone_and_beside_later_ones(tmp_path: Path) -> None:
    old = write(tmp_path, answer("old", "kept"))
    pq.write_table(pq.read_table(old).drop_columns(["text_hash"]), old)
    pq.write_table(ANSWER_SCHEMA.empty_table().drop_columns(["text_hash"]), tmp_path / EMPTY_FILE)
    assert what_is_wrong(old) is None
    assert read(tmp_path)["old"]["text"] == "kept"
    write(tmp_path, answer("new", "kept too"))
    found = read(tmp_path)
    assert {name: one["text"] for name, one in found.items()} == {"old": "kept", "new": "kept too"}
    assert found["old"]["text_hash"] is None


def test_an_empty_folder_has_no_answers(tmp_path: Path) -> None:
    folder = spool_folder(tmp_path, "completions", "model")
    assert read(folder) == {}
    write(folder, answer("one"))
    assert read(folder).keys() == {"one"}
    assert spool_folder(tmp_path, "completions", None) != folder


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(spool, "write_file", refuse)
    with pytest.raises(SpoolError, match=r"spool: cannot be written .*Read-only file system"):
        read(tmp_path / "spool")


def test_of_two_answers_the_first_in_file_order_counts_for_good(tmp_path: Path) -> None:
    files = {write(tmp_path, answer("both", text)): text for text in "abcdef"}
    first = files[min(files)]
    assert read(tmp_path)["both"]["text"] == first
    file = write(tmp_path, answer("twice", "first"), answer("twice", "second"))
    assert read(tmp_path)["twice"]["text"] == "first"
    file.rename(tmp_path / "zzz.parquet")
    assert read(tmp_path)["both"]["text"] == first


def test_a_refusal_counts_only_under_its_settings(tmp_path: Path) -> None:
    write(tmp_path, refusal("wide"), refusal("narrow"), answer("fits"), settings=SHORT)
    assert read(tmp_path, SHORT).keys() == {"wide", "narrow", "fits"}
    assert read(tmp_path, LONG).keys() == {"fits"}
    write(tmp_path, answer("wide"), refusal("narrow"), settings=LONG)
    assert read(tmp_path, LONG)["wide"]["finish_reason"] == "stop"
    assert read(tmp_path, LONG)["narrow"]["finish_reason"] == "context_length"


def test_an_answer_outlives_a_return_to_the_settings_that_refused_it(tmp_path: Path) -> None:
    for attempt in range(8):  # whichever of the two files stands first
        folder = tmp_path / str(attempt)
        write(folder, refusal("wide"), settings=SHORT)
        write(folder, answer("wide"), settings=LONG)
        assert read(folder, SHORT)["wide"]["finish_reason"] == "stop"
        assert read(folder, SHORT, LONG)["wide"]["finish_reason"] == "stop"


@pytest.mark.parametrize("kept", [0, 3, 20, -8])
def test_a_file_without_its_end_does_not_exist(tmp_path: Path, kept: int) -> None:
    broken = write(tmp_path, answer("lost"))
    broken.write_bytes(broken.read_bytes()[:kept])
    assert read(tmp_path) == {}
    write(tmp_path, answer("kept"))
    assert read(tmp_path).keys() == {"kept"}


def write_for_ever(pipe: Connection, folder: Path, name: str) -> None:
    """Write a file of ten answers again and again, and say how many answers are on disk."""
    with SpoolWriter(folder, answered_by()) as writer:
        for number in range(1, 200):
            for row in range(10):
                writer.add(answer(f"{name} {number} {row}", "word " * 200))
            writer.flush()
            pipe.send(number * 10)


@pytest.mark.slow
def test_several_writers_fill_a_folder_that_is_readable_all_the_time(tmp_path: Path) -> None:
    with other(write_for_ever, tmp_path, "a") as one, other(write_for_ever, tmp_path, "b") as two:
        seen = 0
        for _ in range(6):
            promised = one.hear() + two.hear()
            found = len(read(tmp_path))
            assert found >= max(promised, seen)
            assert found % 10 == 0  # files appear whole
            seen = found
    # Killed at any moment, the writers leave whole files; the one at work is not read.
    assert len(read(tmp_path)) % 10 == 0


@pytest.fixture
def worded(materialized: Callable[..., Graph]) -> Graph:
    """A graph with all that does not depend on prompts."""
    return materialized("key:wordings or key:personas")


@pytest.fixture
def completed(worded: Graph) -> Graph:
    """A graph with the completions of one model, every answer in a file of its own."""
    slow = worded.with_inference(seconds_per_request=0.001)
    fill_prompts(slow.warehouse, {f"prompt {number}": "standard" for number in range(30)})
    take_as_made(slow)
    slow.materialize("key:completion_requests or key:completions", MODEL)
    return slow


def test_shared_prefixes_are_asked_back_to_back_and_long_prompts_first(worded: Graph) -> None:
    graph, policy = worded, "smollm2-135m-policy"
    fill_prompts(
        graph.warehouse,
        {"why " * (number % 7 + 1) + str(number): "standard" for number in range(20)},
    )
    take_as_made(graph)
    for model in (MODEL, policy):
        graph.materialize("key:completion_requests or key:completions", model)
    asked = [request["messages"] for request in graph.asked() if request["model"] == policy]
    texts = [messages[-1]["content"] for messages in asked]
    assert len(texts) == 20 * 4
    assert all(len(set(texts[first : first + 4])) == 1 for first in range(0, 80, 4))
    lengths = [len(text) for text in texts]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1]
    systems = [
        request["messages"][0]["content"]
        for request in graph.asked()
        if request["model"] == MODEL and request["messages"][0]["role"] == "system"
    ]
    changes = sum(one != other for one, other in pairwise(systems))
    assert changes == len(set(systems)) - 1 > 3


def test_two_partitions_on_the_same_weights_share_no_answer_and_lose_none(worded: Graph) -> None:
    graph, one, other = worded, "smollm2-135m", "smollm2-135m-policy"
    weights = {graph.recipe.models[name].weights for name in (one, other)}
    assert len(weights) == 1
    fill_prompts(graph.warehouse, {f"prompt {number}": "standard" for number in range(9)})
    take_as_made(graph)
    for model in (one, other):
        graph.materialize("key:completion_requests or key:completions", model)
    query = "SELECT count(*), count(DISTINCT request_id), count(DISTINCT model) FROM completions"
    assert graph.query(query) == [(9 * 3 + 9 * 4, 9 * 3 + 9 * 4, 2)]
    before = len(graph.asked())
    shutil.rmtree(spool_folder(graph.run.spool, "completions", one))
    for model in (one, other):
        graph.materialize("key:completions", model)
    assert {request["model"] for request in graph.asked()[before:]} == {one}
    assert len(graph.asked()) - before == 9 * 3


def test_a_rerun_asks_what_is_missing_and_nothing_else(completed: Graph) -> None:
    rows = completed.query("SELECT completion_id, text FROM completions ORDER BY ALL")
    asked = completed.asked()
    folder = spool_folder(completed.run.spool, "completions", MODEL)
    files = sorted(file for file in folder.glob("*.parquet") if file.name != "0-empty.parquet")
    assert len(files) == len(rows) == 60  # two variants of each prompt
    lost = files[::3]
    with duckdb.connect() as connection:
        missing = connection.execute(
            "SELECT request_id FROM read_parquet($files)", {"files": [str(file) for file in lost]}
        ).fetchall()
    for file in lost:
        file.unlink()

    (result,) = completed.materialize("key:completions", MODEL)

    again = completed.asked()[len(asked) :]
    assert sorted(request["request_id"] for request in again) == sorted(one for (one,) in missing)
    metadata = result.asset_materializations_for_node("completions")[0].metadata
    assert metadata["requests_asked"].value == len(lost)
    assert metadata["answers_reused"].value == len(files) - len(lost)
    assert completed.query("SELECT completion_id, text FROM completions ORDER BY ALL") == rows


def test_a_run_that_asks_nothing_puts_many_small_files_together(
    completed: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "SELECT completion_id, request_id, text FROM completions ORDER BY ALL"
    rows, asked = completed.query(query), len(completed.asked())
    folder = spool_folder(completed.run.spool, "completions", MODEL)
    monkeypatch.setattr(spool_files, "SPARED_FILES", 10)
    for _ in range(2):
        completed.materialize("key:completions", MODEL)
        assert len(list(folder.glob("*.parquet"))) == 2  # with the one that has no rows
    assert completed.query(query) == rows and len(completed.asked()) == asked


def test_answers_under_ids_of_64_digits_are_still_the_answers(completed: Graph) -> None:
    query = "SELECT completion_id, request_id, text FROM completions ORDER BY ALL"
    rows, asked = completed.query(query), len(completed.asked())
    folder = spool_folder(completed.run.spool, "completions", MODEL)
    for number, file in enumerate(sorted(folder.glob("*-*.parquet"))):
        answers = pq.read_table(file)
        (name,) = answers["request_id"].to_pylist() or [None]
        if name and number % 2:  # as earlier versions wrote them: the whole sha256
            longer = pa.array([name.replace("-", "") + "f" * 32])
            place = answers.schema.get_field_index("request_id")
            pq.write_table(answers.set_column(place, "request_id", longer), file)
    completed.materialize("key:completions", MODEL)
    assert completed.query(query) == rows
    assert len(completed.asked()) == asked


def test_an_answer_under_the_older_form_of_an_id_is_the_same_request(tmp_path: Path) -> None:
    first = write(tmp_path, answer("both", "as now"))
    older = Answer(uid("both").replace("-", "") + "f" * 32, "generate", "stop", text="older")
    write(tmp_path, older).rename(tmp_path / "0-before.parquet")
    assert first.exists() and read(tmp_path)["both"]["text"] == "older"


def test_what_is_no_id_answers_nothing(tmp_path: Path) -> None:
    write(tmp_path, Answer("no id", "generate", "stop", text="lost"), answer("kept"))
    with duckdb.connect() as connection:
        read_final(connection, tmp_path, [LONG])
        assert connection.execute("FROM final").fetchall() == [(UUID(uid("kept")),)]


def test_a_changed_question_is_asked_anew_and_a_restored_one_is_not(completed: Graph) -> None:
    query = "SELECT completion_id, request_id, text FROM completions ORDER BY ALL"
    rows, asked = completed.query(query), len(completed.asked())
    selection = "key:completion_requests or key:completions"

    hotter = completed.with_recipe(changed_recipe({f"models.{MODEL}.temperature": 0.9}))
    hotter.materialize(selection, MODEL)
    assert len(hotter.asked()) - asked == len(rows)
    changed = hotter.query(query)
    assert [row[0] for row in changed] == [row[0] for row in rows]  # the same rows,
    assert not {row[1] for row in changed} & {row[1] for row in rows}  # other questions

    completed.materialize(selection, MODEL)
    assert len(completed.asked()) - asked == len(rows)
    assert completed.query(query) == rows


@pytest.mark.timeout(60)
def test_what_is_no_file_is_quarantined_without_opening_it(tmp_path: Path) -> None:
    write(tmp_path, answer("a"))
    (tmp_path / "a-folder.parquet").mkdir()
    (tmp_path / "gone.parquet").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.parquet")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.parquet"))
    kept = tmp_path / "elsewhere"
    told: list[str] = []
    kept.mkdir()
    (kept / "linked").write_bytes(write(kept, answer("b")).read_bytes())
    (tmp_path / "linked.parquet").symlink_to(kept / "linked")

    with duckdb.connect() as connection:
        view_answers(connection, tmp_path, (LONG,), told.append)
        found = connection.execute("SELECT request_id::VARCHAR FROM answers").fetchall()
    assert sorted(named([name for (name,) in found])) == ["a", "b"]
    assert len(told) == 4 and all("this is no file; quarantined" in line for line in told)
    assert len(list(tmp_path.glob("*.torn"))) == 4


def test_a_file_that_goes_meanwhile_ends_no_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = write(tmp_path, answer("one"))
    listings = iter([[kept, tmp_path / "gone.parquet"], [kept]])
    monkeypatch.setattr(spool, "_readable_files", lambda *_: next(listings))
    with duckdb.connect() as connection:
        connection.begin()
        view_answers(connection, tmp_path, (LONG,))
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (1,)
        connection.commit()
