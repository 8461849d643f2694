"""Looking after the spool: damaged files, what is listed, which answers go and which never do."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance
from typer.testing import CliRunner, Result

from alignment_assets.commands import app as cli
from alignment_assets.commands import spool as spool_command
from alignment_assets.commands import tidy as tidy_command
from alignment_assets.host.expected import Expected
from alignment_assets.host.locking import LockTimeout
from alignment_assets.inference.spool import EMPTY_FILE, SpoolError, SpoolWriter, spool_folder
from alignment_assets.inference.types import Answer, AnsweredBy
from alignment_assets.recipe.run import Run
from alignment_assets.requests.removals import plan_removals, remove_answers
from alignment_assets.requests.request_sets import all_request_sets
from alignment_assets.requests.spool_care import list_spool, verify_spool
from tests.conftest import Graph, changed_recipe, demo_graph
from tests.support.ids import uid
from tests.support.processes import other, wait_for_word
from tests.support.tables import fill_prompts, new_warehouse, take_as_made

MODEL = "smollm2-135m-cool"
ROWS = "SELECT completion_id, request_id, text FROM completions ORDER BY ALL"


@pytest.fixture(scope="module")
def completed_once(
    made_once: Callable[[str | None], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("completed")
    shutil.copytree(made_once("key:wordings or key:personas"), folder, dirs_exist_ok=True)
    with DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        patch.setattr("alignment_assets.inference.spool.FLUSH_ROWS", 3)
        graph = demo_graph(folder, instance)
        fill_prompts(graph.warehouse, {f"prompt {number}": "standard" for number in range(15)})
        take_as_made(graph)
        graph.materialize("key:completion_requests or key:completions", MODEL)
    return folder


@pytest.fixture
def completed(
    completed_once: Path,
    tmp_path: Path,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> Graph:
    """The completions of one model, three answers a file, where the command looks for them."""
    monkeypatch.setattr("alignment_assets.inference.spool.FLUSH_ROWS", 3)
    shutil.copytree(completed_once, tmp_path, dirs_exist_ok=True)
    return demo_graph(tmp_path, instance)


@pytest.fixture
def command(completed: Graph, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The same, with the command working on it."""
    resources = {"warehouse": completed.warehouse, "inference": completed.inference}
    monkeypatch.setattr(tidy_command, "default_resources", lambda run: resources)
    for module, name in ((spool_command, "run_to_read"), (tidy_command, "chosen_run")):
        monkeypatch.setattr(module, name, lambda recipe: completed.run)
    return completed


def spool(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["spool", *arguments])


def files_of(graph: Graph) -> list[Path]:
    folder = spool_folder(graph.run.spool, "completions", MODEL)
    return sorted(path for path in folder.glob("*.parquet") if path.name != EMPTY_FILE)


def requests_of(*files: Path) -> list[str]:
    return sorted(row for file in files for row in pq.read_table(file)["request_id"].to_pylist())


def rerun(graph: Graph) -> tuple[list[str], str]:
    """Materialize the completions again; return what was asked and what the run's log says."""
    before = len(graph.asked())
    (result,) = graph.materialize("key:completions", MODEL)
    log = "\n".join(entry.user_message for entry in graph.instance.all_logs(result.run_id))
    return sorted(request["request_id"] for request in graph.asked()[before:]), log


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.write_bytes(content)


def prune(graph: Graph) -> list[Any]:
    """Prune with the fake engine's fingerprints."""
    requests = all_request_sets(
        graph.recipe, lambda model: graph.inference.fingerprint(model, graph.run)
    )
    return remove_answers(
        graph.warehouse, lambda connection: plan_removals(connection, graph.run, requests)
    )


def hotter(graph: Graph) -> Graph:
    """The same graph with every question to the model changed, and answered."""
    changed = graph.with_recipe(changed_recipe({f"models.{MODEL}.temperature": 0.9}))
    changed.materialize("key:completion_requests or key:completions", MODEL)
    return changed


def test_a_torn_file_is_set_aside_reported_and_asked_again_alone(completed: Graph) -> None:
    rows, files = completed.query(ROWS), files_of(completed)
    torn, lost = files[4], requests_of(files[4])
    content = torn.read_bytes()[:-20]
    torn.write_bytes(content)

    asked, log = rerun(completed)

    aside = torn.with_name(torn.name + ".torn")
    assert asked == lost
    assert str(torn) in log and aside.name in log
    assert aside.read_bytes() == content
    assert set(files) - set(files_of(completed)) == {torn}
    assert completed.query(ROWS) == rows
    assert rerun(completed)[0] == []


