"""Answers on object storage: what machines see of each other's, what a kill costs, what goes."""

from __future__ import annotations

import shutil
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance
from pyarrow import fs

from alignment_assets.commands.doctor import examine
from alignment_assets.gpus.pool import GpuPool
from alignment_assets.inference import answer_log, stored_spool
from alignment_assets.inference.object_store import ObjectStore, StoreError
from alignment_assets.inference.spool import (
    EMPTY_FILE,
    SpoolWriter,
    merge_small_files,
    read_final,
    spool_folder,
    view_answers,
    whole_files,
)
from alignment_assets.inference.stored_spool import GONE, PUT_ROWS, stored_folder
from alignment_assets.inference.types import Answer, AnsweredBy
from alignment_assets.recipe.load import RecipeError
from alignment_assets.recipe.run import Run
from alignment_assets.requests.removals import plan_matching, remove_answers
from alignment_assets.requests.spool_care import list_spool, verify_spool
from alignment_assets.warehouse.resource import Warehouse
from tests.conftest import Graph, changed_recipe
from tests.support.fakes import FakeInference
from tests.support.processes import other, wait_for_word
from tests.support.s3 import S3Server, s3_server

pytestmark = pytest.mark.needs("s3")

ENGINE = AnsweredBy("fake", "1", "{}")
ASSET, MODEL = "completions", "smollm2-135m"
KEYS = ("access-key-of-tests", "very-secret-key-of-tests")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as started:
        yield started


