"""Answers that are in no file yet: what a kill, damage, a full disk and other readers leave."""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from alignment_assets.inference import answer_log, log_writer, spool, spool_files
from alignment_assets.inference.log_writer import SYNC_ROWS, UnwritableError
from alignment_assets.inference.spool import (
    EMPTY_FILE,
    SpoolError,
    SpoolWriter,
    merge_small_files,
    read_final,
    view_answers,
    whole_files,
)
from alignment_assets.inference.types import Answer, AnsweredBy
from tests.support.processes import other, wait_for_word

ENGINE = AnsweredBy("fake", "1", "{}")


def answer(request: str, text: str = "yes") -> Answer:
    """Return an answer to a request whose id holds a name, so that other processes give it too."""
    request_id = uuid.UUID(bytes=request.encode().ljust(16, b"\0"))
    return Answer(str(request_id), "generate", "stop", text=text)


def name_in(request_id: uuid.UUID | str) -> str:
    return uuid.UUID(str(request_id)).bytes.rstrip(b"\0").decode()


def read(folder: Path, report: Callable[[str], None] = print) -> dict[str, str]:
    """Return the text that counts of each request, as a run reads it."""
    with duckdb.connect() as connection:
        view_answers(connection, folder, ["{}"], report)
        rows = connection.execute("SELECT request_id, text FROM answers").fetchall()
        read_final(connection, folder, ["{}"], report)
        assert {row for (row,) in connection.execute("FROM final").fetchall()} == {
            request for request, _ in rows
        }
    assert len(dict(rows)) == len(rows)
    return {name_in(request): text for request, text in rows}


def answers_of(*files: Path) -> list[str]:
    rows = [row for file in files for row in pq.read_table(file)["request_id"].to_pylist()]
    return [name_in(row) for row in rows]


def files_of(folder: Path) -> list[Path]:
    return [path for path in whole_files(folder) if path.name != EMPTY_FILE]


def logs_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


def add_and_wait(pipe: Connection, folder: Path, parts: int) -> None:
    """Add 64 answers and wait until they are in the log, some times; then wait to be killed."""
    with SpoolWriter(folder, ENGINE) as writer:
        size = 0
        for part in range(parts):
            for number in range(SYNC_ROWS):
                writer.add(answer(f"{part} {number}", f"text {part} {number}"))
            while not logs_of(folder) or logs_of(folder)[0].stat().st_size == size:
                time.sleep(0.001)
            size = wait_until_still(folder)
        pipe.send(size)
        wait_for_word(pipe)


def wait_until_still(folder: Path) -> int:
    """Wait until a log has grown by whole records, which may come in two parts."""
    while True:
        (log,) = logs_of(folder)
        tables, torn, damaged = answer_log._read_records(log, log.read_bytes())
        if not torn and not damaged and sum(map(len, tables)) % SYNC_ROWS == 0:
            return log.stat().st_size
        time.sleep(0.001)


def killed_with(folder: Path, parts: int) -> Path:
    """Kill a writer with so many records in its log; return the log."""
    with other(add_and_wait, folder, parts) as writer:
        writer.hear()
    (log,) = logs_of(folder)
    return log


def record_ends(log: Path) -> list[int]:
    """Return where each of a log's records ends."""
    content, ends = log.read_bytes(), [0]
    marker = bytes.fromhex(log.name[:32])
    while ends[-1] < len(content):
        _, end = answer_log._read_record(content, ends[-1], marker)
        ends.append(end)
    return ends[1:]


def test_answers_of_a_killed_writer_are_read_and_its_log_becomes_a_file(tmp_path: Path) -> None:
    told: list[str] = []
    log = killed_with(tmp_path, 3)
    expected = {f"{p} {n}": f"text {p} {n}" for p in range(3) for n in range(SYNC_ROWS)}
    assert read(tmp_path, told.append) == expected
    assert not log.exists() and log.with_suffix(".parquet") in files_of(tmp_path)
    assert read(tmp_path, told.append) == expected
    assert told == []


def test_few_answers_are_in_the_log_though_no_more_come(tmp_path: Path) -> None:
    with other(write_one, tmp_path) as writer:
        writer.hear()
        while not read_log(tmp_path):
            time.sleep(0.001)
    assert read(tmp_path).keys() == {"one"}


def write_one(pipe: Connection, folder: Path) -> None:
    with SpoolWriter(folder, ENGINE) as writer:
        writer.add(answer("one"))
        pipe.send("added")
        wait_for_word(pipe)


def read_log(folder: Path) -> list[str]:
    """Return what the logs have answered so far."""
    found: list[str] = []
    for log in logs_of(folder):
        for table in answer_log._read_records(log, log.read_bytes())[0]:
            found += map(name_in, table["request_id"].to_pylist())
    return found