def test_a_name_that_is_torn_again_keeps_what_was_quarantined_before(completed: Graph) -> None:
    file = files_of(completed)[0]
    for content in (b"first", b"second"):
        file.write_bytes(content)
        rerun(completed)
    kept = {path.read_bytes() for path in file.parent.glob("*.torn")}
    assert kept == {b"first", b"second"}


def test_a_file_damaged_inside_stops_the_run_and_verify_helps(command: Graph) -> None:
    rows, bad = command.query(ROWS), files_of(command)[2]
    lost = requests_of(bad)
    footer = bad.stat().st_size - 8 - int.from_bytes(bad.read_bytes()[-8:-4], "little")
    flip(bad, footer)  # the end looks whole

    with pytest.raises(SpoolError, match=f"{re.escape(str(bad))}.*alignment-assets spool verify"):
        command.materialize("key:completions", MODEL)
    found = spool("verify")
    assert found.exit_code == 1
    assert str(bad) in found.output
    assert rerun(command)[0] == lost
    assert command.query(ROWS) == rows
    assert spool("verify").exit_code == 0


def test_verify_finds_one_wrong_byte_in_what_was_answered(completed: Graph) -> None:
    file = files_of(completed)[0]
    column = pq.ParquetFile(file).metadata.row_group(0).column(3)
    assert column.path_in_schema == "text"
    flip(file, column.dictionary_page_offset + column.total_compressed_size // 2)
    before = set(files_of(completed))
    rows, lines = verify_spool(completed.run)
    assert [line.split(":")[0] for line in lines] == [str(file)]
    assert before - set(files_of(completed)) == {file}
    assert sum(rows["quarantined"].to_pylist()) == 1


def test_verify_counts_repeated_answers_and_what_dead_writers_left(completed: Graph) -> None:
    folder = spool_folder(completed.run.spool, "completions", MODEL)
    requests = requests_of(*files_of(completed))
    with SpoolWriter(folder, AnsweredBy("fake", "2", "{}")) as writer:
        for request in [*requests[:4], *requests[:2]]:
            writer.add(Answer(request, "generate", "stop", text="again"))
    for name, age in (("dead", 7200), ("writing", 0)):
        path = folder / f"{name}.tmp"
        path.write_bytes(b"PAR1")
        os.utime(path, (time.time() - age, time.time() - age))
    rows, lines = verify_spool(completed.run)
    (row,) = (row for row in rows.to_pylist() if row["partition"] == MODEL)
    assert lines == []
    assert (row["answered_again"], row["spare_answers"], row["left_over"]) == (4, 6, 1)
    prune(completed)
    assert not (folder / "dead.tmp").exists() and (folder / "writing.tmp").exists()


def test_list_counts_what_each_partition_has(command: Graph) -> None:
    folder = spool_folder(command.run.spool, "completions", "gone")
    with SpoolWriter(folder, AnsweredBy("vllm", "0.9", "{}")) as writer:
        writer.add(Answer("one", "generate", "stop", text="yes"))
        writer.add(Answer("two", "generate", "context_length", error="long"))
        writer.add(Answer("three", "generate", "failed", error="down"))
    rows = json.loads(spool("list", "--format", "json").output)
    kept = {row["partition"]: row for row in rows}
    mine, gone = kept[MODEL], kept["gone"]
    assert mine["in_recipe"] and not gone["in_recipe"]
    assert mine["files"] == len(files_of(command)) == 10
    assert mine["answers"] == 30 and mine["refused"] == mine["failed"] == 0
    assert mine["bytes"] == sum(file.stat().st_size for file in files_of(command))
    assert (gone["answers"], gone["refused"], gone["failed"]) == (3, 1, 1)
    assert (mine["engines"], gone["engines"]) == ("fake 1", "vllm 0.9")
    assert mine["oldest"] <= mine["newest"]
    assert "gone" in spool("list").output


def tidy(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["tidy", "--answers", *arguments])


def test_tidy_takes_exactly_the_old_answers_and_a_rerun_asks_nothing(command: Graph) -> None:
    old = requests_of(*files_of(command))
    changed = hotter(command)
    current = [str(request) for _, request, _ in changed.query(ROWS)]
    shown = tidy()
    assert shown.exit_code == 0 and "30" in shown.output and "--apply" in shown.output
    assert requests_of(*files_of(changed)) == sorted(old + current)

    assert "Removed 30 answers" in tidy("--apply").output

    assert requests_of(*files_of(changed)) == sorted(current)
    assert rerun(changed)[0] == []
    again = tidy()
    assert again.exit_code == 0 and "Nothing to remove" in again.output


def test_answers_that_meet_a_condition_are_shown_then_taken_and_asked_again(command: Graph) -> None:
    rows = pq.read_table(files_of(command)[3]).to_pylist()
    bad, all_before = rows[0], requests_of(*files_of(command))
    condition = f"asset = 'completions' AND request_id = '{bad['request_id']}'"

    shown = tidy("--where", condition)

    assert shown.exit_code == 0 and bad["text"][:20] in shown.output
    assert requests_of(*files_of(command)) == all_before
    assert "Removed 1 answers" in tidy("--where", condition, "--apply").output
    assert requests_of(*files_of(command)) == sorted(set(all_before) - {bad["request_id"]})
    assert rerun(command)[0] == [bad["request_id"]]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("wrong = 1", "wrong.*the columns are request_id, task.*asset, partition"),
        ("true); DROP TABLE x; SELECT (1", "one statement at a time"),
        ("true; DROP TABLE x", "syntax"),
        ("text IN (SELECT content FROM read_text('/etc/hostname'))", "disabled by configuration"),
        ("CAST(text AS INTEGER) > 3", "Could not convert"),
        ("count(*) > 1", "cannot contain aggregates"),
        ("text = '\udcff'", "surrogates not allowed"),
    ],
)
def test_a_condition_that_is_none_or_reaches_out_is_told_in_a_line(
    command: Graph, condition: str, told: str
) -> None:
    before = requests_of(*files_of(command))
    result = tidy("--where", condition, "--apply")
    assert isinstance(result.exception, Expected)
    assert re.search(told, str(result.exception)) and "\n" not in str(result.exception)
    assert requests_of(*files_of(command)) == before


