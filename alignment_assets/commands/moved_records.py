"""Dagster's records of a run taken from one storage to another: what was made last.

`status` goes by the last materialization of each table and partition, and by what it was made of.
Runs, their logs, checks and pages stay where they are: pages show texts of prompts and models, and
who withdraws such a text deletes the run that shows it (`shown_texts`); an event without a run
could not be deleted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dagster import (
    AssetKey,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterInstance,
    FloatMetadataValue,
    IntMetadataValue,
    TextMetadataValue,
)

from alignment_assets.warehouse.database import Database
from alignment_assets.warehouse.lineage import TablePart
from alignment_assets.warehouse.records import last_record, record_of

# Dagster's tags of a materialization: the version of its rows, and which event of each table above
# it was the last when it was made.
_VERSION, _POINTER = "dagster/data_version", "dagster/input_event_pointer/"
# Of tables whose making makes nothing stale, such as `recipes`, Dagster knows no version.
_ANY = "INITIAL"
# What tells of rows, and shows no text of them.
_NUMBERS_AND_NAMES = (IntMetadataValue, FloatMetadataValue, TextMetadataValue)
_MADE = "SELECT table_name, partition, content FROM lineage WHERE upstream IS NULL"
_CREATED = "SELECT created_at FROM database_info"


@dataclass(frozen=True)
class _Event:
    """A materialization and its number in a storage."""

    number: int
    made: AssetMaterialization


def carry_records(one: DagsterInstance, other: DagsterInstance, database: Database) -> int:
    """Have two storages tell the same of what was made last; return of how many parts they do now.

    Whichever tells of more rows that stand in the database goes into the other.

    Args:
        one: a storage.
        other: another.
        database: the run's, with its tables.
    """
    with database.read() as connection:
        (created,) = connection.execute(_CREATED).fetchone() or ("",)
        standing = {
            TablePart(table, partition): str(content)
            for table, partition, content in connection.execute(_MADE).fetchall()
        }
    told = [_told_of(instance, standing, str(created)) for instance in (one, other)]
    source, target = (one, other) if len(told[0]) > len(told[1]) else (other, one)
    here, there = (told[0], told[1]) if source is one else (told[1], told[0])
    # All or none: among events of two moves none could be told to be before another.
    if any(not _same(event, there.get(part)) for part, event in here.items()):
        _report(source, target, here)
    return len(here)


def _told_of(
    instance: DagsterInstance, standing: Mapping[TablePart, str], created: str
) -> dict[TablePart, _Event]:
    """Return the last materialization of each part that tells of the rows that stand."""
    found = {}
    for part in _parts(instance):
        record = last_record(instance, part.table, part.partition)
        event = _last(instance, part)
        if record is None or event is None or record.database != created:
            continue
        version = (event.made.tags or {}).get(_VERSION)
        if version in (standing.get(part), _ANY):
            found[part] = event
    return found


def _parts(instance: DagsterInstance) -> Iterator[TablePart]:
    for key in instance.get_asset_keys():
        table = key.to_user_string()
        partitions = instance.get_materialized_partitions(key)
        for partition in sorted(partitions) if partitions else [None]:
            yield TablePart(table, partition)


def _last(instance: DagsterInstance, part: TablePart, before: int | None = None) -> _Event | None:
    wanted = AssetRecordsFilter(
        AssetKey(part.table),
        asset_partitions=[part.partition] if part.partition else None,
        before_storage_id=before,
    )
    for found in instance.fetch_materializations(wanted, limit=1).records:
        if found.asset_materialization is not None:
            return _Event(found.storage_id, found.asset_materialization)
    return None


def _same(event: _Event, there: _Event | None) -> bool:
    if there is None or record_of(event.made) != record_of(there.made):
        return False
    tags = ((one.made.tags or {}) for one in (event, there))
    mine, theirs = (
        {name: value for name, value in one.items() if not name.startswith(_POINTER)}
        for one in tags
    )
    return mine == theirs


def _report(
    source: DagsterInstance, target: DagsterInstance, events: Mapping[TablePart, _Event]
) -> None:
    """Enter events in the order that they had, so that what was made after what stays so."""
    pointers: dict[str, set[int]] = {}
    for event in events.values():
        for table, number in _pointers(event.made).items():
            pointers.setdefault(table, set()).add(number)
    carried = {event.number: (part, event.made) for part, event in events.items()}
    # Of what was made again since it was read, that making too: it is compared with the newer one.
    for part, event in events.items():
        for number in pointers.get(part.table, ()):
            if number < event.number:
                read = _last(source, part, before=number + 1)
                if read:
                    carried[read.number] = (part, read.made)
    numbers: list[int] = []
    new: list[int] = []
    for number, (part, made) in sorted(carried.items(), key=lambda entry: entry[0]):
        tags = dict(made.tags or {})
        for table, read_at in _pointers(made).items():
            place = bisect_right(numbers, read_at)
            tags[f"{_POINTER}{table}"] = str(new[place - 1]) if place else "NULL"
        target.report_runless_asset_event(
            AssetMaterialization(
                made.asset_key,
                partition=made.partition,
                tags=tags,
                metadata={
                    name: value
                    for name, value in made.metadata.items()
                    if isinstance(value, _NUMBERS_AND_NAMES)
                },
            )
        )
        entered = _last(target, part)
        assert entered
        numbers.append(number)
        new.append(entered.number)


def _pointers(made: AssetMaterialization) -> dict[str, int]:
    return {
        name.removeprefix(_POINTER): int(value)
        for name, value in (made.tags or {}).items()
        if name.startswith(_POINTER) and value.isdigit()
    }
