"""The warehouse by itself: what a replacement keeps, refuses and says."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from alignment_assets.host.machine import cores, memory_bytes
from alignment_assets.inference.spool import view_answers
from alignment_assets.warehouse import rewrite as replacing
from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lake_care import list_snapshots
from alignment_assets.warehouse.lineage import Input, TablePart
from alignment_assets.warehouse.losses import Judgement, Loss, loss_rows
from alignment_assets.warehouse.query import isolate
from alignment_assets.warehouse.resource import LakeWarehouse, Published, Warehouse, WarehouseError
from tests.support.ids import named, uid
from tests.support.tables import new_lake, new_warehouse

Row = dict[str, Any]
AnyWarehouse = Warehouse | LakeWarehouse
KINDS = ["staged", "straight"]


ON_LAKES = [pytest.param(f"lake {kind}", marks=pytest.mark.needs("lake")) for kind in KINDS]


@pytest.fixture(params=[*KINDS, *ON_LAKES])
def warehouse(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AnyWarehouse:
    """Rows that wait in memory and rows that go straight keep the same promises.

    So do a DuckDB file and a DuckLake; what is said of the file alone is `only_of_a_file`.
    """
    kind = request.param.split()
    stage = partialmethod(Database.stage, straight="straight" in kind)
    monkeypatch.setattr(Database, "stage", stage)
    return (new_lake if "lake" in kind else new_warehouse)(tmp_path / "home")


only_of_a_file = pytest.mark.parametrize("warehouse", KINDS, indirect=True)


def person(number: int, **changes: Any) -> Row:
    return {
        "row_number": number,
        "persona_id": uid(f"id {number}"),
        "persona_hash": "hash",
        "persona": f"person {number}",
        "malformed_reason": None,
        "malformed_detail": None,
        **changes,
    }


def excluded(policy: str, prompt: int, candidates: int = 3) -> Row:
    return {
        "policy": policy,
        "prompt_id": uid(f"prompt {prompt}"),
        "track": "standard",
        "reason": "too_few_references",
        "n_references": 1,
        "n_candidates": candidates,
        "n_eligible": 2,
    }


def replace_rows(
    warehouse: Warehouse,
    table: str,
    rows: Iterable[Row],
    partition: Mapping[str, str] | None = None,
) -> Published:
    with warehouse.stage(table, partition) as staging:
        staging.insert_arrow(pa.Table.from_pylist(list(rows)))
        return staging.publish({})


def rows_of(warehouse: Warehouse, table: str) -> list[Any]:
    with warehouse.read() as connection:
        return sorted(named(connection.execute(f"FROM {table}").fetchall()))


@only_of_a_file
def test_the_first_use_makes_the_database_with_every_table_of_the_schema(
    warehouse: Warehouse,
) -> None:
    assert not warehouse.path.exists()
    with warehouse.read() as connection:
        names = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert {name for (name,) in names} == set(sql_files.tables())
    # It is an ordinary database, with its comments, for anyone who opens it.
    with duckdb.connect(str(warehouse.path), read_only=True) as plain:
        query = "SELECT comment FROM duckdb_tables() WHERE table_name = 'dpo_pairs'"
        ((comment,),) = plain.execute(query).fetchall()
    assert comment.startswith("The selected pairs with their texts")


def test_a_replacement_replaces_the_whole_table(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "personas", [person(0), person(1)])
    published = replace_rows(warehouse, "personas", [person(2)])
    assert (published.table, published.rows) == ("personas", 1)
    assert rows_of(warehouse, "personas") == [(2, "id 2", "hash", "person 2", None, None)]


def test_an_exception_in_the_body_leaves_the_old_rows(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "personas", [person(0)])
    with pytest.raises(ZeroDivisionError), warehouse.stage("personas") as staging:
        staging.insert_arrow(pa.Table.from_pylist([person(1)]))
        raise ZeroDivisionError
    assert rows_of(warehouse, "personas") == [(0, "id 0", "hash", "person 0", None, None)]
    assert list((warehouse.home / "staging").iterdir()) == []


def test_a_broken_rule_leaves_the_old_rows_and_shows_the_new_ones(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "selection_exclusions", [excluded("one", 1)], {"policy": "one"})
    with pytest.raises(WarehouseError) as error:
        twice = [excluded("one", 5), excluded("one", 5)]
        replace_rows(warehouse, "selection_exclusions", twice, {"policy": "one"})
    for part in (
        "selection_exclusions[one]",
        "unique_prompt.sql",
        f"'{uid('prompt 5')}', 2",
        "old rows stay",
    ):
        assert part in str(error.value)
    assert [row[1] for row in rows_of(warehouse, "selection_exclusions")] == ["prompt 1"]


def test_a_missing_value_leaves_the_old_rows(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "personas", [person(0)])
    with pytest.raises((duckdb.ConstraintException, WarehouseError), match="persona_id"):
        replace_rows(warehouse, "personas", [person(1, persona_id=None), person(2)])
    assert rows_of(warehouse, "personas") == [(0, "id 0", "hash", "person 0", None, None)]


def test_a_partition_is_replaced_alone(warehouse: Warehouse) -> None:
    table = "selection_exclusions"
    for policy in ("one", "two"):
        rows = [excluded(policy, prompt) for prompt in range(3)]
        replace_rows(warehouse, table, rows, {"policy": policy})
    replace_rows(warehouse, table, [excluded("two", 9, candidates=7)], {"policy": "two"})
    found = [(row[0], row[1], row[5]) for row in rows_of(warehouse, table)]
    assert found == [
        ("one", "prompt 0", 3),
        ("one", "prompt 1", 3),
        ("one", "prompt 2", 3),
        ("two", "prompt 9", 7),
    ]


def test_rows_of_another_partition_are_refused(warehouse: Warehouse) -> None:
    table = "selection_exclusions"
    replace_rows(warehouse, table, [excluded("two", 0)], {"policy": "two"})
    with pytest.raises(WarehouseError, match=r"\[one\]: 1 new rows are of another policy"):
        rows = [excluded("one", 1), excluded("two", 1)]
        replace_rows(warehouse, table, rows, {"policy": "one"})
    assert [row[:2] for row in rows_of(warehouse, table)] == [("two", "prompt 0")]


QUERY = (
    f"SELECT 1 AS row_number, '{uid('a')}' AS persona_id, 'hash' AS persona_hash, "
    "NULL AS malformed_reason, NULL AS malformed_detail, 'p' AS persona"
)


def test_columns_go_by_name_whatever_their_order(warehouse: Warehouse) -> None:
    # Two columns of text swapped would go unnoticed by type.
    with warehouse.stage("personas") as staging:
        staging.insert(QUERY, {})
        staging.insert_arrow(pa.Table.from_pylist([dict(reversed(person(2).items()))]))
        staging.publish({})
    assert rows_of(warehouse, "personas") == [
        (1, "a", "hash", "p", None, None),
        (2, "id 2", "hash", "person 2", None, None),
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (QUERY.replace(", 'p' AS persona", ""), r"lack the columns \['persona'\]"),
        (QUERY + ", 3 AS age", r"have \['age'\] too many"),
        (QUERY.replace("AS persona_id", "AS personaid"), r"\['persona_id'\].*\['personaid'\]"),
    ],
)
def test_a_missing_or_extra_column_is_named(warehouse: Warehouse, query: str, message: str) -> None:
    with pytest.raises(WarehouseError, match=message), warehouse.stage("personas") as staging:
        staging.insert(query, {})
    with duckdb.connect() as connection:
        rows = connection.execute(query).to_arrow_table()
    with pytest.raises(WarehouseError, match=message), warehouse.stage("personas") as staging:
        staging.insert_arrow(rows)


def test_new_rows_are_built_from_the_warehouse_and_not_from_the_old_ones(
    warehouse: Warehouse,
) -> None:
    replace_rows(warehouse, "personas", [person(0), person(1)])
    replace_rows(warehouse, "selection_exclusions", [excluded("one", 1)])
    with warehouse.stage("personas") as staging:
        count = staging.connection.execute("SELECT count(*) FROM personas").fetchall()
        others = staging.connection.execute("SELECT count(*) FROM selection_exclusions").fetchall()
    assert (count, others) == ([(0,)], [(1,)])


def test_the_data_version_is_that_of_the_content(warehouse: Warehouse) -> None:
    people = [person(number) for number in range(50)]
    version = replace_rows(warehouse, "personas", people).data_version
    random.Random(3).shuffle(people)
    assert replace_rows(warehouse, "personas", people).data_version == version
    changed = [*people[:-1], {**people[-1], "persona": "another", "persona_hash": "another"}]
    swapped = [{**one, "malformed_reason": one["persona"], "persona": None} for one in people]
    versions = {
        version,
        replace_rows(warehouse, "personas", changed).data_version,
        replace_rows(warehouse, "personas", swapped).data_version,
        replace_rows(warehouse, "personas", people[:-1]).data_version,
    }
    assert len(versions) == 4


def test_a_table_that_differs_from_the_schema_is_named_with_its_columns(
    warehouse: Warehouse,
) -> None:
    replace_rows(warehouse, "personas", [person(0)])
    with warehouse.get_connection() as plain:
        plain.execute("ALTER TABLE dpo_pairs DROP COLUMN chosen_band")
        plain.execute("ALTER TABLE dpo_pairs ALTER pair_index TYPE BIGINT")
    for opening in (warehouse.read, lambda: warehouse.stage("personas")):
        with pytest.raises(WarehouseError) as error, opening():
            pass
        for part in (warehouse.shown, "dpo_pairs", "chosen_band", "pair_index", "BIGINT"):
            assert part in str(error.value)
    # Its advice helps: without the table, all is as before, and the table is made anew.
    with warehouse.get_connection() as connection:
        connection.execute("DROP TABLE dpo_pairs")
    assert rows_of(warehouse, "dpo_pairs") == []
    assert rows_of(warehouse, "personas") == [(0, "id 0", "hash", "person 0", None, None)]


def test_a_replacement_that_the_disk_has_no_room_for_is_refused_before(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_rows(warehouse, "personas", [person(number) for number in range(3000)])
    usage = shutil.disk_usage(warehouse.home)
    with warehouse.stage("personas", straight=False) as staging:
        staging.insert_arrow(pa.Table.from_pylist([person(number) for number in range(9000)]))
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=20_000))
        with pytest.raises(OSError, match=r"personas: replacing needs about .* MiB are free"):
            staging.publish({})
    with (
        pytest.raises(OSError, match="personas: building new rows needs about"),
        warehouse.stage("personas", straight=False),
    ):
        pass
    monkeypatch.undo()
    assert len(rows_of(warehouse, "personas")) == 3000


def big(number: int, generation: int) -> Row:
    """Return a row whose text does not compress."""
    return person(number, persona=random.Random(f"{number} {generation}").randbytes(700).hex())


@only_of_a_file
@pytest.mark.slow
def test_a_file_stays_below_one_and_a_half_times_what_is_in_it(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "REWRITE_FROM_BYTES", 1 << 20)
    replace_rows(warehouse, "selection_exclusions", [excluded("one", 1)], {"policy": "one"})
    sizes = []
    for generation in range(4):
        rows = [big(number, generation) for number in range(12_000)]
        replace_rows(warehouse, "personas", rows)
        sizes.append(warehouse.path.stat().st_size)
        assert rows_of(warehouse, "personas") == named([tuple(row.values()) for row in rows])
    assert max(sizes) < 1.5 * sizes[0], sizes
    assert [row[1] for row in rows_of(warehouse, "selection_exclusions")] == ["prompt 1"]


@only_of_a_file
def test_a_file_written_anew_keeps_all_else_in_it(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "selection_exclusions"
    for policy in ("one", "two"):
        rows = [excluded(policy, prompt) for prompt in range(3)]
        replace_rows(warehouse, table, rows, {"policy": policy})
    with warehouse.get_connection() as connection:
        connection.execute("CREATE SCHEMA mine; CREATE TABLE mine.notes AS SELECT 7 AS x")
        connection.execute("CREATE VIEW mine.both AS SELECT * FROM mine.notes, personas")
    columns = (
        "SELECT * EXCLUDE (database_oid, table_oid) FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY ALL"
    )
    with warehouse.read() as connection:
        before = connection.execute(columns).fetchall()
    monkeypatch.setattr(replacing, "REWRITE_FROM_BYTES", 0)
    monkeypatch.setattr(replacing, "REWRITE_SHARE", 0)
    inode = warehouse.path.stat().st_ino
    replace_rows(warehouse, table, [excluded("two", 9, candidates=7)], {"policy": "two"})
    assert warehouse.path.stat().st_ino != inode
    found = [(row[0], row[1], row[5]) for row in rows_of(warehouse, table)]
    assert found == [
        ("one", "prompt 0", 3),
        ("one", "prompt 1", 3),
        ("one", "prompt 2", 3),
        ("two", "prompt 9", 7),
    ]
    assert rows_of(warehouse, "mine.notes") == [(7,)]
    assert rows_of(warehouse, "mine.both") == []
    with warehouse.read() as connection:
        assert connection.execute(columns).fetchall() == before  # comments and all


@only_of_a_file
def test_a_file_that_cannot_be_written_anew_stays_as_it_was(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_rows(warehouse, "personas", [person(0)])
    monkeypatch.setattr(replacing, "REWRITE_FROM_BYTES", 0)
    monkeypatch.setattr(replacing, "REWRITE_SHARE", 0)
    blocked = warehouse.path.with_name("alignment.duckdb.new")
    blocked.mkdir()  # what is to be written aside cannot be
    with pytest.raises((WarehouseError, OSError)):
        replace_rows(warehouse, "personas", [person(1)])
    blocked.rmdir()
    assert [row[0] for row in rows_of(warehouse, "personas")] == [0]


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("n_references", "1.7::DOUBLE", "n_references is DOUBLE and should be INTEGER"),
        ("n_references", "1.7", r"n_references is DECIMAL\(2,1\)"),
        ("n_references", "'1'", "n_references is VARCHAR"),
        ("n_references", "true", "n_references is BOOLEAN"),
        ("reason", "17", "reason is INTEGER and should be VARCHAR"),
    ],
)
def test_values_that_a_cast_could_change_are_refused(
    warehouse: Warehouse, column: str, value: str, told: str
) -> None:
    rows = pa.Table.from_pylist([excluded("one", 1)])
    with (
        pytest.raises(WarehouseError, match=told),
        warehouse.stage("selection_exclusions") as staging,
    ):
        staging.connection.register("given", rows)
        staging.insert(f"SELECT * REPLACE ({value} AS {column}) FROM given", {})
    assert rows_of(warehouse, "selection_exclusions") == []


def test_whole_numbers_fit_or_fail(warehouse: Warehouse) -> None:
    row = {**excluded("one", 1), "n_references": 2**31}
    with pytest.raises(duckdb.ConversionException, match="out of range"):
        replace_rows(warehouse, "selection_exclusions", [row])
    row["n_references"] = 2**31 - 1
    assert replace_rows(warehouse, "selection_exclusions", [row]).rows == 1


@pytest.mark.parametrize(
    ("part", "told"),
    [("'name': 'x'", "messages is STRUCT.*name"), ("'content': 5", "messages is STRUCT")],
)
def test_parts_of_a_struct_are_not_dropped_or_made_up(
    warehouse: Warehouse, part: str, told: str
) -> None:
    query = f"""
        SELECT 0 AS row_number, uuid() AS prompt_id, 'hash' AS prompt_hash,
            [{{'role': 'user', {part}}}] AS messages,
            'mix' AS dataset, NULL AS messages_hash, NULL AS source, NULL AS language,
            NULL AS upstream_id,
            NULL AS origin_url, NULL AS origin_pages, NULL AS origin_domain, NULL AS extra,
            NULL AS read_as, NULL AS malformed_reason, NULL AS malformed_detail
    """
    with (
        pytest.raises(WarehouseError, match=told),
        warehouse.stage("source_prompts") as staging,
    ):
        staging.insert(query, {})


@only_of_a_file
@pytest.mark.parametrize("left", [b"", None])
def test_what_a_killed_process_left_of_a_new_database_does_not_bar_the_next(
    warehouse: Warehouse, left: bytes | None
) -> None:
    warehouse.home.mkdir()
    if left is not None:
        warehouse.path.write_bytes(left)
    Path(f"{warehouse.path}.new").write_bytes(b"half a header")
    with warehouse.get_connection() as connection:
        connection.execute("CREATE TABLE notes AS SELECT 1 AS note")
    assert rows_of(warehouse, "notes") == [(1,)]
    assert rows_of(warehouse, "personas") == []


def test_settings_come_from_the_machine_and_the_configuration(tmp_path: Path) -> None:
    query = """
        SELECT current_setting('threads'), current_setting('preserve_insertion_order'),
            current_setting('enable_progress_bar'), current_setting('memory_limit')
    """
    with new_warehouse(tmp_path / "a").read() as connection:
        (row,) = connection.execute(query).fetchall()
    assert row[:3] == (cores(), False, False)
    # Four runs at once, with something left for all else.
    share, unit = row[3].split()
    assert 4 * float(share) * {"MiB": 2**20, "GiB": 2**30}[unit] < memory_bytes()
    with new_warehouse(tmp_path / "b", threads=1, memory_limit="100MiB").stage("personas") as new:
        (row,) = new.connection.execute(query).fetchall()
    assert row == (1, False, False, "100.0 MiB")


def test_tables_of_others_are_left_alone(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "personas", [person(0)])
    with warehouse.get_connection() as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'keep me' AS note")
    replace_rows(warehouse, "personas", [person(1)])
    assert rows_of(warehouse, "notes") == [("keep me",)]


def test_an_isolated_reader_sees_the_tables_and_no_other_file(warehouse: Warehouse) -> None:
    secret = warehouse.home / "secret.csv"
    replace_rows(warehouse, "personas", [person(0)])
    secret.write_text("a\n1\n")
    with warehouse.read() as connection:
        isolate(connection, {})
        assert connection.execute("SELECT count(*) FROM personas").fetchall() == [(1,)]
        for query in (
            f"FROM read_csv('{secret}')",
            f"ATTACH '{warehouse.home / 'other.duckdb'}'",
            f"COPY personas TO '{warehouse.home / 'copy.csv'}'",
            "SET enable_external_access = true",
            "DELETE FROM personas",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(query)


def test_a_home_with_blanks_quotes_and_brackets_in_its_path(tmp_path: Path) -> None:
    warehouse = new_warehouse(tmp_path / """it's a "home" [draft], 100% *""")
    replace_rows(warehouse, "personas", [person(0)])
    assert rows_of(warehouse, "personas") == [(0, "id 0", "hash", "person 0", None, None)]
    with warehouse.read() as connection:
        view_answers(connection, warehouse.home / "spool" / "completions" / "model", [])
        assert connection.execute("SELECT count(*) FROM answers").fetchall() == [(0,)]


