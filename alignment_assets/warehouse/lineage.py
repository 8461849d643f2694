"""What rows were made of, and whether that is what stands in the tables now.

Each part of a table (a partition, or all of it) is replaced as one, so what it was made of is kept
once for the part, in the table ``lineage``, in the transaction that puts its rows in place. For
each table above it, it has the part that was read, its making, and a hash over what was read. Which
rows and columns those are is said by ``sql/edges/<table>/<upstream>.sql``, one SELECT an edge.

A part fits if the parts above it still are the makings that it was made of, or others with the same
content. A build reads only what fits, all the way up; so rows of two makings never meet in a pair.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

from alignment_assets.warehouse import sql_files
from alignment_assets.warehouse.schema import WarehouseError

if TYPE_CHECKING:
    import pyarrow as pa

# The column that holds a table's partition.
PARTITION_COLUMNS = {
    "source_prompts": "dataset",
    "grader_trials": "candidate",
    **dict.fromkeys(("degraded_answers", "calibration_answers", "judge_calibration"), "scorer"),
    **dict.fromkeys(("completion_requests", "completions", "rewards"), "model"),
    **dict.fromkeys(
        (
            *("judge_comparisons", "judge_rankings", "policy_tokens", "quantile_rewards"),
            *("selected_pairs", "dpo_pairs", "qrpo_samples", "selection_exclusions"),
            *("reference_logprobs", "selection_report", "training_export"),
        ),
        "policy",
    ),
}
# Not a table: what the recipe says, where rows that were made by other settings do not go together.
RECIPE = "recipe"
SHOWN = 6
# The content of no rows.
_NOTHING = "0-0"

_CONTENT = """
SELECT {partition}, count(*), coalesce(sum(hash(taken)), 0)
FROM ({query}
) AS taken
GROUP BY ALL
"""


class InconsistentError(WarehouseError):
    """Rows to be built from do not belong together; the message says which to make again."""


@dataclass(frozen=True, order=True)
class TablePart:
    """A partition of a table, or all of a table that has none."""

    table: str
    partition: str | None = None

    @property
    def label(self) -> str:
        """The table, with the partition in brackets."""
        return f"{self.table}[{self.partition}]" if self.partition else self.table

    @property
    def values(self) -> dict[str, str]:
        """The partition's column and value; empty if there is none."""
        return {PARTITION_COLUMNS[self.table]: self.partition} if self.partition else {}


@dataclass(frozen=True)
class Input:
    """What was read of a part of another table.

    Attributes:
        source: the part.
        version: its making; None if no asset made it.
        rows: how many.
        content: a hash over them.
    """

    source: TablePart
    version: str | None
    rows: int
    content: str


@dataclass(frozen=True)
class Misfit:
    """A part that does not fit what stands above it now.

    Attributes:
        part: it.
        how: in which way, to follow its name.
    """

    part: TablePart
    how: str

    @property
    def text(self) -> str:
        """The part, and in which way it does not fit."""
        return f"{self.part.label} {self.how}"


