"""What is lost where rows are made: counted by ``sql/losses``, judged by the recipe's limits.

Here belongs the judgement, before rows are published; the limits are ``recipe/limits.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import duckdb
import pyarrow as pa

from alignment_assets.host.expected import Expected
from alignment_assets.host.shown import ascii_controls
from alignment_assets.warehouse import sql_files

REASONS = 5
EXAMPLE_CHARACTERS = 200

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "asset", "partition", "part", "track")),
        *((name, pa.string()) for name in ("loss", "reason")),
        *((name, pa.int64()) for name in ("rows", "of_rows")),
        *((name, pa.float64()) for name in ("share", "allowed")),
        ("example", pa.string()),
    ]
)


class TooMuchLost(Expected):
    """More is lost than the recipe allows; the message has the most common reasons."""


@dataclass(frozen=True)
class Loss:
    """Rows that are lost for one reason; the columns of a file of ``sql/losses``.

    Attributes:
        part: the source, model or policy whose rows are counted; None for all.
        track: the track whose rows are counted; None for all.
        loss: what kind of loss it is: those of one kind are judged together.
        limit: the field of the recipe's limits that judges it; None where it is only told.
        reason: why, the same text for all rows of that reason.
        rows: how many are lost.
        of_rows: how many there are.
        example: one of them.
    """

    part: str | None
    track: str | None
    loss: str
    limit: str | None
    reason: str
    rows: int
    of_rows: int
    example: str | None

    @property
    def share(self) -> float:
        """The share that is lost."""
        return self.rows / self.of_rows


@dataclass(frozen=True)
class Judgement:
    """All that is lost in one way: how much, how much may be, and why."""

    losses: tuple[Loss, ...]
    allowed: float | None

    @property
    def rows(self) -> int:
        """How many rows are lost."""
        return sum(loss.rows for loss in self.losses)

    @property
    def share(self) -> float:
        """The share that is lost."""
        return self.rows / self.losses[0].of_rows

    @property
    def is_too_much(self) -> bool:
        """Whether more is lost than may be."""
        return self.allowed is not None and self.share > self.allowed

    @property
    def name(self) -> str:
        """What is lost, of whom."""
        first = self.losses[0]
        of = ", ".join(name for name in (first.part, first.track) if name)
        return f"{first.loss} ({of})" if of else first.loss

    @property
    def reasons(self) -> str:
        """The most common reasons, each with an example."""
        most = sorted(self.losses, key=lambda loss: (-loss.rows, loss.reason))
        return "; ".join(
            f"{loss.rows:,} × {loss.reason}" + (f" ({loss.example})" if loss.example else "")
            for loss in most[:REASONS]
        )

    @property
    def text(self) -> str:
        """How much is lost, and the most common reasons."""
        return f"{self.name}: {self.rows:,} of {self.losses[0].of_rows:,} rows: {self.reasons}"


def find_losses(
    connection: duckdb.DuckDBPyConnection, table: str, parameters: Mapping[str, Any]
) -> list[Loss]:
    """Return what is lost in a table's rows; nothing where ``sql/losses`` has no file for it."""
    if table not in sql_files.sql_names("losses"):
        return []
    query = sql_files.read_sql("losses", table)
    rows = connection.execute(
        f"SELECT part, track, loss, limit_name, reason, lost, of_rows, example FROM ({query}\n) "
        "WHERE lost > 0 ORDER BY part, track, loss, lost DESC, reason",
        sql_files.named_parameters(query, parameters),
    ).fetchall()
    losses = [Loss(*row) for row in rows]
    return [replace(loss, example=_shown(loss.example)) for loss in losses]


def _shown(example: str | None) -> str | None:
    """Return an example for messages: it may come from a dataset or a model."""
    return None if example is None else ascii_controls(example[:EXAMPLE_CHARACTERS])


def judge(losses: Iterable[Loss], allowed: Callable[[str, str | None], float]) -> list[Judgement]:
    """Return losses by kind, in their order.

    Args:
        losses: as `find_losses` gives them.
        allowed: gives a limit as it is for a part.
    """
    judged = []
    for (part, _, _), some in groupby(losses, key=lambda one: (one.part, one.track, one.loss)):
        kind = tuple(some)
        limit = kind[0].limit
        judged.append(Judgement(kind, allowed(limit, part) if limit else None))
    return judged


def check_losses(label: str, judged: Sequence[Judgement]) -> None:
    """Raise TooMuchLost where more is lost than may be.

    Args:
        label: the table, with its partition.
        judged: what is lost.
    """
    for one in judged:
        if one.is_too_much:
            limit = f"limits.{one.losses[0].limit}"
            raise TooMuchLost(
                f"{label}: {one.text}. That is {one.share:.2%}, more than the recipe's {limit} of "
                f"{one.allowed:.2%}. The old rows stay; put the reason right, or raise {limit} "
                f"(docs/limits.md), and run it again"
            )


def shares(judged: Iterable[Judgement]) -> dict[str, float]:
    """Return what is lost as metadata of a materialization: the share of each kind."""
    return {f"lost: {one.name}": round(one.share, 6) for one in judged}


def loss_rows(
    run_id: str, asset: str, partition: str | None, judged: Iterable[Judgement]
) -> pa.Table:
    """Return rows of the table ``losses``."""
    rows = [
        {
            "run_id": run_id,
            "asset": asset,
            "partition": partition,
            "part": loss.part,
            "track": loss.track,
            "loss": loss.loss,
            "reason": loss.reason,
            "rows": loss.rows,
            "of_rows": loss.of_rows,
            "share": loss.share,
            "allowed": one.allowed,
            "example": loss.example,
        }
        for one in judged
        for loss in one.losses
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
