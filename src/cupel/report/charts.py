"""Curves over steps as HTML: a stretchable SVG plot with text labels around it.

Pure. The plot is a box of 1000 by 400 units stretched to whatever width the page has, with strokes
that do not scale; ticks and labels are HTML placed in percent, so they stay readable on a phone.
Each seed's path carries its label, and the page's script reads values back from the paths: the
numbers are in the file once. Refuses to know why a figure is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cupel.report.formats import plain_number, tick_text, value_text
from cupel.report.geometry import Axis, band_path, line_path, nice_axis, spread, value_axis
from cupel.report.palette import Ink
from cupel.report.view import Band, BandKind, Curve, average, block_size, thin

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


def prepare(curves: Sequence[Curve], labels: Sequence[str], unit: str) -> Drawn:
    """Thin the curves, average them by condition, and choose the axes."""
    block = block_size(curves)
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


def line_figure(
    figure: Figure,
    curves: Sequence[Curve],
    drawn_inks: Mapping[str, Ink],
    marks: Sequence[Mark] = (),
) -> str:
    """Return the figure as HTML: caption, plot, axes and the labels at the ends of its lines."""
    drawn = prepare(curves, list(drawn_inks), figure.unit)
    y_labels = "".join(
        f'<span style="top:{100 * (1 - drawn.y.share(tick)):.2f}%">'
        f"{escape(tick_text(tick, figure.unit))}</span>"
        for tick in drawn.y.ticks
    )
    unit = f" <small>in {escape(figure.unit)}</small>" if figure.unit not in {"", "rate"} else ""
    rings = _rings(drawn, drawn_inks, marks)
    return (
        f'<figure class="fig{" tall" if figure.tall else ""}" id="fig-{escape(figure.slug)}">'
        f"<figcaption><h3>{escape(figure.title)}{unit}</h3>"
        f"<p>{escape(caption(figure, drawn))}</p></figcaption>"
        f"{_open_chart(figure, drawn)}"
        f'<div class="ylab" aria-hidden="true">{y_labels}</div>'
        f'<div class="plot">{_plot(drawn, drawn_inks)}{_crosses(drawn, drawn_inks)}{rings}</div>'
        f'<div class="ends" aria-hidden="true">{_end_labels(figure, drawn, drawn_inks)}</div>'
        f'<div class="xlab" aria-hidden="true">{_x_labels(figure, drawn.x)}</div>'
        "</div></figure>"
    )


def caption(figure: Figure, drawn: Drawn) -> str:
    """Say what the lines, the band and the points are, and what was averaged away."""
    kinds = {band.kind for band in drawn.bands}
    parts = [figure.note] if figure.note else []
    words = _BAND_WORDS if figure.tall else _BRIEF_WORDS
    said = ", ".join(words[kind] for kind in ("t95", "range", "none") if kind in kinds)
    seeds = sorted({band.full for band in drawn.bands})
    counted = " or ".join(str(count) for count in seeds)
    many = "seed" if seeds == [1] else "seeds"
    parts.append(
        f"Thin lines are single seeds, thick ones the mean over {counted} {many}; {said}."
        if figure.tall
        else f"Mean of {counted} {many}, {said}."
    )
    if any(band.thinned_out_T.any() for band in drawn.bands):
        parts.append(
            "Dashed: fewer seeds, because one stopped earlier (×)."
            if figure.tall
            else "Dashed: fewer seeds."
        )
    if drawn.block > 1:
        longest = max(curve.steps_T.size for curve in drawn.curves)
        parts.append(
            f"Thinned to {longest} points a run: each is the mean of {drawn.block} consecutive "
            "steps."
            if figure.tall
            else f"Each point averages {drawn.block} steps."
        )
    return " ".join(parts)


def _open_chart(figure: Figure, drawn: Drawn) -> str:
    label = (
        f"{figure.title}: {len(drawn.curves)} runs. Arrow keys up and down choose a run, "
        "left and right a step."
    )
    return (
        f'<div class="chart" tabindex="0" role="group" aria-label="{escape(label)}" '
        f'data-x0="{drawn.x.low:g}" data-x1="{drawn.x.high:g}" data-y0="{drawn.y.low:.9g}" '
        f'data-y1="{drawn.y.high:.9g}" data-unit="{escape(figure.unit)}" '
        f'data-block="{drawn.block}" style="--so:{_faintness(len(drawn.curves))}">'
    )


def _faintness(curves: int) -> float:
    """Return the opacity of single seeds: the more lines, the fainter each."""
    return round(max(0.12, min(0.38, 3.4 / max(1, curves))), 2)


def _plot(drawn: Drawn, drawn_inks: Mapping[str, Ink]) -> str:
    grid = "".join(f"M0,{400 * (1 - drawn.y.share(tick)):.1f}H1000" for tick in drawn.y.ticks)
    parts = [f'<path class="grid" d="{grid}"/>']
    for band in drawn.bands:
        ink = drawn_inks[band.condition]
        path = band_path(drawn.x, drawn.y, band.steps_T, band.low_T, band.high_T)
        if path:
            parts.append(f'<path class="b k{ink.index}" d="{path}"/>')
    for curve in drawn.curves:
        ink = drawn_inks[curve.condition]
        path = line_path(drawn.x, drawn.y, curve.steps_T, curve.values_T)
        label = f"{curve.condition} · seed {curve.seed}" + (" · failed" if curve.failed else "")
        parts.append(f'<path class="s k{ink.index}" data-label="{escape(label)}" d="{path}"/>')
    for band in drawn.bands:
        parts.append(_mean_paths(drawn, band, drawn_inks[band.condition]))
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


def _crosses(drawn: Drawn, drawn_inks: Mapping[str, Ink]) -> str:
    """Mark where failed runs stopped."""
    marks = []
    for curve in drawn.curves:
        if not curve.failed:
            continue
        last = int(np.flatnonzero(np.isfinite(curve.values_T))[-1])
        left = 100 * drawn.x.share(float(curve.steps_T[last]))
        top = 100 * (1 - drawn.y.share(float(curve.values_T[last])))
        ink = drawn_inks[curve.condition]
        marks.append(
            f'<i class="stop k{ink.index}" style="left:{left:.2f}%;top:{top:.2f}%" '
            f'title="{escape(f"{curve.condition}, seed {curve.seed}: failed here")}">×</i>'
        )
    return "".join(marks)


def _rings(drawn: Drawn, drawn_inks: Mapping[str, Ink], marks: Sequence[Mark]) -> str:
    return "".join(
        f'<i class="gate k{drawn_inks[mark.condition].index}" title="{escape(mark.words)}" '
        f'style="left:{100 * drawn.x.share(mark.step):.2f}%;'
        f'top:{100 * (1 - drawn.y.share(mark.value)):.2f}%"></i>'
        for mark in marks
    )


def _end_labels(figure: Figure, drawn: Drawn, drawn_inks: Mapping[str, Ink]) -> str:
    ends = []
    for band in drawn.bands:
        finite = np.flatnonzero(np.isfinite(band.mean_T))
        value = float(band.mean_T[finite[-1]])
        ends.append((1 - drawn.y.share(value), band.condition, value))
    gap = 0.115 if figure.tall else 0.1
    tops = spread([top for top, _, _ in ends], gap=gap, low=0.03, high=0.97)
    return "".join(
        f'<span class="end k{drawn_inks[condition].index}" style="top:{100 * top:.2f}%">'
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
