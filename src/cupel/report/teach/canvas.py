"""What the teaching figures share: canvas, colours of quadrants and formats, intervals, files.

Knows matplotlib, which it imports when called and configures for its own figures only. The same
results give the same bytes: dates and random ids are fixed. Refuses to carry meaning by colour
alone: quadrants have a marker each, formats a name beside theirs.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cupel.errors import MissingExtraError
from cupel.lab.files import write_atomically
from cupel.report.figures import METADATA, STYLE
from cupel.report.palette import LIGHT
from cupel.teach.labelling.labels import QUADRANTS

FORMATS = ("png", "pdf")
QUADRANT_NAMES: Mapping[str, str] = dict(
    zip(
        QUADRANTS,
        ("Q1: high U, high L", "Q2: high U, low L", "Q3: low U, low L", "Q4: low U, high L"),
        strict=True,
    )
)
QUADRANT_COLOURS: Mapping[str, str] = dict(
    zip((*QUADRANTS, "all"), (LIGHT[0], LIGHT[1], LIGHT[6], LIGHT[2], LIGHT[4]), strict=True)
)
QUADRANT_MARKERS: Mapping[str, str] = dict(
    zip((*QUADRANTS, "all"), ("o", "s", "D", "^", "P"), strict=True)
)
SUPERVISION_COLOURS: Mapping[str, str] = {
    "demo": LIGHT[0],
    "contrast": LIGHT[1],
    "hint": LIGHT[2],
    "baseline": LIGHT[6],
}
DIVERGING = "RdBu"
"""Blue above 0, red below."""


def canvas(
    width: float, height: float, *, rows: int = 1, columns: int = 1, **grid: Any
) -> tuple[Any, list[Any]]:
    """Return a figure on the Agg canvas, without pyplot and its global state, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    return figure, [each for row in axes for each in row]


def save(paint: Callable[[], Any], stem: Path) -> list[Path]:
    """Draw a figure in the house style and write it as PNG and PDF.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("figures", "plot")
    import matplotlib

    paths = []
    with matplotlib.rc_context(STYLE):
        figure = paint()
        for kind in FORMATS:
            sink = io.BytesIO()
            figure.savefig(
                sink, format=kind, dpi=200, bbox_inches="tight", metadata=dict(METADATA[kind])
            )
            paths.append(stem.with_name(f"{stem.name}.{kind}"))
            write_atomically(paths[-1], sink.getvalue())
    return paths


def point(
    axes: Any,
    at: tuple[float, float],
    *,
    x_interval: tuple[float, float] | None = None,
    y_interval: tuple[float, float] | None = None,
    colour: str,
    marker: str = "o",
    label: str | None = None,
    hollow: bool = False,
) -> None:
    """Draw a point with its intervals; one without an interval has no bar."""
    for ends, along_x in ((x_interval, True), (y_interval, False)):
        if ends is not None:
            xs, ys = (ends, (at[1], at[1])) if along_x else ((at[0], at[0]), ends)
            axes.plot(xs, ys, color=colour, linewidth=1.0, alpha=0.55, zorder=2)
    axes.plot(
        [at[0]],
        [at[1]],
        marker=marker,
        linestyle="none",
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markersize=6,
        label=label,
        zorder=3,
    )


def heatmap(
    axes: Any,
    cells: Sequence[Sequence[float | None]],
    words: Sequence[Sequence[str]],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
    limit: float,
) -> Any:
    """Draw a matrix around 0 with words in every cell; a missing value is grey."""
    import matplotlib
    import numpy as np

    values = np.array([[np.nan if v is None else v for v in row] for row in cells], dtype=float)
    colours = matplotlib.colormaps[DIVERGING].with_extremes(bad="0.88")
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=colours, vmin=-limit, vmax=limit, aspect="auto"
    )
    for i, row in enumerate(words):
        for j, text in enumerate(row):
            value = cells[i][j]
            dark = value is not None and abs(value) > 0.6 * limit
            axes.text(j, i, text, ha="center", va="center", fontsize=7.5,
                      color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(column_names)), column_names)
    axes.set_yticks(range(len(row_names)), row_names)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return image


def percent_axis(axis: Any, *, signed: bool = False) -> None:
    """Show a rate as percent, a difference of rates in signed percentage points."""
    from matplotlib.ticker import FuncFormatter

    form = "{:+.3g}" if signed else "{:.3g}"
    axis.set_major_formatter(
        FuncFormatter(
            lambda value, _: "0" if abs(value) < 1e-9 else minus(form.format(100 * value))
        )
    )


def points_text(value: float | None) -> str:
    """Return a difference of rates in percentage points, e.g. `+12.5`; `n/a` when missing.

    >>> points_text(-0.125)
    '−12.5'
    """
    return "n/a" if value is None else minus(f"{100 * value:+.1f}")


def minus(text: str) -> str:
    """Return a number's text with a true minus sign."""
    return text.replace("-", "−")
