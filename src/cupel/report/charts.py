"""Curves over steps as HTML: a still picture, and beside it the numbers for the living one.

Pure. The still picture holds means and bands: a box of 1000 by 400 units stretched to whatever
width the page has, with ticks and labels as HTML, for print and for readers without script. Where
a script runs it draws every seed from the figure's data instead (`chart_data`). Refuses to know
why a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cupel.report.formats import plain_number, tick_text, value_text
from cupel.report.geometry import Axis, band_path, line_path, nice_axis, spread, value_axis
from cupel.report.palette import Ink
from cupel.report.view import MAX_POINTS, Band, BandKind, Curve, average, block_size, thin

_BAND_WORDS: Mapping[BandKind, str] = {
    "t95": "the band is the pointwise 95 % t-interval of that mean",
    "range": "with two seeds the band is their range, not an interval",
    "none": "with one seed there is no band",
}


_BRIEF_WORDS: Mapping[BandKind, str] = {
    "t95": "95 % t-band",
    "range": "band: range of two",
    "none": "no band",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A ring on a run's curve, with what happened there."""

    condition: str
    step: float
    value: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a figure of curves is called and how its values are shown."""

    slug: str
    title: str
    unit: str
    x_title: str = "training step"
    note: str = ""
    tall: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure's curves after thinning, the bands over them, and its axes."""

    curves: tuple[Curve, ...]
    bands: tuple[Band, ...]
    block: int
    x: Axis
    y: Axis


def prepare(
    curves: Sequence[Curve], labels: Sequence[str], unit: str, *, max_points: int = MAX_POINTS
) -> Drawn:
    """Thin the curves, average them by condition, and choose the axes."""
    block = block_size(curves, max_points=max_points)
    thinned = tuple(thin(curve, block=block) for curve in curves)
    bands = tuple(found for label in labels if (found := average(label, thinned)) is not None)
    steps = [curve.steps_T for curve in thinned]
    last = max((float(array.max()) for array in steps if array.size), default=1.0)
    first = min((float(array.min()) for array in steps if array.size), default=0.0)
    return Drawn(
        curves=thinned,
        bands=bands,
        block=block,
        x=nice_axis(first, max(last, first + 1), unit="step", count=6, widen=False),
        y=value_axis([curve.values_T for curve in thinned], unit=unit),
    )


def line_figure(figure: Figure, drawn: Drawn, data: str, inks: Mapping[str, Ink]) -> str:
    """Return the figure as HTML: caption, still picture with axes and labels, and its data.

    Args:
        data: what `chart_data` made of the same curves; empty for a page that asks for it later.
    """
    y_labels = "".join(
        f'<span style="top:{100 * (1 - drawn.y.share(tick)):.2f}%">'
        f"{escape(tick_text(tick, figure.unit))}</span>"
        for tick in drawn.y.ticks
    )
    words = caption(figure, drawn, seeds_drawn=False)
    embedded = f'<script type="application/json">{data}</script>' if data else ""
    return (
        f"{_opening(figure)}<p data-part=caption>{escape(words)}</p></figcaption>"
        f"{_open_chart(figure, len(drawn.curves))}"
        f'<div class="ylab" aria-hidden="true">{y_labels}</div>'
        f'<div class="plot">{_plot(drawn, inks)}</div>'
        f'<div class="ends" aria-hidden="true">{end_labels(figure, drawn, inks)}</div>'
        f'<div class="xlab" aria-hidden="true">{_x_labels(figure, drawn.x)}</div>'
        f"</div>{embedded}</figure>"
    )


def empty_figure(figure: Figure) -> str:
    """Return the figure without its picture: the place that a following page fills by itself."""
    return (
        f"{_opening(figure)}<p data-part=caption></p></figcaption>{_open_chart(figure, 0)}"
        '<div class="plot"></div><div class="ends" aria-hidden="true"></div></div></figure>'
    )


def _opening(figure: Figure) -> str:
    shown = figure.unit if figure.unit not in {"", "rate", "text"} else ""
    unit = f" <small>in {escape(shown)}</small>" if shown else ""
    tall = " tall" if figure.tall else ""
    return (
        f'<figure class="fig{tall}" id="fig-{escape(figure.slug)}">'
        f"<figcaption><h3>{escape(figure.title)}{unit}</h3>"
    )