@pytest.mark.parametrize("cut", [1, 27, 28, 29, 500, -1])
def test_a_torn_tail_costs_its_own_answers_alone(tmp_path: Path, cut: int) -> None:
    log = killed_with(tmp_path, 2)
    content, ends = log.read_bytes(), record_ends(log)
    log.write_bytes(content[: ends[-2] + cut] if cut > 0 else content[:cut])
    lost = len(read_torn(log))
    told: list[str] = []
    kept = read(tmp_path, told.append)
    assert kept.keys() >= {f"0 {number}" for number in range(SYNC_ROWS)}
    assert len(kept) == lost
    assert len(told) == 1 and str(log) in told[0] and "cut off" in told[0]
    assert not log.exists() and not list(tmp_path.glob("*.torn"))


def read_torn(log: Path) -> list[str]:
    return [
        name_in(row)
        for table in answer_log._read_records(log, log.read_bytes())[0]
        for row in table["request_id"].to_pylist()
    ]


def test_zeros_at_the_end_of_a_log_are_a_torn_tail(tmp_path: Path) -> None:
    log = killed_with(tmp_path, 1)
    log.write_bytes(log.read_bytes() + bytes(4096))
    assert len(read(tmp_path)) == SYNC_ROWS
    assert not logs_of(tmp_path)


@pytest.mark.parametrize("place", [0, 16, 20, 24, 28, 40, 700])
def test_damage_inside_a_log_costs_its_record_alone_and_the_log_is_kept(
    tmp_path: Path, place: int
) -> None:
    log = killed_with(tmp_path, 3)
    content, ends = bytearray(log.read_bytes()), record_ends(log)
    assert len(ends) >= 3
    content[ends[0] + place] ^= 0xFF
    log.write_bytes(content)
    told: list[str] = []
    kept = read(tmp_path, told.append)
    assert 0 < len(kept) < 3 * SYNC_ROWS
    assert kept.keys() >= {f"2 {number}" for number in range(SYNC_ROWS)}
    assert len(told) == 1 and str(log) in told[0] and "damaged" in told[0]
    (aside,) = tmp_path.glob("*.torn")
    assert aside.read_bytes() == bytes(content)
    assert read(tmp_path, told.append) == kept and len(told) == 1


@pytest.mark.timeout(60)
def test_what_is_no_log_is_quarantined_with_a_line_each(tmp_path: Path) -> None:
    log = killed_with(tmp_path, 1)
    content = log.read_bytes()
    (tmp_path / "a-folder.log").mkdir()
    (tmp_path / "link.log").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.log")
    (tmp_path / "garbage.log").write_bytes(content)  # names no writer
    (tmp_path / f"{'0' * 32}-0.log").write_bytes(b"nothing of ours")
    (tmp_path / "empty.log").touch()
    told: list[str] = []
    assert len(read(tmp_path, told.append)) == SYNC_ROWS
    assert len(told) == len(list(tmp_path.glob("*.torn"))) == 5
    assert not logs_of(tmp_path)


def test_a_record_with_other_columns_is_damage(tmp_path: Path) -> None:
    import pyarrow as pa

    log = answer_log.AnswerLog(tmp_path, "ab" * 16, 0)
    log.append([pa.RecordBatch.from_pydict({"request_id": ["a"]})])
    log.close()
    told: list[str] = []
    assert read(tmp_path, told.append) == {}
    assert len(told) == 1 and "damaged" in told[0]


def test_a_live_writers_log_is_left_to_it_and_loses_nothing(tmp_path: Path) -> None:
    with other(add_and_wait, tmp_path, 2) as writer:
        writer.hear()
        (log,) = logs_of(tmp_path)
        content = log.read_bytes()
        assert read(tmp_path) == {}
        assert log.read_bytes() == content
        writer.tell()
        assert writer.end() == 0
    assert len(read(tmp_path)) == 2 * SYNC_ROWS
    assert not logs_of(tmp_path)


def test_a_writer_whose_log_was_taken_writes_another(tmp_path: Path) -> None:
    """Where locks do not work, a reader on another host takes a live log for a dead one's."""
    with other(add_more_when_told, tmp_path) as writer:
        writer.hear()
        (log,) = logs_of(tmp_path)
        answer_log._settle(log, print)  # what a reader does that is not kept out
        assert read(tmp_path).keys() == {"first"}
        writer.tell()
        writer.hear()
        while set(read_log(tmp_path)) != {"first", "second"}:
            time.sleep(0.001)
    assert read(tmp_path).keys() == {"first", "second"}