@pytest.mark.parametrize("condition", ["COLUMNS(['value', 'request_id']) IS NULL", "false"])
def test_what_a_condition_shows_and_takes_is_the_same(command: Graph, condition: str) -> None:
    before = requests_of(*files_of(command))
    assert "Nothing to remove" in tidy("--where", condition, "--apply").output
    assert requests_of(*files_of(command)) == before


def test_a_condition_reaches_the_folders_of_all_assets(command: Graph) -> None:
    for asset, partition in (("controversy_labels", None), ("rewards", MODEL)):
        with SpoolWriter(
            spool_folder(command.run.spool, asset, partition), AnsweredBy("fake", "1", "{}")
        ) as writer:
            writer.add(Answer(uid(asset), "grade", "stop", text=f"of {asset}"))
    assert "of rewards" in tidy("--where", "asset = 'rewards'").output
    assert "of controversy_labels" in tidy("--where", "partition IS NULL", "--apply").output
    assert "Nothing to remove" in tidy("--where", "partition IS NULL").output
    assert "of rewards" in tidy("--where", "asset = 'rewards'").output


def test_a_condition_in_a_home_with_brackets_in_its_path(
    command: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "a [home]"
    shutil.move(command.home, moved)
    run = Run(command.recipe, moved)
    resources = {"warehouse": new_warehouse(moved), "inference": command.inference}
    monkeypatch.setattr(tidy_command, "default_resources", lambda _: resources)
    monkeypatch.setattr(tidy_command, "chosen_run", lambda _: run)
    assert "Removed 30 answers" in tidy("--where", "true", "--apply").output


def test_a_link_in_the_spool_is_not_followed(completed: Graph, tmp_path: Path) -> None:
    files, outside = files_of(completed), tmp_path / "outside"
    shutil.copytree(files[0].parent, outside)
    kept = sorted(outside.iterdir())
    (completed.run.spool / "old").symlink_to("completions")  # those of who is there, once more
    (completed.run.spool / "rewards").mkdir(exist_ok=True)
    (completed.run.spool / "rewards" / "gone").symlink_to(outside)
    left = {cut.folder.path: cut.left_alone for cut in prune(completed) if cut.folder.is_link}
    assert len(left) == 2 and all("is a link" in str(reason) for reason in left.values())
    assert files_of(completed) == files and sorted(outside.iterdir()) == kept


def test_what_is_no_answer_goes_with_who_left(completed: Graph) -> None:
    folder = spool_folder(completed.run.spool, "completions", "gone")
    folder.mkdir(parents=True)
    (folder / "x.parquet.torn").write_bytes(b"torn")
    (folder / EMPTY_FILE).write_bytes(b"")
    (folder / "a.tmp").mkdir()
    os.utime(folder / "a.tmp", (0, 0))
    prune(completed)
    assert [path.name for path in folder.iterdir()] == ["a.tmp"]
    (folder / "a.tmp").rmdir()
    (folder / "x.parquet.torn").write_bytes(b"torn")
    prune(completed)
    assert not folder.exists()


def test_a_condition_needs_the_word_answers(command: Graph) -> None:
    result = CliRunner().invoke(cli.app, ["tidy", "--where", "true", "--apply"])
    assert isinstance(result.exception, Expected) and "--answers" in str(result.exception)


def test_prune_takes_single_answers_out_of_a_file(completed: Graph) -> None:
    folder = spool_folder(completed.run.spool, "completions", MODEL)
    before = {file: pq.read_table(file) for file in files_of(completed)}
    victim = files_of(completed)[0]
    ours = before[victim].to_pylist()
    with SpoolWriter(folder, AnsweredBy("fake", "1", "{}")) as writer:
        writer.add(Answer(uid("nobody asks this"), "generate", "stop"))
    (stranger,) = set(files_of(completed)) - set(before)
    mixed = pq.read_table(stranger).to_pylist() + ours
    pq.write_table(before[victim].from_pylist(mixed, schema=before[victim].schema), victim)

    (cut,) = [cut for cut in prune(completed) if cut.folder.partition == MODEL]

    assert cut.dropped == 2 and set(cut.dropped_rows) == {victim, stranger}
    assert {file: pq.read_table(file) for file in files_of(completed)} == before


def test_prune_leaves_a_folder_alone_whose_questions_cannot_be_told(completed: Graph) -> None:
    files = files_of(completed)
    fresh = Graph(completed.recipe, completed.home, completed.instance, completed.inference)
    for name in ("completion_requests", "alignment_prompts", "wordings"):
        with fresh.warehouse.get_connection() as connection:
            connection.execute(f"DELETE FROM {name}")
        (cut,) = [cut for cut in prune(fresh) if cut.folder.partition == MODEL]
        assert cut.left_alone and cut.dropped == 0
    fresh.warehouse.path.unlink()
    assert all(cut.left_alone for cut in prune(fresh))
    assert files_of(completed) == files


def test_prune_keeps_comparisons_while_a_reward_is_missing(
    materialized: Callable[..., Graph],
) -> None:
    graph = materialized()
    (policy,) = graph.recipe.completions.policies
    folder = spool_folder(graph.run.spool, "judge_comparisons", policy)
    kept = requests_of(*folder.glob("*.parquet"))
    with graph.warehouse.get_connection() as connection:
        connection.execute(f"DELETE FROM rewards WHERE model = '{MODEL}'")
    removals = {removal.folder.asset: removal for removal in prune(graph)}
    assert f"rewards[{MODEL}]" in str(removals["judge_comparisons"].left_alone)
    assert requests_of(*folder.glob("*.parquet")) == kept != []
    assert sum(removal.dropped for removal in removals.values()) == 0
    asked = len(graph.asked())
    graph.materialize()
    assert len(graph.asked()) == asked


def test_prune_takes_all_of_a_partition_that_left_the_recipe(completed: Graph) -> None:
    folder = spool_folder(completed.run.spool, "completions", "gone")
    with SpoolWriter(folder, AnsweredBy("fake", "1", "{}")) as writer:
        writer.add(Answer("one", "generate", "stop", text="yes"))
    files = files_of(completed)
    prune(completed)
    assert not folder.exists()
    assert files_of(completed) == files
    listed = list_spool(completed.run).to_pylist()
    assert "gone" not in {row["partition"] for row in listed}


def write_and_wait(pipe: Connection, folder: Path, names: list[str]) -> None:
    with SpoolWriter(folder, AnsweredBy("fake", "1", "{}")) as writer:
        for name in names:
            writer.add(Answer(name, "generate", "stop", text="late"))
        while not any(log.stat().st_size for log in folder.glob("*.log")):
            time.sleep(0.001)
        pipe.send("logged")
        wait_for_word(pipe)


def test_prune_leaves_a_live_writers_log_alone_and_prunes_a_dead_ones(completed: Graph) -> None:
    folders = [spool_folder(completed.run.spool, "completions", name) for name in (MODEL, "gone")]
    files = files_of(completed)
    with (
        other(write_and_wait, folders[0], ["nobody asks this"]) as mine,
        other(write_and_wait, folders[1], ["nor this"]) as gone,
    ):
        mine.hear()
        gone.hear()
        logs = [next(folder.glob("*.log")) for folder in folders]
        assert sum(cut.dropped for cut in prune(completed)) == 0
        assert all(log.exists() for log in logs)
        mine.kill()
        gone.kill()
        assert sum(cut.dropped for cut in prune(completed)) == 2
    assert files_of(completed) == files and not list(folders[0].glob("*.log"))
    assert not folders[1].exists()


def test_list_and_verify_see_what_a_killed_writer_has_answered(completed: Graph) -> None:
    folder = spool_folder(completed.run.spool, "completions", "gone")
    with other(write_and_wait, folder, ["one", "two"]) as writer:
        writer.hear()
        (log,) = folder.glob("*.log")
    rows = {row["partition"]: row for row in list_spool(completed.run).to_pylist()}
    assert rows["gone"]["answers"] > 0 and not log.exists()
    with other(write_and_wait, folder, ["three"]) as writer:
        writer.hear()
        (log,) = folder.glob("*.log")
    with log.open("ab") as file:
        file.write(b"torn")
    found, lines = verify_spool(completed.run)
    (row,) = (row for row in found.to_pylist() if row["partition"] == "gone")
    assert (row["files"], row["quarantined"]) == (2, 0)
    assert len(lines) == 1 and str(log) in lines[0]


def test_prune_waits_for_whoever_reads(completed: Graph) -> None:
    changed = hotter(completed)
    files = files_of(changed)
    busy = changed.warehouse.model_copy(update={"lock_timeout": 0.1})
    with changed.warehouse.read(), pytest.raises(LockTimeout):
        questions = all_request_sets(changed.recipe, lambda model: model)
        remove_answers(busy, lambda database: plan_removals(database, changed.run, questions))
    assert files_of(changed) == files


def prune_slowly(pipe: Connection, home: Path, temperature: float) -> None:
    """Prune, and wait for a word each time that something is about to reach the disk."""
    from tests.support.fakes import FakeInference

    run = Run(changed_recipe({f"models.{MODEL}.temperature": temperature}), home)
    inference, sync = FakeInference(), os.fsync

    def wait_and_sync(descriptor: int) -> None:
        pipe.send("syncing")
        wait_for_word(pipe)
        sync(descriptor)

    os.fsync = wait_and_sync
    requests = all_request_sets(run.recipe, lambda model: inference.fingerprint(model, run))
    remove_answers(new_warehouse(home), lambda database: plan_removals(database, run, requests))
    pipe.send("done")


@pytest.mark.parametrize("killed_at", [1, 2, 4])
def test_a_prune_killed_at_any_moment_loses_no_answer(completed: Graph, killed_at: int) -> None:
    old = files_of(completed)
    changed = hotter(completed)
    current = [request for _, request, _ in changed.query(ROWS)]
    # Every old file gets one answer that is asked for now, so that all are written again.
    new = [file for file in files_of(changed) if file not in old]
    answers = [row for file in new for row in pq.read_table(file).to_pylist()]
    schema = pq.read_schema(new[0])
    for file in new:
        file.unlink()
    for number, file in enumerate(old):
        rows = pq.read_table(file).to_pylist() + answers[number :: len(old)]
        pq.write_table(pq.read_table(file).from_pylist(rows, schema=schema), file)

    with other(prune_slowly, completed.home, 0.9) as pruning:
        for _ in range(killed_at - 1):
            pruning.hear()
            pruning.tell()
        assert pruning.hear() == "syncing"
        pruning.kill()

    assert set(current) <= set(requests_of(*files_of(changed)))
    prune(changed)
    assert requests_of(*files_of(changed)) == sorted(current)
    assert rerun(changed)[0] == []