def caption(figure: Figure, drawn: Drawn, *, seeds_drawn: bool) -> str:
    """Say what the lines, the band and the points are, and what was averaged away."""
    kinds = {band.kind for band in drawn.bands}
    parts = [figure.note] if figure.note else []
    words = _BAND_WORDS if figure.tall else _BRIEF_WORDS
    said = ", ".join(words[kind] for kind in ("t95", "range", "none") if kind in kinds)
    seeds = sorted({band.full for band in drawn.bands})
    counted = " or ".join(str(count) for count in seeds)
    many = "seed" if seeds == [1] else "seeds"
    lines = "Thin lines are single seeds, thick ones the mean" if seeds_drawn else "Lines are means"
    parts.append(
        f"{lines} over {counted} {many}; {said}."
        if figure.tall
        else f"Mean of {counted} {many}, {said}."
    )
    if any(band.thinned_out_T.any() for band in drawn.bands):
        failed = any(curve.failed for curve in drawn.curves)
        why = "because one stopped earlier (×)" if failed else "the others are not there yet"
        parts.append(f"Dashed: fewer seeds, {why}." if figure.tall else "Dashed: fewer seeds.")
    if drawn.block > 1:
        longest = max(curve.steps_T.size for curve in drawn.curves)
        parts.append(
            f"Thinned to {longest} points a run: each is the mean of {drawn.block} consecutive "
            "steps."
            if figure.tall
            else f"Each point averages {drawn.block} steps."
        )
    return " ".join(parts)


def _open_chart(figure: Figure, runs: int) -> str:
    count = f": {runs} runs" if runs else ""
    label = (
        f"{figure.title}{count}. Arrow keys up and down choose a run, left and right a step; "
        "plus and minus zoom, 0 shows all."
    )
    return f'<div class="chart" tabindex="0" role="group" aria-label="{escape(label)}">'


def _plot(drawn: Drawn, inks: Mapping[str, Ink]) -> str:
    grid = "".join(f"M0,{400 * (1 - drawn.y.share(tick)):.1f}H1000" for tick in drawn.y.ticks)
    parts = [f'<path class="grid" d="{grid}"/>']
    for band in drawn.bands:
        path = band_path(drawn.x, drawn.y, band.steps_T, band.low_T, band.high_T)
        if path:
            parts.append(f'<path class="b k{inks[band.condition].index}" d="{path}"/>')
    parts += [_mean_paths(drawn, band, inks[band.condition]) for band in drawn.bands]
    return (
        '<svg viewBox="0 0 1000 400" preserveAspectRatio="none" aria-hidden="true" '
        f'focusable="false">{"".join(parts)}</svg>'
    )


def _mean_paths(drawn: Drawn, band: Band, ink: Ink) -> str:
    partial_T = band.thinned_out_T
    whole_T = np.where(partial_T, np.nan, band.mean_T)
    solid = line_path(drawn.x, drawn.y, band.steps_T, whole_T)
    dash = f' stroke-dasharray="{ink.dash}"' if ink.dash else ""
    result = f'<path class="m k{ink.index}" d="{solid}"{dash}/>' if solid else ""
    if partial_T.any():
        # one neighbour on each side, so that the dashed stretch meets the solid one
        near_T = partial_T | np.roll(partial_T, 1) | np.roll(partial_T, -1)
        near_T[0], near_T[-1] = partial_T[:2].any(), partial_T[-2:].any()
        dashed_T = np.where(near_T, band.mean_T, np.nan)
        path = line_path(drawn.x, drawn.y, band.steps_T, dashed_T)
        result += f'<path class="m part k{ink.index}" d="{path}"/>'
    return result


def end_labels(figure: Figure, drawn: Drawn, inks: Mapping[str, Ink]) -> str:
    """Return the names at the ends of the means, moved apart; nothing where they have no room."""
    gap = 0.115 if figure.tall else 0.1
    if len(drawn.bands) * gap > 1:
        return ""
    ends = []
    for band in drawn.bands:
        finite = np.flatnonzero(np.isfinite(band.mean_T))
        value = float(band.mean_T[finite[-1]])
        ends.append((1 - drawn.y.share(value), band.condition, value))
    tops = spread([top for top, _, _ in ends], gap=gap, low=0.03, high=0.97)
    return "".join(
        f'<span class="end k{inks[condition].index}" style="top:{100 * top:.2f}%">'
        f"<b>{breakable(condition)}</b>"
        f"{escape(value_text(value, figure.unit)) if figure.tall else ''}</span>"
        for top, (_, condition, value) in zip(tops, ends, strict=True)
    )


def breakable(label: str) -> str:
    """Return an escaped label that may break after its joints: + and _."""
    return escape(label).replace("+", "+<wbr>").replace("_", "_<wbr>")


def _x_labels(figure: Figure, axis: Axis) -> str:
    ticks = "".join(
        f'<span style="left:{100 * axis.share(tick):.2f}%">{escape(plain_number(tick))}</span>'
        for tick in axis.ticks
    )
    return f"{ticks}<em>{escape(figure.x_title)}</em>"