def add_more_when_told(pipe: Connection, folder: Path) -> None:
    with SpoolWriter(folder, ENGINE) as writer:
        for name in ("first", "second"):
            writer.add(answer(name))
            while name not in read_log(folder):
                time.sleep(0.001)
            pipe.send(name)
            wait_for_word(pipe)


def settle_slowly(pipe: Connection, folder: Path) -> None:
    """Read a folder; wait for a word before a file gets its name."""
    sync = os.fsync

    def wait_and_sync(descriptor: int) -> None:
        pipe.send("syncing")
        wait_for_word(pipe)
        sync(descriptor)

    os.fsync = wait_and_sync
    answer_log.settle_logs(folder, print)
    pipe.send("done")


def settle(pipe: Connection, folder: Path) -> None:
    pipe.send("started")
    answer_log.settle_logs(folder, print)
    pipe.send(len(list(folder.glob("*.parquet"))))


def test_a_second_reader_waits_for_the_first_and_finds_all_answers(tmp_path: Path) -> None:
    killed_with(tmp_path, 1)
    with other(settle_slowly, tmp_path) as first:
        assert first.hear() == "syncing"
        with other(settle, tmp_path) as second:
            assert second.hear() == "started"
            assert not second.pipe.poll(0.2)  # it says nothing before the first is done
            for _ in range(2):  # the file, the folder
                first.tell()
                word = first.hear()
            assert word == "done" and second.hear() == 1
    assert sorted(answers_of(*files_of(tmp_path))) == sorted(f"0 {n}" for n in range(SYNC_ROWS))


@pytest.mark.parametrize("syncs", [1, 2])
def test_a_reader_killed_while_it_makes_the_file_costs_and_doubles_nothing(
    tmp_path: Path, syncs: int
) -> None:
    killed_with(tmp_path, 1)
    with other(settle_slowly, tmp_path) as reader:
        for _ in range(syncs - 1):
            reader.hear()
            reader.tell()
        assert reader.hear() == "syncing"
        reader.kill()
    assert len(read(tmp_path)) == SYNC_ROWS
    assert len(answers_of(*files_of(tmp_path))) == SYNC_ROWS
    assert not logs_of(tmp_path)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["fdatasync", "fsync"])
def test_a_full_disk_is_raised_where_answers_are_added(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, broken, full_disk)
    with pytest.raises(UnwritableError, match="No space left"), SpoolWriter(tmp_path, ENGINE) as w:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            w.add(answer("one"))
            w.tick()
            time.sleep(0.001)
    monkeypatch.undo()
    assert read(tmp_path).keys() <= {"one"}  # no lock is left behind
    assert not logs_of(tmp_path)


@pytest.mark.parametrize("call", ["flush", "tick", "end"])
def test_a_full_disk_is_raised_where_none_are_added(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_files.pq, "write_table", full_disk)
    with pytest.raises(UnwritableError, match="No space left"), SpoolWriter(tmp_path, ENGINE) as w:
        w.add(answer("one"))
        if call != "end":
            with pytest.raises(UnwritableError, match="No space left"):
                w.flush()
        if call == "tick":
            with pytest.raises(UnwritableError, match="No space left"):
                w.tick()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_disk_too_full_for_a_dead_writers_file_is_told_in_a_line_and_the_log_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_with(tmp_path, 1)
    monkeypatch.setattr(spool_files.pq, "write_table", full_disk)
    with pytest.raises(SpoolError, match="No space left"):
        read(tmp_path)
    monkeypatch.undo()
    assert len(read(tmp_path)) == SYNC_ROWS


def test_an_engine_waits_for_a_disk_that_does_not_keep_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST_WAITING", 10)
    most = 0
    with SpoolWriter(tmp_path, ENGINE) as writer:
        for number in range(500):
            writer.add(answer(str(number)))
            most = max(most, len(writer._log._waiting))
    assert most <= 10
    assert len(read(tmp_path)) == 500