@dataclass
class Lineage:
    """What the parts of a database were made of, as it stands when this is made.

    Attributes:
        connection: sees the tables.
        parameters: the recipe's settings, which say which parts there are.
    """

    connection: duckdb.DuckDBPyConnection
    parameters: Mapping[str, Any]
    _now: dict[tuple[TablePart, str], dict[TablePart, Input]] = field(default_factory=dict)
    _rows: dict[str, dict[str | None, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read all that is on record."""
        self.made: dict[TablePart, Input] = {}
        self.inputs: dict[TablePart, dict[TablePart, Input]] = {}
        for row in self.connection.execute(
            "SELECT table_name, partition, version, upstream, upstream_partition, "
            "upstream_version, rows, content FROM lineage"
        ).fetchall():
            table, partition, version, upstream, other, read, rows, content = row
            part = TablePart(table, partition)
            if upstream is None:
                self.made[part] = Input(part, version, rows, content)
            else:
                source = TablePart(upstream, other)
                taken = Input(source, read, rows, content)
                self.inputs.setdefault(part, {})[source] = taken

    def read(self, part: TablePart) -> list[Input]:
        """Return what a part would be made of now."""
        return [
            taken
            for upstream in upstream_of(part.table)
            for taken in self._standing(part, upstream).values()
        ]

    def misfits_of(self, part: TablePart) -> list[Misfit]:
        """Return in which ways a part does not fit what it was made of; none if it does."""
        if part not in self.made:
            return [Misfit(part, "has not been made")]
        made, there = self.made[part].rows, self._rows_of(part)
        if made != there:  # changed by no asset
            return [Misfit(part, f"has {there:,} rows where {made:,} were made")]
        before = self.inputs.get(part, {})
        found = [
            Misfit(part, f"was made of {source.label}, which is not part of it now")
            for source, taken in before.items()
            if source not in self._sources(part) and taken.rows
        ]
        for source in self._sources(part):
            taken = before.get(source, Input(source, None, 0, _NOTHING))
            if source in self.made and self.made[source].version == taken.version:
                continue
            now = self._standing(part, source.table)[source]
            if now.content == taken.content:
                continue
            if source.table == RECIPE:
                how = "was made by settings that the recipe has changed"
            else:
                how = (
                    f"was made of other rows of {source.label} than stand there now "
                    f"({taken.rows:,} then, {now.rows:,} now)"
                )
            found.append(Misfit(part, how))
        return found

    def misfits_above(self, part: TablePart) -> list[Misfit]:
        """Return all misfits among the parts that a part is made of, from the sources down."""
        return [found for above in self._above(part, set()) for found in self.misfits_of(above)]

    def check(self, part: TablePart) -> None:
        """Raise an InconsistentError if what a part is made of does not belong together."""
        misfits = self.misfits_above(part)
        if not misfits:
            return
        again = list(dict.fromkeys(misfit.part.label for misfit in misfits))
        more = len(misfits) - SHOWN
        told = "; ".join(misfit.text for misfit in misfits[:SHOWN])
        raise InconsistentError(
            f"{part.label}: nothing was made, as its rows would not belong together: {told}"
            f"{f'; and {more} more' if more > 0 else ''}. Materialize first, in this order: "
            f"{', '.join(again)}"
        )

    def _rows_of(self, part: TablePart) -> int:
        if part.table not in self._rows:
            column = PARTITION_COLUMNS.get(part.table, "NULL")
            self._rows[part.table] = dict(
                self.connection.execute(
                    f"SELECT {column}, count(*) FROM {part.table} GROUP BY ALL"
                ).fetchall()
            )
        return self._rows[part.table].get(part.partition, 0)

    def _above(self, part: TablePart, seen: set[TablePart]) -> Iterator[TablePart]:
        for source in self._sources(part):
            if source.table != RECIPE and source not in seen:
                seen.add(source)
                yield from self._above(source, seen)
                yield source

    def _sources(self, part: TablePart) -> list[TablePart]:
        return [
            TablePart(upstream, partition)
            for upstream in upstream_of(part.table)
            for partition in self._partitions(part, upstream)
        ]

    def _partitions(self, part: TablePart, upstream: str) -> Sequence[str | None]:
        """Return the partitions of a table above that feed a part."""
        column, own = PARTITION_COLUMNS.get(upstream), PARTITION_COLUMNS.get(part.table)
        if column is None:
            return [None]
        if column == own:
            return [part.partition]
        if column == "dataset":
            return [source["name"] for source in self.parameters["prompts"]]
        if column == "candidate":  # of candidates those that have been tried: nothing waits for all
            names = self.parameters["controversy_candidates"]
            return [name for name in names if TablePart(upstream, name) in self.made]
        models = self.parameters["completions_models"]
        return [*models, part.partition] if own == "policy" else list(models)

    def _standing(self, part: TablePart, upstream: str) -> dict[TablePart, Input]:
        """Return what an edge takes now, of each partition of the table above."""
        known = self._now.get((part, upstream))
        if known is not None:
            return known
        query = sql_files.read_sql("edges", f"{part.table}/{upstream}")
        partition = "upstream_partition" if upstream in PARTITION_COLUMNS else "NULL"
        found = {
            name: (rows, content)
            for name, rows, content in self.connection.execute(
                _CONTENT.format(partition=partition, query=query),
                sql_files.named_parameters(query, {**self.parameters, **part.values}),
            ).fetchall()
        }
        standing = {}
        for name in self._partitions(part, upstream):
            rows, content = found.get(name, (0, 0))
            source = TablePart(upstream, name)
            version = self.made[source].version if source in self.made else None
            standing[source] = Input(source, version, rows, f"{rows}-{content:x}")
        self._now[part, upstream] = standing
        return standing


@cache
def upstream_of(table: str) -> list[str]:
    """Return the tables that a table is made of, and ``recipe``, by the files of ``sql/edges``."""
    start = f"{table}/"
    return [
        name.removeprefix(start) for name in sql_files.sql_names("edges") if name.startswith(start)
    ]


def lineage_rows(
    part: TablePart,
    rows: int,
    content: str,
    inputs: Sequence[Input],
    version: str | None = None,
) -> pa.Table:
    """Return the rows of ``lineage`` for a part that is about to be put in place.

    Args:
        part: it.
        rows: how many it has.
        content: a hash over them.
        inputs: what they were made of.
        version: of a making that gave the same rows of the same; a new one by default.
    """
    import pyarrow as pa  # here, because who only reads waits for it in vain

    schema = [
        *((name, pa.string()) for name in ("table_name", "partition", "version", "upstream")),
        *((name, pa.string()) for name in ("upstream_partition", "upstream_version")),
        ("rows", pa.int64()),
        ("content", pa.string()),
        ("made_at", pa.timestamp("us")),
    ]
    itself = {
        "table_name": part.table,
        "partition": part.partition,
        "version": version or uuid.uuid4().hex,
        "made_at": datetime.now(UTC).replace(tzinfo=None),
    }
    taken = [
        {
            **itself,
            "upstream": one.source.table,
            "upstream_partition": one.source.partition,
            "upstream_version": one.version,
            "rows": one.rows,
            "content": one.content,
        }
        for one in inputs
    ]
    listed = [{**itself, "rows": rows, "content": content}, *taken]
    return pa.Table.from_pylist(listed, pa.schema(schema))
