"""Reading datasets: a hub id through ``datasets``, or local files, as plain rows in batches.

Here belongs how rows come in, whatever they mean. A row that cannot be read is handed on as such
(`Row.problem`); a dataset that cannot be read raises `SourceError`. A dataset's own code never
runs.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from alignment_assets.host.hub import hub_commit
from alignment_assets.host.machine import GIBI
from alignment_assets.recipe.datasets import DatasetReference
from alignment_assets.recipe.model import Recipe

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
FIRST_ROWS = 1000

_PIECE = 1 << 20
_ARRAY_START = re.compile(r"\s*\[?")
_BETWEEN_VALUES = re.compile(r"[\s,\]]*")

# What the readers raise for a file that is not what its name says, or is cut off.
_UNREADABLE = (OSError, ValueError, EOFError, RecursionError, zlib.error, csv.Error)


class SourceError(RuntimeError):
    """A dataset that cannot be read; the message names it, what was wanted and what was found."""


@dataclass(frozen=True)
class Row:
    """One row of a dataset as read."""

    values: dict[str, Any]
    origin: str
    problem: str | None = None


def read_rows(
    place: str, reference: DatasetReference, recipe: Recipe, commit: str | None = None
) -> Iterator[Row]:
    """Yield a dataset's rows with our column names; memory does not grow with the dataset.

    Args:
        place: the dataset's place in the recipe (``prompts.<name>``), for messages.
        reference: where it is and how its columns map to ours.
        recipe: what relative paths are relative to.
        commit: the commit of a hub dataset; see `dataset_commit`.

    Raises:
        SourceError: no such dataset, an unreadable file, no rows, or a column that no row has.
    """
    label = f"{place} ({reference.dataset})"
    rows = _rows_of(label, reference, recipe, commit)
    try:
        first = list(islice(rows, FIRST_ROWS))
    except _UNREADABLE as error:
        raise SourceError(f"{label}: cannot be read: {error}") from error
    if not first:
        raise SourceError(f"{label}: has no rows; check the path, config and split")
    found = sorted({column for row in first for column in row.values})
    missing = sorted(set(reference.columns.values()) - set(found))
    if missing and found:
        raise SourceError(
            f"{label}: no column {', '.join(missing)}; found are {', '.join(found)}: "
            f"map them under {place}.columns"
        )
    try:
        for row in _chained(first, rows):
            values = {ours: row.values.get(theirs) for ours, theirs in reference.columns.items()}
            yield Row(values, row.origin, row.problem)
    except _UNREADABLE as error:
        raise SourceError(f"{label}: cannot be read to its end: {error}") from error


def _chained(first: list[Row], rest: Iterator[Row]) -> Iterator[Row]:
    yield from first
    yield from rest


def dataset_commit(reference: DatasetReference, record: Path) -> str | None:
    """Return the commit that a hub dataset is read at; None for files, which have none."""
    name = reference.dataset.removeprefix("hf:")
    if name == reference.dataset or Path(name).exists():
        return None
    return hub_commit("dataset", name, reference.revision, record)


def _rows_of(
    label: str, reference: DatasetReference, recipe: Recipe, commit: str | None
) -> Iterator[Row]:
    if reference.dataset.startswith("hf:"):
        yield from _hub_rows(label, reference, commit)
        return
    path = recipe.resolve(reference.dataset)
    if path.is_dir() and (
        (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()
    ):
        yield from _saved_rows(label, path, reference.split)
        return
    files = _files(label, path)
    for file in files:
        for row in _file_rows(label, file):
            yield Row(row.values, file.name, row.problem)


def _files(label: str, path: Path) -> list[Path]:
    if path.is_dir():
        named = [file for file in path.rglob("*") if file.name.endswith(SUFFIXES)]
    elif path.is_file():
        named = [path]
    else:
        named = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    files = sorted(file for file in named if file.is_file())
    if not files:
        raise SourceError(
            f"{label}: no file at {path}; "
            f"readable are {', '.join(SUFFIXES)}, folders and globs of them"
        )
    return files


def _file_rows(label: str, path: Path) -> Iterator[Row]:
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".jsonl": _json_lines,
        ".jsonl.gz": _json_lines,
        ".json": _json_array,
        ".csv": _csv_rows,
        ".parquet": _parquet_rows,
    }
    for suffix, reader in readers.items():
        if path.name.endswith(suffix):
            yield from reader(path)
            return
    raise SourceError(f"{label}: {path.name} is none of {', '.join(SUFFIXES)}")


def _open_text(path: Path) -> IO[str]:
    # Bytes that are no UTF-8 become lone surrogates, which later mark the row as malformed.
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _json_lines(path: Path) -> Iterator[Row]:
    with _open_text(path) as file:
        for line in file:
            if line.strip():
                yield _json_row(line)


def _json_row(text: str) -> Row:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return Row({}, "", "not JSON")
    return _as_row(values)


def _as_row(values: Any) -> Row:
    return Row(values, "") if isinstance(values, dict) else Row({}, "", "not a JSON object")


def _json_array(path: Path) -> Iterator[Row]:
    """Read an array of objects, or objects one after another, without holding the file."""
    decoder = json.JSONDecoder()
    with _open_text(path) as file:
        buffer, ended = file.read(_PIECE), False
        start = _span(_ARRAY_START, buffer, 0)
        while True:
            start = _span(_BETWEEN_VALUES, buffer, start)
            try:
                value, end = decoder.raw_decode(buffer, start)
            except ValueError as error:
                if not ended:
                    # As much again as is held, so that a long value is tried only a few times.
                    piece = file.read(max(_PIECE, len(buffer) - start))
                    buffer, start, ended = buffer[start:] + piece, 0, not piece
                    continue
                if start < len(buffer):
                    place = buffer[start : start + 40]
                    message = f"{path.name} is broken or cut off in {place!r}: {error}"
                    raise ValueError(message) from error
                return
            yield _as_row(value)
            start = end


def _span(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return where the match of a pattern that always matches ends."""
    match = pattern.match(text, start)
    return match.end() if match else start


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(GIBI)
    with _open_text(path) as file:
        for values in csv.DictReader(file):
            problem = "more fields than columns" if None in values else None
            yield Row({key: value for key, value in values.items() if key is not None}, "", problem)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(batch_size=FIRST_ROWS):
        for values in batch.to_pylist():
            yield Row(values, "")


def _hub_rows(label: str, reference: DatasetReference, commit: str | None) -> Iterator[Row]:
    import datasets

    name = reference.dataset.removeprefix("hf:")
    for config in reference.configs or (None,):
        try:
            rows = datasets.load_dataset(
                name,
                config,
                split=reference.split,
                revision=commit,
                streaming=True,
            )
            for values in rows:
                yield Row(dict(values), config or name)
        except Exception as error:  # the hub's many ways to say no, also half-way
            raise SourceError(
                f"{label}: config {config}, split {reference.split}: {error}"
            ) from error


def _saved_rows(label: str, path: Path, split: str) -> Iterator[Row]:
    import datasets

    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise SourceError(f"{label}: no split {split}; found are {', '.join(saved)}")
        saved = saved[split]
    for values in saved:
        yield Row(dict(values), path.name)
