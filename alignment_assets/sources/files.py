"""Rows of local files, one reader a format; memory is bounded by the largest row that is allowed.

Here belongs how a file's bytes become rows. A row that is no row, or larger than allowed, is handed
on as such; what a file breaks with is one of `UNREADABLE`.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from alignment_assets.host.expected import Expected
from alignment_assets.host.machine import GIBI
from alignment_assets.host.shown import ascii_controls

BATCH_ROWS = 1000
BATCH_BYTES = 64 * 2**20
TOO_LARGE = "a row larger than max_row_bytes"
MESSAGE_CHARACTERS = 2000

_PIECE = 1 << 20
_ARRAY_START = re.compile(r"\s*\[?")
# Arrays may stand one after another.
_BETWEEN_VALUES = re.compile(r"[\s,]*(?:\][\s,]*\[?[\s,]*)*")
_STRUCTURE = re.compile(r'["\\\[\]{}]')
# What a CSV record is made of besides its texts.
_CSV_TEXT = re.compile(r'[^",\r\n]+')
# Stands for a field that a CSV line lacks.
_MISSING = "\x00 missing"
HEADER_CHARACTERS = 1 << 24
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

# What is raised for a file that is not what its name says, or is cut off.
UNREADABLE = (
    *(OSError, ValueError, EOFError, OverflowError, RecursionError, zlib.error, csv.Error),
    KeyError,  # an unknown time zone
)


class SourceError(Expected):
    """A dataset that cannot be read; the message names it, what was wanted and what was found."""

    def __init__(self, message: str) -> None:
        super().__init__(ascii_controls(message[:MESSAGE_CHARACTERS]))


@dataclass(frozen=True)
class Row:
    """One row of a dataset as read; ``size`` is about its bytes."""

    values: dict[str, Any]
    origin: str
    problem: str | None = None
    size: int = 0


def file_rows(path: Path, columns: Collection[str] | None, limit: int) -> Iterator[Row]:
    """Yield the rows of a file, which has the ending of one of `READERS`.

    Args:
        path: the file.
        columns: those that are needed, others may be left out; None if all are.
        limit: bytes of a row; a character of a text file counts as one.
    """
    (read,) = (reader for suffix, reader in READERS.items() if path.name.endswith(suffix))
    yield from read(path, columns, limit)


def _open_text(path: Path) -> IO[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        encoding = "utf-16" if file.read(2) in _UTF_16 else "utf-8-sig"
    # Bytes that are no UTF-8 become lone surrogates, which later mark the row as malformed.
    errors = "replace" if encoding == "utf-16" else "surrogateescape"
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, errors=errors)
    return path.open(encoding=encoding, errors=errors, newline="")


def _lines(file: IO[str], limit: int) -> Iterator[str | None]:
    """Yield lines; None for one that is longer than the limit, of which no more is held."""
    while line := file.readline(limit + 1):
        if len(line) <= limit or line[-1] in "\r\n":
            yield line
            continue
        while (rest := file.readline(_PIECE)) and rest[-1] not in "\r\n":
            pass
        yield None


def _json_lines(path: Path, columns: Collection[str] | None, limit: int) -> Iterator[Row]:
    with _open_text(path) as file:
        for line in _lines(file, limit):
            if line is None:
                yield Row({}, "", TOO_LARGE)
            elif line.strip():
                yield _json_row(line)


def _json_row(text: str) -> Row:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return Row({}, "", "not JSON")
    return _as_row(values, len(text))


def _as_row(values: Any, size: int) -> Row:
    if isinstance(values, dict):
        return Row(values, "", size=size)
    return Row({}, "", "not a JSON object")


def _json_array(path: Path, columns: Collection[str] | None, limit: int) -> Iterator[Row]:
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
                if not ended and len(buffer) - start > limit:
                    buffer, start = _after_value(file, buffer[start:]), 0
                    yield Row({}, "", TOO_LARGE)
                    continue
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
            size = end - start
            yield _as_row(value, size) if size <= limit else Row({}, "", TOO_LARGE)
            start = end


def _after_value(file: IO[str], piece: str) -> str:
    """Return what stands after the value that a piece starts with, reading on to its end.

    Raises:
        ValueError: the file ends in it.
    """
    depth, in_text, escaped = 0, False, False
    while piece:
        position = 0
        if escaped:
            position, escaped = 1, False
        while found := _STRUCTURE.search(piece, position):
            position = found.end()
            sign = found.group()
            if in_text and sign == "\\":
                escaped = position == len(piece)
                position += 1
            elif sign == '"':
                in_text = not in_text
            elif not in_text and sign in "[{":
                depth += 1
            elif not in_text and sign in "]}":
                depth -= 1
            if depth == 0 and not in_text:
                return piece[position:]
        piece = file.read(_PIECE)
    raise ValueError("the file ends within a value that is larger than max_row_bytes")


def _span(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return where the match of a pattern that always matches ends."""
    match = pattern.match(text, start)
    return match.end() if match else start


