"""Reading datasets: a hub id through ``datasets``, or local files, as plain rows in batches.

Here belongs where rows come from, whatever they mean; the formats of files are `files`. A row that
cannot be read is handed on as such (`Row.problem`); a dataset that cannot be read raises
`SourceError`. A dataset's own code never runs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from alignment_assets.host.hub import ask_hub, hub_commit
from alignment_assets.recipe.datasets import DatasetReference
from alignment_assets.recipe.model import Recipe
from alignment_assets.sources.files import (
    READERS,
    TOO_LARGE,
    UNREADABLE,
    Row,
    SourceError,
    file_rows,
)
from alignment_assets.sources.texts import shown

FIRST_ROWS = 1000
FIRST_BYTES = 64 * 2**20
# Names that a message lists, at most.
NAMED = 20

# What the records of a saved dataset may raise.
_RECORDS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def read_rows(
    place: str, reference: DatasetReference, recipe: Recipe, commit: str | None = None
) -> Iterator[Row]:
    """Yield a dataset's rows with our column names; memory grows with the largest row alone.

    Args:
        place: the dataset's place in the recipe (``prompts.<name>``), for messages.
        reference: where it is and how its columns map to ours.
        recipe: what relative paths are relative to.
        commit: the commit of a hub dataset; see `dataset_commit`.

    Raises:
        SourceError: no such dataset, an unreadable file, no rows, or a column that no row has.
    """
    label = f"{place} ({reference.dataset})"
    rows = _rows_of(label, reference, recipe, commit, reference.columns.values())
    try:
        first = _first(rows)
    except UNREADABLE as error:
        raise SourceError(f"{label}: cannot be read: {error}") from error
    if not first:
        raise SourceError(f"{label}: has no rows; check the path, config and split")
    found = sorted({column for row in first for column in row.values})
    missing = sorted(set(reference.columns.values()) - set(found))
    if missing and found:
        raise SourceError(
            f"{label}: no column {named(missing)}; found are {named(found)}: "
            f"map them under {place}.columns"
        )
    try:
        for row in chain(first, rows):
            values = {ours: row.values.get(theirs) for ours, theirs in reference.columns.items()}
            yield Row(values, row.origin, row.problem)
    except UNREADABLE as error:
        raise SourceError(f"{label}: cannot be read to its end: {error}") from error


def first_row(reference: DatasetReference, recipe: Recipe, commit: str | None) -> dict[str, Any]:
    """Return the first row of a dataset with all its columns, to be shown; empty if it has none."""
    try:
        for row in _rows_of("", reference, recipe, commit, None):
            return row.values
    except (SourceError, *UNREADABLE):
        pass
    try:  # a column that nobody asked for may be the one that cannot be read
        for row in _rows_of("", reference, recipe, commit, reference.columns.values()):
            return row.values
    except (SourceError, *UNREADABLE):
        pass
    return {}


def named(names: Sequence[str]) -> str:
    """Return names for a message: the first of them, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{', '.join(shown(name) for name in names[:NAMED])}{more}"


def _first(rows: Iterator[Row]) -> list[Row]:
    """Take some rows, in which columns are looked for: no more than memory holds easily."""
    first: list[Row] = []
    size = 0
    for row in rows:
        first.append(row)
        size += row.size
        if len(first) == FIRST_ROWS or size > FIRST_BYTES:
            break
    return first


def dataset_commit(reference: DatasetReference, record: Path, *, keep: bool = True) -> str | None:
    """Return the commit that a hub dataset is read at; None for files, which have none.

    Args:
        reference: where the dataset is.
        record: the file that keeps the commits.
        keep: whether a new one is recorded; if not, the hub is asked in any case.

    Raises:
        RevisionError: see `hub_commit`.
    """
    name = reference.dataset.removeprefix("hf:")
    if name == reference.dataset or Path(name).exists():
        return None
    if not keep:
        return ask_hub("dataset", name, reference.revision, record)
    return hub_commit("dataset", name, reference.revision, record)


def _rows_of(
    label: str,
    reference: DatasetReference,
    recipe: Recipe,
    commit: str | None,
    columns: Collection[str] | None,
) -> Iterator[Row]:
    limit = recipe.max_row_bytes
    if reference.dataset.startswith("hf:"):
        yield from _bounded(_hub_rows(label, reference, commit), limit)
        return
    path = recipe.resolve(reference.dataset)
    if path.is_dir() and (
        (path / "dataset_info.json").exists() or (path / "dataset_dict.json").exists()
    ):
        yield from _bounded(_saved_rows(label, path, reference.split), limit)
        return
    for file in _files(label, path):
        if not file.name.endswith(tuple(READERS)):
            raise SourceError(f"{label}: {file.name} is none of {', '.join(READERS)}")
        for row in file_rows(file, columns, limit):
            yield replace(row, origin=file.name)


def _bounded(rows: Iterator[Row], limit: int) -> Iterator[Row]:
    """Yield rows with their size; one that is larger than the limit becomes such a row."""
    for row in rows:
        size = _size(row.values)
        if size > limit:
            yield Row({}, row.origin, TOO_LARGE)
        else:
            yield replace(row, size=size)


def _size(value: Any) -> int:
    """Return about how many bytes a value takes as JSON."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(len(name) + _size(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 8


def _files(label: str, path: Path) -> list[Path]:
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.name.endswith(tuple(READERS))]
    elif path.is_file():
        found = [path]
    else:
        found = list(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise SourceError(
            f"{label}: no file at {path}; "
            f"readable are {', '.join(READERS)}, folders and globs of them"
        )
    return files


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

    _check_saved(label, path)
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # what a folder's records may lack, or say wrongly
        raise SourceError(
            f"{label}: no saved dataset: {type(error).__name__}: {error}; save it again with "
            f"save_to_disk"
        ) from error
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise SourceError(f"{label}: no split {split}; found are {named(list(saved))}")
        saved = saved[split]
    for values in saved.with_format(None):
        yield Row(dict(values), path.name)


def _check_saved(label: str, path: Path) -> None:
    """Refuse a saved dataset whose records name files that are not in its own folder."""
    folders = [path]
    try:
        if (path / "dataset_dict.json").exists():
            splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
            folders = [_inside(path, split) for split in splits]
        for folder in folders:
            for file in json.loads((folder / "state.json").read_bytes())["_data_files"]:
                _inside(folder, file["filename"])
    except _RECORDS as error:
        raise SourceError(
            f"{label}: the records of the saved dataset cannot be used: {type(error).__name__}: "
            f"{error}; save it again with save_to_disk"
        ) from error


def _inside(folder: Path, name: str) -> Path:
    """Return a file or folder of a folder.

    Raises:
        ValueError: the name leads out of it, by itself or by a link.
    """
    inside = (folder / name).resolve()
    if not inside.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} is outside of {folder.name}")
    return inside