def test_answers_become_a_file_after_a_while_though_no_more_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FLUSH_SECONDS", 0.01)
    with SpoolWriter(tmp_path, ENGINE) as writer:
        writer.add(answer("one"))
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("*-*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read(tmp_path).keys() == {"one"}


# -- many small files ------------------------------------------------------------------------------


def write_small_files(folder: Path, count: int) -> None:
    """Write files as slow endpoints left them: a few answers each, some to the same request."""
    for writer in range(2):
        name = f"{writer:032x}"
        for number in range(count // 2):
            with SpoolWriter(folder / "made", ENGINE) as one:
                one.add(answer(f"{writer} {number}", f"{writer} {number}"))
                one.add(answer(f"twice {number}", f"of {writer}"))
            (made,) = (folder / "made").glob("*.parquet")
            made.rename(folder / f"{name}-{2 * number:08d}.parquet")
    (folder / "made").rmdir()


def test_many_small_files_become_few_and_the_same_answers_count(tmp_path: Path) -> None:
    write_small_files(tmp_path, 80)
    before, rows = read(tmp_path), answers_of(*files_of(tmp_path))
    told: list[str] = []
    merge_small_files(tmp_path, nullcontext, told.append)
    (file,) = files_of(tmp_path)
    assert len(told) == 1 and "80 files of answers are 1 now" in told[0]
    assert answers_of(file) == rows
    assert read(tmp_path) == before and before["twice 0"] == "of 0"
    merge_small_files(tmp_path, nullcontext, told.append)
    assert files_of(tmp_path) == [file] and len(told) == 1


@pytest.mark.parametrize(("name", "files"), [("00000041", 3), ("00000042-x", 61)])
def test_a_large_file_between_small_ones_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: int
) -> None:
    write_small_files(tmp_path, 80)
    with SpoolWriter(tmp_path / "made", ENGINE) as writer:
        for number in range(40):
            writer.add(answer(f"twice {number}", "of the large one" + os.urandom(9000).hex()))
    (large,) = (tmp_path / "made").glob("*.parquet")
    monkeypatch.setattr(spool_files, "SMALL_BYTES", large.stat().st_size)
    large.rename(tmp_path / f"{0:032x}-{name}.parquet")  # one that a writer gives, and none
    before, rows = read(tmp_path), answers_of(*files_of(tmp_path))
    assert before["twice 20"] == "of 0" and before["twice 21"].startswith("of the large one")
    merge_small_files(tmp_path, nullcontext)
    assert len(files_of(tmp_path)) == files
    assert answers_of(*files_of(tmp_path)) == rows and read(tmp_path) == before


def test_merged_files_are_bounded_and_merged_again_when_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_files(tmp_path, 90)
    before, rows = read(tmp_path), answers_of(*files_of(tmp_path))
    size = files_of(tmp_path)[0].stat().st_size
    monkeypatch.setattr(spool_files, "MERGED_BYTES", size * 10)
    merge_small_files(tmp_path, nullcontext)
    assert 9 <= len(files_of(tmp_path)) <= 12
    assert answers_of(*files_of(tmp_path)) == rows and read(tmp_path) == before
    monkeypatch.undo()
    monkeypatch.setattr(spool_files, "SPARED_FILES", 2)
    merge_small_files(tmp_path, nullcontext)
    assert len(files_of(tmp_path)) == 1
    assert answers_of(*files_of(tmp_path)) == rows and read(tmp_path) == before


def merge_and_say(pipe: Connection, folder: Path) -> None:
    """Merge; wait for a word before each file is removed."""
    unlink = Path.unlink

    def wait_and_unlink(path: Path, missing_ok: bool = False) -> None:
        pipe.send(path.name)
        wait_for_word(pipe)
        unlink(path, missing_ok=missing_ok)

    Path.unlink = wait_and_unlink  # type: ignore[method-assign]
    merge_small_files(folder, nullcontext)


@pytest.mark.parametrize("removed", [0, 1, 40])
def test_a_merge_killed_at_any_moment_changes_no_answer(tmp_path: Path, removed: int) -> None:
    write_small_files(tmp_path, 80)
    before = read(tmp_path)
    with other(merge_and_say, tmp_path) as merging:
        for _ in range(removed):
            merging.hear()
            merging.tell()
        merging.hear()
        merging.kill()
    assert len(files_of(tmp_path)) == 81 - removed
    assert read(tmp_path) == before
    merge_small_files(tmp_path, nullcontext)
    assert read(tmp_path) == before


def test_a_damaged_small_file_is_not_merged_away(tmp_path: Path) -> None:
    write_small_files(tmp_path, 80)
    bad = files_of(tmp_path)[7]
    content = bytearray(bad.read_bytes())
    content[20] ^= 0xFF  # inside a page, where its checksum alone finds it
    bad.write_bytes(content)
    merge_small_files(tmp_path, nullcontext)
    assert bad in files_of(tmp_path) and bad.read_bytes() == bytes(content)


def test_a_reader_whose_files_are_merged_meanwhile_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_files(tmp_path, 80)
    before = read(tmp_path)
    listed, merged = spool._readable_files, []

    def merge_after(folder: Path, report: Callable[[str], None]) -> list[Path]:
        files = listed(folder, report)
        if not merged:
            merged.append(True)
            merge_small_files(folder, nullcontext)
        return files

    monkeypatch.setattr(spool, "_readable_files", merge_after)
    assert read(tmp_path) == before and merged