@pytest.fixture
def store(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket, with what clients need in the environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"{server.create_bucket(f'lab-{uuid.uuid4().hex}')}/demo"


def machine(home: Path, store: str) -> Run:
    """Return the run of a machine with a home of its own."""
    return Run(changed_recipe({"spool": store}), home)


@pytest.fixture
def one(tmp_path: Path, store: str) -> Run:
    return machine(tmp_path / "one", store)


@pytest.fixture
def two(tmp_path: Path, store: str) -> Run:
    return machine(tmp_path / "two", store)


def folder_of(run: Run) -> Path:
    return spool_folder(run.spool, ASSET, MODEL)


def answer(request: str, text: str = "yes") -> Answer:
    request_id = uuid.UUID(bytes=request.encode().ljust(16, b"\0"))
    return Answer(str(request_id), "generate", "stop", text=text)


def write(run: Run, *requests: str, text: str = "yes") -> None:
    """Have a machine answer requests, all in one file."""
    with SpoolWriter(folder_of(run), ENGINE) as writer:
        for request in requests:
            writer.add(answer(request, text))


def read(run: Run, report: Callable[[str], None] = print) -> dict[str, str]:
    """Return the text that counts of each request, as a run of the machine reads it."""
    with duckdb.connect() as connection:
        view_answers(connection, folder_of(run), ["{}"], report)
        rows = connection.execute("SELECT request_id, text FROM answers").fetchall()
        read_final(connection, folder_of(run), ["{}"], report)
        final = {row for (row,) in connection.execute("FROM final").fetchall()}
    assert final == {request for request, _ in rows}
    return {request.bytes.rstrip(b"\0").decode(): text for request, text in rows}


def answers_in(server: S3Server, store: str) -> dict[str, int]:
    """Return the bytes of each object of answers, by its name."""
    return {name: size for name, size in objects_in(server, store).items() if GONE not in name}


def objects_in(server: S3Server, store: str) -> dict[str, int]:
    key = f"{store.removeprefix('s3://')}/{ASSET}/{MODEL}"
    found = server.files.get_file_info(fs.FileSelector(key, allow_not_found=True))
    return {info.base_name: info.size for info in found if info.is_file}


def copies_of(run: Run) -> set[str]:
    return {path.name for path in folder_of(run).glob("*.parquet")} - {EMPTY_FILE}


def remove(run: Run, where: str) -> int:
    """Remove answers as `tidy --where` does; return how many went."""
    warehouse = Warehouse(database=str(run.database))
    removals = remove_answers(warehouse, lambda connection: plan_matching(run, where))
    return sum(removal.dropped for removal in removals)


def test_what_one_machine_answers_the_other_reads(one: Run, two: Run) -> None:
    write(one, "a", "b")
    assert read(two) == {"a": "yes", "b": "yes"}
    write(two, "c", text="no")
    assert read(one) == {"a": "yes", "b": "yes", "c": "no"}
    assert list_spool(two)["answers"].to_pylist() == [3]
    assert copies_of(one) == copies_of(two) and len(copies_of(one)) == 2


def test_a_machine_that_has_nothing_yet_lists_what_is_there(one: Run, two: Run) -> None:
    write(one, "a")
    assert list_spool(two).select(["asset", "partition", "answers"]).to_pylist() == [
        {"asset": ASSET, "partition": MODEL, "answers": 1}
    ]


def test_an_object_is_read_once(one: Run, two: Run, server: S3Server) -> None:
    write(one, "a", "b")
    read(two)
    inodes = {path.name: path.stat().st_ino for path in folder_of(two).iterdir()}
    read(two)
    assert inodes == {path.name: path.stat().st_ino for path in folder_of(two).iterdir()}


def add_and_wait(pipe: Connection, folder: Path, count: int) -> None:
    """Answer so many requests and wait for the kill."""
    with SpoolWriter(folder, ENGINE) as writer:
        for number in range(count):
            writer.add(answer(f"{number}"))
        wait_for_word(pipe)


def on_disk(run: Run) -> int:
    """Return how many answers a machine's own disk has, in files and logs."""
    count = 0
    for path in folder_of(run).glob("*"):
        with suppress(FileNotFoundError):  # a log that became a file meanwhile
            if path.suffix == ".parquet":
                count += pq.read_metadata(path).num_rows
            elif path.suffix == ".log":
                tables, _, _ = answer_log._read_records(path, path.read_bytes())
                count += sum(map(len, tables))
    return count


def test_a_killed_machine_costs_what_was_not_put_and_nothing_when_it_comes_back(
    one: Run, two: Run, server: S3Server, store: str
) -> None:
    """The first 1,000 answers are put while the engine goes on; the rest is in the local log."""
    total = PUT_ROWS + 300
    with other(add_and_wait, folder_of(one), total) as writer:
        wait_until(lambda: len(answers_in(server, store)) >= 1 and on_disk(one) == total)
        writer.kill()
    assert PUT_ROWS <= len(read(two)) <= total
    assert len(read(one)) == len(read(two)) == total
    assert not list(folder_of(one).glob("*.log"))


def test_few_answers_are_put_after_seconds(
    one: Run, two: Run, server: S3Server, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alignment_assets.inference.spool.PUT_SECONDS", 0.2)
    with SpoolWriter(folder_of(one), ENGINE) as writer:
        writer.add(answer("a"))
        wait_until(lambda: len(answers_in(server, store)) == 1)
        assert read(two) == {"a": "yes"}


def put_and_die(pipe: Connection, folder: Path) -> None:
    """Answer, and say so when the file is there and before it is put; then wait for the kill."""

    def stop(path: Path) -> None:
        pipe.send(path.name)
        wait_for_word(pipe)

    ObjectStore.put = lambda self, path: stop(path)  # type: ignore[method-assign]
    with SpoolWriter(folder, ENGINE) as writer:
        writer.add(answer("a"))


def test_a_file_that_was_not_put_before_the_kill_is_put_by_the_next_process(
    one: Run, two: Run
) -> None:
    with other(put_and_die, folder_of(one)) as writer:
        writer.hear()
    assert read(two) == {}
    assert read(one) == {"a": "yes"}
    assert read(two) == {"a": "yes"}


def test_hundreds_of_small_objects_are_put_together_for_both(
    one: Run, two: Run, server: S3Server, store: str
) -> None:
    count = 200
    for number in range(count):
        write(one, f"{number}", "always", text=f"text {number}")
    before = read(two)
    assert len(copies_of(two)) == count and len(before) == count + 1

    told: list[str] = []
    merge_small_files(folder_of(one), nullcontext, told.append)

    assert any("200 files of answers are 1 now" in line for line in told)
    assert len(answers_in(server, store)) == 1
    assert read(one) == read(two) == before
    assert copies_of(one) == copies_of(two) == set(answers_in(server, store))


def test_a_machine_that_was_away_takes_no_answer_back_that_was_merged_or_removed(
    one: Run, two: Run, server: S3Server, store: str
) -> None:
    for number in range(70):
        write(one, f"{number}")
    read(two)
    merge_small_files(folder_of(one), nullcontext)
    assert remove(one, f"request_id = '{answer('7').request_id}'") == 1
    write(two, "new")
    left = {f"{number}" for number in range(70) if number != 7} | {"new"}
    assert set(read(two)) == set(read(one)) == left
    assert len(answers_in(server, store)) == 2
    assert copies_of(two) == set(answers_in(server, store))


def test_removed_answers_are_in_no_object_and_no_copy(
    one: Run, two: Run, server: S3Server, store: str
) -> None:
    write(one, "kept", "secret")
    write(one, "alone")
    read(two)
    assert remove(two, "text = 'yes' AND request_id <> '" + answer("kept").request_id + "'") == 2
    assert read(one) == read(two) == {"kept": "yes"}
    assert len(answers_in(server, store)) == len(copies_of(one)) == 1
    # A new machine, and one whose home was copied before.
    assert read(machine(one.home.with_name("three"), store)) == {"kept": "yes"}


def test_a_partition_without_answers_is_listed_no_more(one: Run, two: Run) -> None:
    folder = spool_folder(one.spool, ASSET, "left")
    with SpoolWriter(folder, ENGINE) as writer:
        writer.add(answer("a"))
    assert list_spool(two)["partition"].to_pylist() == ["left"]
    assert remove(one, "true") == 1
    assert list_spool(one).num_rows == list_spool(two).num_rows == 0


def test_rows_withdrawn_while_another_machine_merges_their_file_go_too(
    one: Run, two: Run, server: S3Server, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The merge puts its file, then finds what is gone: it takes its own file away again."""
    for number in range(70):
        write(one, f"{number}")
    read(two)
    put = ObjectStore.put

    def withdraw_first(self: ObjectStore, path: Path) -> None:
        if "+" in path.name and "two" in str(path):
            monkeypatch.setattr(ObjectStore, "put", put)
            assert remove(one, f"request_id = '{answer('7').request_id}'") == 1
        put(self, path)

    monkeypatch.setattr(ObjectStore, "put", withdraw_first)
    merge_small_files(folder_of(two), nullcontext)
    assert ObjectStore.put is put, "nothing was merged"
    left = {f"{number}" for number in range(70) if number != 7}
    assert set(read(two)) == set(read(one)) == left


def test_a_merge_that_was_put_before_the_removal_is_looked_through_again(
    one: Run, two: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The removal's plan knows the small files; the other machine has merged them by then."""
    for number in range(70):
        write(one, f"{number}")
    read(two)
    planned = []

    def plan(connection: duckdb.DuckDBPyConnection) -> list[object]:
        removals = plan_matching(one, f"request_id = '{answer('7').request_id}'")
        if not planned:
            merge_small_files(folder_of(two), nullcontext)
        planned.append(removals)
        return removals  # type: ignore[return-value]

    remove_answers(Warehouse(database=str(one.database)), plan)  # type: ignore[arg-type]
    left = {f"{number}" for number in range(70) if number != 7}
    assert set(read(two)) == set(read(one)) == left


def test_a_damaged_list_of_what_is_gone_brings_nothing_back(one: Run, two: Run) -> None:
    write(one, "a", "b")
    read(two)
    assert remove(one, f"request_id = '{answer('b').request_id}'") == 1
    assert read(two) == {"a": "yes"}
    (gone,) = folder_of(two).glob("*.gone")
    gone.write_bytes(gone.read_bytes()[:-5])
    with pytest.raises(StoreError, match=r"\.gone: this list of what is gone cannot be read"):
        read(two)
    gone.unlink()
    assert read(two) == {"a": "yes"}


def test_an_emptied_bucket_is_filled_again_from_copies(
    one: Run, server: S3Server, store: str
) -> None:
    """Only a list of what is gone removes a copy: answers cost engines hours."""
    write(one, "a", "b")
    server.files.delete_dir_contents(store.removeprefix("s3://"))
    assert read(one) == {"a": "yes", "b": "yes"}
    assert len(answers_in(server, store)) == 1


def test_answers_of_a_plain_spool_that_are_copied_in_are_put(
    one: Run, two: Run, tmp_path: Path
) -> None:
    plain = Run(changed_recipe(), tmp_path / "plain")
    write(plain, "a")
    shutil.copytree(plain.spool, one.spool)
    assert read(one) == read(two) == {"a": "yes"}


def test_a_damaged_copy_is_fetched_again_and_a_damaged_object_goes(
    one: Run, two: Run, server: S3Server, store: str
) -> None:
    write(one, "a")
    write(one, "b")
    first, second = sorted(copies_of(one))
    copy = folder_of(one) / first
    copy.write_bytes(copy.read_bytes()[:-20])
    told: list[str] = []
    assert set(read(one, told.append)) == {"a", "b"}
    assert len(told) == 1 and "the file is torn; fetched again from object storage" in told[0]
    assert not list(folder_of(one).glob("*.torn"))

    content = bytearray(copy.read_bytes())
    content[content.index(b"PAR1", 0) + 10] ^= 0xFF  # as long as before: every byte has to be read
    copy.write_bytes(content)
    rows, lines = verify_spool(one)
    assert len(lines) == 1 and lines[0].endswith("fetched again from object storage")
    assert rows["quarantined"].to_pylist() == [0] and set(read(one)) == {"a", "b"}

    key = f"{store.removeprefix('s3://')}/{ASSET}/{MODEL}/{second}"
    with server.files.open_output_stream(key) as sink:
        sink.write(b"no Parquet")
    (folder_of(one) / second).unlink()
    told.clear()
    left = set(read(one, told.append))
    assert len(left) == 1 and f"quarantined as {second}.torn" in told[0]
    read(two)
    assert set(answers_in(server, store)) == copies_of(one) == copies_of(two) == {first}


def test_a_store_that_is_away_ends_the_run_with_its_name_and_keeps_answers(
    one: Run, two: Run, monkeypatch: pytest.MonkeyPatch, server: S3Server, store: str
) -> None:
    folder_of(one).mkdir(parents=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot put") as failed:
        write(one, "a", "b")
    message = str(failed.value)
    assert f"{store}/{ASSET}/{MODEL}" in message and str(folder_of(one)) in message
    assert "see that the storage runs" in message and "run this again" in message
    with pytest.raises(StoreError, match="cannot list objects"):
        read(one)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    assert read(one) == read(two) == {"a": "yes", "b": "yes"}


def test_an_engine_goes_on_while_the_store_is_away_for_a_moment(
    one: Run, two: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_spool, "RETRY_SECONDS", 0.01)
    put, tries = ObjectStore.put, []

    def refuse_twice(self: ObjectStore, path: Path) -> None:
        tries.append(path)
        if len(tries) < 3:
            raise StoreError("away")
        put(self, path)

    monkeypatch.setattr(ObjectStore, "put", refuse_twice)
    with SpoolWriter(folder_of(one), ENGINE) as writer:
        writer.add(answer("a"))
        writer.flush()
        assert len(tries) == 3
        writer.add(answer("b"))
    assert set(read(two)) == {"a", "b"}


def test_an_engine_ends_when_the_store_is_away_for_long(
    one: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_spool, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(stored_spool, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("alignment_assets.inference.spool.PUT_SECONDS", 0.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="cannot put"), SpoolWriter(folder_of(one), ENGINE) as w:
        w.add(answer("a"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            w.tick()
            time.sleep(0.01)
    assert len(copies_of(one)) == 1


def test_doctor_tells_of_storage_and_goes_on_without(
    one: Run, monkeypatch: pytest.MonkeyPatch, server: S3Server
) -> None:
    def verdicts() -> dict[str, str]:
        resources = {
            "warehouse": Warehouse(database=str(one.database)),
            "inference": FakeInference(),
            "gpus": GpuPool(),
        }
        return {finding.subject: finding.verdict for finding in examine(one, resources)}

    assert verdicts()["spool"] == "ok"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = verdicts()
    assert away["spool"] == "problem" and away["database"] == "ok"


def test_a_bucket_that_is_missing_is_named(server: S3Server, tmp_path: Path, store: str) -> None:
    run = machine(tmp_path / "home", "s3://nobodys-bucket/demo")
    with pytest.raises(StoreError, match="there is no bucket nobodys-bucket; make it"):
        read(run)


def test_a_store_that_refuses_is_named_and_keys_are_never_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is told to look at keys, of which it knows none."""
    with s3_server(tmp_path / "log") as strict:
        bucket = strict.create_bucket("lab")
        for name, value in strict.environment.items():
            monkeypatch.setenv(name, value)
        look = urllib.request.Request(
            f"{strict.url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(look).close()
        run = machine(tmp_path / "home", f"{bucket}/demo")
        with pytest.raises(StoreError) as listed:
            read(run)
        with pytest.raises(StoreError) as put:
            write(run, "a")
    for failed in (listed, put):
        assert f"{bucket}/demo/{ASSET}/{MODEL}" in str(failed.value)
        told = f"{failed.value} {failed.value.__cause__!r}"
        assert not any(key in told for key in KEYS)
        assert "INVALID_ACCESS_KEY_ID" in told or "ACCESS_DENIED" in told
    assert len(copies_of(run)) == 1
    kept = b"".join(path.read_bytes() for path in run.home.rglob("*") if path.is_file())
    assert not any(key.encode() in kept for key in KEYS)


def test_places_of_a_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNMENT_HOME", str(tmp_path))
    monkeypatch.delenv("ALIGNMENT_LIMIT", raising=False)
    assert Run.of(changed_recipe()).spool == tmp_path / "spool"
    shared = changed_recipe({"spool": "../shared"})
    assert Run.of(shared).spool == shared.file.parent.parent / "shared"
    stored = changed_recipe({"spool": "s3://lab/answers/demo/"})
    assert stored.spool == "s3://lab/answers/demo"
    assert Run.of(stored).spool == tmp_path / "spool.s3/lab/answers/demo"
    monkeypatch.setenv("ALIGNMENT_LIMIT", "5")
    limited = tmp_path / "limit-5"
    assert Run.of(changed_recipe()).spool == limited / "spool"
    assert Run.of(shared).spool == shared.file.parent.parent / "shared/limit-5"
    assert Run.of(stored).spool == limited / "spool.s3/lab/answers/demo/limit-5"
    assert stored_folder(tmp_path / "spool" / ASSET) is None


@pytest.mark.parametrize(
    "place",
    [
        "s3://",
        "s3://Lab/x",
        "s3://lab/../x",
        "s3://lab//x",
        "s3://key:secret@lab/x",
        "gs://lab/x",
        "s3://lab/x?endpoint_override=http://somewhere",
        "/data/spool.s3/lab",
    ],
)
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(RecipeError, match="spool"):
        changed_recipe({"spool": place})


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_only_whole_files_of_answers_are_put(one: Run, server: S3Server, store: str) -> None:
    write(one, "a")
    (folder_of(one) / "torn.parquet").write_bytes(b"PAR1 and no end")
    (folder_of(one) / "notes.txt").write_text("mine")
    told: list[str] = []
    whole_files(folder_of(one), told.append)
    assert set(objects_in(server, store)) == copies_of(one) and len(copies_of(one)) == 1
    assert len(told) == 1 and "quarantined as torn.parquet.torn" in told[0]


ROWS = {
    "completions": "SELECT * EXCLUDE (answered_at) FROM completions ORDER BY ALL",
    **{table: f"FROM {table} ORDER BY ALL" for table in ("rewards", "dpo_pairs", "qrpo_samples")},
}


def test_the_graph_makes_the_rows_that_it_makes_with_a_folder(
    materialized: Callable[..., Graph], tmp_path: Path, store: str
) -> None:
    """And another machine, with a home of its own, asks for nothing that this one was answered."""
    plain = materialized()
    rows = {table: plain.query(query) for table, query in ROWS.items()}
    assert all(rows.values()) and plain.asked()
    told = []
    for name in ("one", "two"):
        folder = tmp_path / name
        inference = FakeInference(log=str(folder / "asked.jsonl"))
        with DagsterInstance.ephemeral() as instance:
            graph = Graph(changed_recipe({"spool": store}), folder / "home", instance, inference)
            results = graph.materialize()
            for result in results:
                told += [entry.to_json() for entry in instance.all_logs(result.run_id)]
        assert len(graph.asked()) == (len(plain.asked()) if name == "one" else 0)
        assert {table: graph.query(query) for table, query in ROWS.items()} == rows
        told += [
            path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()
        ]
    assert not any(key in text for key in KEYS for text in told)