@only_of_a_file
def test_a_damaged_database_is_reported_at_once(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "personas", [person(number) for number in range(20_000)])
    content = bytearray(warehouse.path.read_bytes())
    for place in range(len(content) // 2, len(content), 997):
        content[place] ^= 0xFF
    warehouse.path.write_bytes(content)
    patient = Warehouse(database=warehouse.database, lock_timeout=3600)
    with pytest.raises(duckdb.Error, match=r"(?i)corrupt"), patient.read() as connection:
        connection.execute("SELECT sum(hash(personas)) FROM personas").fetchall()


def compressions(warehouse: Warehouse, table: str) -> dict[str, set[str]]:
    """Return how the values of each column are compressed in the file."""
    with warehouse.read() as connection:
        rows = connection.execute(
            f"SELECT column_name, compression FROM pragma_storage_info('{table}') "
            "WHERE persistent AND segment_type <> 'VALIDITY' AND compression <> 'Constant'"
        ).fetchall()
    found: dict[str, set[str]] = {}
    for column, compression in rows:
        found.setdefault(column, set()).add(compression)
    return found


SPOKEN = """
SELECT
    number,
    string_agg(substr(md5((hash(number * 1000 + place) % 300)::VARCHAR), 1, 6), ' ') AS text
FROM range(3000) AS numbers (number)
CROSS JOIN range(80) AS places (place)
GROUP BY number
"""
ANSWERS = f"""
SELECT
    uuid() AS completion_id, uuid() AS request_id, uuid() AS prompt_id, 'one' AS model,
    'variant ' || number % 3 AS variant, 0 AS sample_index, text, sha256(text) AS text_hash,
    hash(text) AS normal_hash, text AS reasoning, 'stop' AS finish_reason, NULL::VARCHAR AS error,
    1 AS prompt_tokens, 1 AS completion_tokens, 1 AS text_tokens, 0 AS cached_tokens,
    'engine' AS engine, '1' AS engine_version, '{{}}' AS engine_settings,
    'weights' AS model_fingerprint, 1::FLOAT AS seconds, TIMESTAMP '2026-01-01' AS answered_at
FROM ({SPOKEN})
"""
SAMPLES = f"""
SELECT
    uuid() AS sample_id, 'one' AS policy, uuid() AS prompt_id, 'standard' AS track,
    [{{'role': 'user', 'content': text}}] AS prompt,
    [{{'role': 'assistant', 'content': text}}] AS completion, uuid() AS completion_id,
    'model ' || number % 3 AS model, 'default' AS variant, 'chosen' AS selected_as,
    1.0::DOUBLE AS reward, 1.0::DOUBLE AS quantile, 1 AS completion_tokens,
    [1.0::DOUBLE] AS reference_rewards
FROM ({SPOKEN})
"""


@only_of_a_file
def test_long_texts_are_compressed_as_zstandard_does_and_words_as_words(
    warehouse: Warehouse,
) -> None:
    for table, query, partition in (
        ("completions", ANSWERS, {"model": "one"}),
        ("qrpo_samples", SAMPLES, {"policy": "one"}),
    ):
        with warehouse.stage(table, partition) as staging:
            staging.insert(query, {})
            staging.publish({})
    stored = compressions(warehouse, "completions")
    assert stored["text"] == stored["reasoning"] == {"ZSTD"}
    assert stored["variant"] == {"Dictionary"}
    for column in ("prompt", "completion"):
        assert compressions(warehouse, "qrpo_samples")[column] >= {"ZSTD"}
        assert "FSST" not in compressions(warehouse, "qrpo_samples")[column]
    assert compressions(warehouse, "qrpo_samples")["model"] == {"Dictionary"}


def state_of(warehouse: AnyWarehouse) -> object:
    """Return what changes when something is written."""
    if isinstance(warehouse, Warehouse):
        return warehouse.path.stat()
    return list_snapshots(warehouse).values[0]


def lost(count: int, run_id: str) -> pa.Table:
    loss = Loss(None, None, "malformed", "malformed", "no role", count, 9, "row 1")
    return loss_rows(run_id, "personas", None, [Judgement((loss,), 1.0)])


def test_the_same_rows_made_of_the_same_are_the_same_making(
    warehouse: Warehouse, request: pytest.FixtureRequest
) -> None:
    straight = "straight" in request.node.callspec.params["warehouse"]
    above = Input(TablePart("wordings"), "first", 2, "2-a")

    def publish(
        rows: list[Row], above: Input = above, losses: int = 1, by: str = "a run"
    ) -> Published:
        with warehouse.stage("personas") as staging:
            staging.insert_arrow(pa.Table.from_pylist(rows))
            return staging.publish({}, inputs=[above], losses=lost(losses, by))

    def making() -> list[Any]:
        with warehouse.read() as connection:
            return connection.execute("SELECT DISTINCT version FROM lineage").fetchall()

    rows = [person(0), person(1)]
    assert publish(rows).changed
    first, state = making(), state_of(warehouse)
    same = publish(rows[::-1], replace(above, version="the same again"), by="another run")
    assert (same.rows, same.changed) == (2, False)
    assert making() == first
    if not straight:  # what goes straight is written by the time that this is known
        assert state_of(warehouse) == state
    # Rows that a hand has changed are put right, though what they were made of is the same.
    with warehouse.get_connection() as connection:
        connection.execute("UPDATE personas SET persona = 'nobody' WHERE row_number = 1")
    # (Of rows that go straight a text that has its hash beside it is not read for that.)
    assert publish(rows).changed or straight
    assert making() != first or straight
    assert [row[3] for row in rows_of(warehouse, "personas")] == ["person 0", "person 1"]
    assert not publish(rows).changed
    # Other rows above, more lost, one more row: each is a new making.
    other = replace(above, content="2-b")
    for change in (
        lambda: publish(rows, other),
        lambda: publish(rows, other, 2),
        lambda: publish([*rows, person(2)], other, 2),
    ):
        before = making()
        assert change().changed
        assert making() != before


def test_a_list_that_is_null_is_no_empty_one(warehouse: Warehouse) -> None:
    def publish(comparisons: str) -> Published:
        with warehouse.stage("rewards", {"model": "one"}) as staging:
            staging.insert(
                "SELECT 'c0000000-0000-0000-0000-000000000000'::UUID AS completion_id, "
                "NULL::UUID AS request_id, "
                "'c0000000-0000-0000-0000-000000000001'::UUID AS prompt_id, "
                "'standard' AS track, 'one' AS model, 'default' AS variant, 0 AS sample_index, "
                "NULL::DOUBLE AS reward, 'empty' AS missing_reason, 'scorer' AS scorer, "
                "NULL::VARCHAR AS scorer_fingerprint, 'rate' AS task, NULL::DOUBLE AS score_mass, "
                f"{comparisons}::STRUCT(label VARCHAR, logprob DOUBLE)[] AS label_logprobs",
                {},
            )
            return staging.publish({}, inputs=[Input(TablePart("wordings"), None, 1, "1-a")])

    assert publish("NULL").changed
    assert publish("[]").changed
    assert not publish("[]").changed


def test_a_large_load_leaves_no_room_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two threads leave two groups that are not full. DuckDB would compress the groups beside them
    # again, to save one, and the room of the first time would stay in the file.
    monkeypatch.setattr(replacing, "REWRITE_FROM_BYTES", 2**20)
    warehouse = new_warehouse(tmp_path / "home", threads=2)
    with duckdb.connect() as elsewhere:
        for part in range(8):
            elsewhere.execute(
                f"COPY (SELECT range AS number, 'words ' || range AS text "
                f"FROM range({part * 40_000}, {(part + 1) * 40_000})) "
                f"TO '{tmp_path}/{part}.parquet'"
            )
    spoken = f"read_parquet('{tmp_path}/*.parquet')"
    with warehouse.stage("completions", {"model": "one"}, straight=True) as staging:
        staging.insert(ANSWERS.replace(f"({SPOKEN})", spoken), {})
        staging.publish({})
    with warehouse.read() as connection:
        used, free = connection.execute(
            "SELECT used_blocks, free_blocks FROM pragma_database_size()"
        ).fetchone() or (0, 0)
    assert used > 100
    assert free <= 2


@contextmanager
def broken_off_by_a_signal() -> Iterator[None]:
    """Ctrl-C after half a second, as a query sees it that takes minutes; the body ends by it."""
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
    start = time.monotonic()
    timer.start()
    try:
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            yield
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - start < 30


def test_a_query_that_a_signal_breaks_off_is_not_waited_for(warehouse: Warehouse) -> None:
    replace_rows(warehouse, "personas", [person(0)])
    for_minutes = "SELECT max(hash(range)) FROM range(200_000_000_000)"
    with broken_off_by_a_signal(), warehouse.stage("personas") as staging:
        staging.connection.execute(for_minutes)
    with broken_off_by_a_signal(), warehouse.read() as connection:
        connection.execute(for_minutes)
    with broken_off_by_a_signal(), warehouse.get_connection() as connection:
        connection.execute(for_minutes)
    assert len(rows_of(warehouse, "personas")) == 1