class _CsvLines:
    """The lines of a CSV file for `csv`, which tells too large a record.

    Of such a record the texts are left out and the quotes kept, so that it ends where it does.
    """

    def __init__(self, file: IO[str], limit: int) -> None:
        self._file = file
        self.limit = limit
        self.held = self.lines = self.quotes = 0
        self.is_too_large = False

    def start_record(self) -> None:
        """Count anew."""
        self.held = self.lines = self.quotes = 0
        self.is_too_large = False

    @property
    def is_unclosed(self) -> bool:
        """Whether the record goes on over lines in a quoted text that does not end."""
        return self.lines > 1 and self.quotes % 2 == 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = ""
        while piece := self._file.readline(_PIECE):
            self.held += len(piece)
            self.quotes += piece.count('"')
            self.is_too_large = self.is_too_large or self.held > self.limit
            line += _CSV_TEXT.sub("x", piece) if self.is_too_large else piece
            if len(line) > 2 * self.limit + _PIECE:
                raise ValueError("a line of quotes or commas is larger than max_row_bytes")
            if piece[-1] in "\r\n":
                break
        if not line:
            raise StopIteration
        self.lines += 1
        return line


def _csv_rows(path: Path, columns: Collection[str] | None, limit: int) -> Iterator[Row]:
    csv.field_size_limit(GIBI)
    with _open_text(path) as file:
        lines = _CsvLines(file, max(limit, HEADER_CHARACTERS))
        reader = csv.DictReader(lines, restval=_MISSING)
        if reader.fieldnames is None:
            return
        lines.limit = limit
        while True:
            lines.start_record()
            try:
                values = next(reader)
            except StopIteration:
                return
            if lines.is_unclosed:
                raise ValueError("a quoted text is not closed, and takes the rows after it along")
            problem = "more fields than columns" if None in values else None
            if _MISSING in values.values():
                problem = "fewer fields than columns"
            if lines.is_too_large:
                yield Row({}, "", TOO_LARGE)
                continue
            known = {
                key: None if value is _MISSING else value
                for key, value in values.items()
                if key is not None
            }
            yield Row(known, "", problem, lines.held)


def _parquet_rows(path: Path, columns: Collection[str] | None, limit: int) -> Iterator[Row]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    wanted = None
    if columns is not None and set(columns) <= set(file.schema_arrow.names):
        wanted = sorted(columns)
    for group in range(file.num_row_groups):
        yield from _group_rows(file, group, wanted, limit)


def _group_rows(file: Any, group: int, wanted: list[str] | None, limit: int) -> Iterator[Row]:
    """Yield the rows of a row group, in batches of as many as memory holds easily."""
    about = file.metadata.row_group(group)
    chunks = [about.column(number) for number in range(about.num_columns)]
    each = sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if wanted is None or chunk.path_in_schema.partition(".")[0] in wanted
    ) // max(1, about.num_rows)
    if each > limit and about.num_rows == 1:
        yield Row({}, "", TOO_LARGE)
        return
    size = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, each)))
    for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=wanted):
        if batch.nbytes <= limit:
            size = batch.nbytes // max(1, batch.num_rows)
            yield from (Row(values, "", size=size) for values in batch.to_pylist())
            continue
        for number in range(batch.num_rows):
            one = batch.slice(number, 1)
            if one.nbytes > limit:
                yield Row({}, "", TOO_LARGE)
            else:
                yield Row(one.to_pylist()[0], "", size=one.nbytes)


Reader = Callable[[Path, Collection[str] | None, int], Iterator[Row]]
READERS: dict[str, Reader] = {
    ".jsonl": _json_lines,
    ".jsonl.gz": _json_lines,
    ".json": _json_array,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
