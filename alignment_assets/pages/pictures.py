"""A page's answer as a picture: bars or lines, a PNG of at most 60 kB."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignment_assets.pages.answers import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BYTES = 60_000
# Along an axis more cannot be read; as many colours can be told apart (Okabe and Ito's).
PLACES, COLOURS = 40, ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
LABELS, LABEL_CHARACTERS = 14, 32


def picture(answer: Answer) -> bytes | None:
    """Return an answer's picture as PNG; None if it is not drawn, or has no rows.

    Bars of one place and colour are added up, so they are of counts. Those without a colour of
    their own share the last.
    """
    form, columns = answer.question.form, answer.question.columns
    if form not in ("bars", "lines"):
        return None
    places = [list(answer.rows.columns).index(name) for name in columns]
    rows = [[row[place] for place in places] for row in answer.rows.values]
    rows = [row for row in rows if row[0] is not None]
    if not rows:
        return None
    for dots_per_inch in (100, 70, 50):
        drawn = _drawn(answer.question.title, form, columns, rows, dots_per_inch)
        if len(drawn) <= BYTES:
            return drawn
    return None


def as_url(png: bytes) -> str:
    """Return a picture as a link that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _drawn(
    title: str, form: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], dots: int
) -> bytes:
    # Here, because it takes a third of a second, and who starts a command waits for it in vain.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=dots)
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    (_bars if form == "bars" else _lines)(axes, columns, rows)
    axes.set_xlabel(columns[0].replace("_", " "))
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    # Room for labels and the legend; to have it worked out would take as long as the rest.
    slanted = any(label.get_rotation() for label in axes.get_xticklabels())
    figure.subplots_adjust(left=0.1, right=0.73, bottom=0.3 if slanted else 0.15, top=0.9)
    written = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _bars(axes: Axes, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    along = list(dict.fromkeys(row[0] for row in rows))
    if all(isinstance(value, int | float) for value in along):
        if len(along) > PLACES and all(map(math.isfinite, along)):
            rows = _in_steps(rows, min(along), max(along))
            along = list(dict.fromkeys(row[0] for row in rows))
        along.sort()
    places, along = len(along), along[:PLACES]
    kinds = list(dict.fromkeys(row[2] for row in rows)) if len(columns) > 2 else [None]
    shown = kinds[: len(COLOURS) - 1] if len(kinds) > len(COLOURS) else kinds
    heights: dict[Any, list[float]] = {}
    for row in rows:
        kind = row[2] if len(columns) > 2 else None
        kind = kind if kind in shown else "others"
        if row[0] in along:
            sums = heights.setdefault(kind, [0.0] * len(along))
            sums[along.index(row[0])] += float(row[1] or 0)
    width = 0.8 / len(heights)
    for number, (kind, sums) in enumerate(heights.items()):
        offset = (number - (len(heights) - 1) / 2) * width
        axes.bar(
            [place + offset for place in range(len(along))],
            sums,
            width,
            color=COLOURS[number],
            label=_plain(kind),
        )
    labels = [_plain(value) for value in along]
    step = -(-len(labels) // LABELS)
    slanted = sum(map(len, labels[::step])) > 45
    long = slanted and max(map(len, labels)) > LABEL_CHARACTERS // 2
    if long:
        axes.figure.subplots_adjust(left=0.2, bottom=0.44)
    axes.set_xticks(
        range(0, len(labels), step),
        labels[::step],
        rotation=40 if slanted else 0,
        fontsize=7.5 if long else None,
        ha="right" if slanted else "center",
    )
    axes.set_xlim(-1, max(len(labels), 2))
    if places > PLACES:
        axes.set_xlabel(f"{axes.get_xlabel()} (the first {PLACES} of {places:,})")
    axes.set_ylabel(columns[1].replace("_", " "))
    if len(columns) > 2:
        _legend(axes, columns[2])


def _in_steps(
    rows: Sequence[Sequence[Any]], lowest: float, highest: float
) -> Sequence[Sequence[Any]]:
    """Return rows whose places are so many that neighbours share the lower end of a step."""
    width = (highest - lowest) / PLACES
    digits = 1 - math.floor(math.log10(width))
    steps = (min(int((row[0] - lowest) / width), PLACES - 1) for row in rows)
    return [
        (round(lowest + step * width, digits), *row[1:])
        for step, row in zip(steps, rows, strict=True)
    ]


def _lines(axes: Axes, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Draw a line for each column; those of its interval, ``_low`` and ``_high``, as a band."""
    along = [row[0] for row in rows]
    values = {
        name: [row[number] for row in rows] for number, name in enumerate(columns[1:], start=1)
    }
    banded = {name for name in values if {f"{name}_low", f"{name}_high"} <= values.keys()}
    bands = {f"{name}_{end}" for name in banded for end in ("low", "high")}
    lines = [name for name in values if name not in bands]
    for colour, name in zip(COLOURS, lines, strict=False):
        axes.plot(along, values[name], marker="o", color=colour, label=name.replace("_", " "))
        if name in banded:
            low, high = values[f"{name}_low"], values[f"{name}_high"]
            there = [n for n, ends in enumerate(zip(low, high, strict=True)) if None not in ends]
            axes.fill_between(
                [along[place] for place in there],
                [low[place] for place in there],
                [high[place] for place in there],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    if len(along) <= LABELS:
        axes.set_xticks(along, [_plain(value) for value in along])
    _legend(axes, None)


def _legend(axes: Axes, title: str | None) -> None:
    """Put it beside the picture, where it hides nothing."""
    axes.legend(
        title=title and title.replace("_", " "),
        fontsize="small",
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )


def _plain(value: Any) -> str:
    """Return a value as a label: a dollar sign would begin a formula, and a name may be long."""
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = "".join(letter if letter.isprintable() else "·" for letter in text)
    text = text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 1]}…"
    return text.replace("$", r"\$")
