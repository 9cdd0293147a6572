"""Grids as SVG: small, exact, and the same bytes for the same grid.

Pure. Knows the ten colours of ARC and how to write a picture. Refuses to carry meaning by colour
alone: the palette is the familiar one and no reader with a colour vision deficiency can tell all
ten apart, so that every cell also holds its digit, which a page may show or hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from cupel.arc.grids import Grid

PALETTE = (
    "#000000",
    "#0074D9",
    "#FF4136",
    "#2ECC40",
    "#FFDC00",
    "#AAAAAA",
    "#F012BE",
    "#FF851B",
    "#7FDBFF",
    "#870C25",
)
"""Colours 0 to 9, as everybody who looks at ARC knows them."""

NAMES = ("black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "sky", "maroon")

LIGHT_TEXT = frozenset({0, 1, 9})
"""Colours on which digits are white."""

COLOUR_NOTE = (
    "The colours are those used everywhere for ARC. Not all ten can be told apart with a colour "
    "vision deficiency; every cell therefore holds its digit."
)


_LINE = "stroke:#808080;stroke-opacity:.5;stroke-width:.05;vector-effect:none"
"""Styles and not attributes, so that no style sheet of a page around it changes a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One grid of a picture.

    Attributes:
        grid: None where there is none, e.g. a second answer that nobody voted for.
        caption: a few words above it.
        note: smaller words below it, e.g. votes and q.
    """

    grid: Grid | None
    caption: str
    note: str = ""


def grid_svg(grid: Grid, *, cell: int = 14, digits: bool = True, title: str = "") -> str:
    """Return a grid as an SVG element: one path a colour, one line of text a row.

    Args:
        cell: side of a cell in pixels.
        digits: write the digits, as text of class `digits`.
        title: what a screen reader says; default: the size.
    """
    if grid.size == 0:
        return _empty_svg(cell, title or "empty grid")
    height, width = grid.shape
    label = escape(title or f"{height} by {width} grid", quote=True)
    body = "".join(
        f'<path style="fill:{PALETTE[colour]}" d="{_runs(grid == colour)}"/>'
        for colour in np.unique(grid).tolist()
    )
    text = _digits(grid) if digits else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" class="arcgrid" '
        f'width="{width * cell}" height="{height * cell}" viewBox="0 0 {width} {height}" '
        f'shape-rendering="crispEdges">'
        f"{body}{_lines(height, width)}{text}</svg>"
    )


def strip_svg(panels: Sequence[Panel], *, cell: int = 14, digits: bool = False) -> str:
    """Return panels side by side as one SVG document, e.g. input, target, prediction."""
    gap, head, foot = 18, 20, 18
    tallest = max((_size(panel)[0] for panel in panels), default=1) * cell
    left, parts = 0, []
    for panel in panels:
        width = max(_size(panel)[1] * cell, 7 * max(len(panel.caption), len(panel.note)))
        parts.append(
            f'<text x="{left}" y="14" font-size="12">{escape(panel.caption)}</text>'
            f'<g transform="translate({left} {head})">{_nested(panel, cell, digits)}</g>'
            f'<text x="{left}" y="{head + tallest + 14}" font-size="10">{escape(panel.note)}</text>'
        )
        left += width + gap
    total = max(left - gap, 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{head + tallest + foot}"'
        f' font-family="system-ui, sans-serif" fill="currentColor">{"".join(parts)}</svg>'
    )


def difference(grid: Grid, truth: Grid) -> int | None:
    """Return how many cells differ; None where the shapes do."""
    return int((grid != truth).sum()) if grid.shape == truth.shape else None


def _size(panel: Panel) -> tuple[int, int]:
    if panel.grid is None or panel.grid.size == 0:
        return 1, 1
    return panel.grid.shape[0], panel.grid.shape[1]


def _nested(panel: Panel, cell: int, digits: bool) -> str:
    if panel.grid is None:
        return _empty_svg(cell, f"{panel.caption}: none")
    return grid_svg(panel.grid, cell=cell, digits=digits, title=panel.caption)


def _runs(mask: NDArray[np.bool_]) -> str:
    """Return the path of all cells of one colour, one rectangle a horizontal run."""
    parts: list[str] = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        parts += [
            f"M{start} {y}h{stop - start}v1h{start - stop}z"
            for start, stop in edges.reshape(-1, 2).tolist()
        ]
    return "".join(parts)


def _lines(height: int, width: int) -> str:
    path = "".join(f"M0 {y}h{width}" for y in range(1, height))
    path += "".join(f"M{x} 0v{height}" for x in range(1, width))
    return f'<path d="{path}" style="{_LINE}"/>'


def _digits(grid: Grid) -> str:
    """Return the digits, the light and the dark ones apart."""
    parts = []
    for colour, group in (("#fff", True), ("#000", False)):
        rows = []
        for y, row in enumerate(grid.tolist()):
            places = [x for x, value in enumerate(row) if (value in LIGHT_TEXT) == group]
            if places:
                xs = " ".join(f"{x}.5" for x in places)
                text = "".join(str(row[x]) for x in places)
                rows.append(f'<text x="{xs}" y="{y}.72">{text}</text>')
        if rows:
            parts.append(f'<g fill="{colour}">{"".join(rows)}</g>')
    return (
        '<g class="digits" aria-hidden="true" font-family="monospace" font-size=".6" '
        f'text-anchor="middle">{"".join(parts)}</g>'
    )


def _empty_svg(cell: int, title: str) -> str:
    label = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
        f'class="arcgrid blank" width="{cell}" height="{cell}" viewBox="0 0 1 1">'
        f'<path d="M.1 .1h.8v.8h-.8z" style="{_LINE};fill:none"/></svg>'
    )
