"""Effects as pictures: the verdict's strip, the forest of contrasts, and the seeds one by one.

Pure. Each row is text beside a thin stretchable SVG, so a row reads the same on a phone and in
print. Refuses to compute a statistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from cupel.report.evidence import Contrast, SeedPair
from cupel.report.formats import (
    MISSING,
    difference_text,
    interval_text,
    p_text,
    tick_text,
    value_text,
)
from cupel.report.geometry import Axis, nice_axis
from cupel.report.palette import Ink


def effect_axis(contrasts: Sequence[Contrast]) -> Axis:
    """Return an axis that holds every effect, interval and margin, and zero."""
    values = [0.0]
    for contrast in contrasts:
        ends = (contrast.delta, contrast.low, contrast.high, contrast.t_low, contrast.t_high)
        values += [value for value in ends if value is not None]
        if contrast.margin is not None:
            values += [-contrast.margin, contrast.margin]
    unit = contrasts[0].unit if contrasts else ""
    if max(values) == min(values):
        side = 0.01 if unit == "rate" else 1.0
        return nice_axis(-side, side, unit=unit, count=4)
    room = 0.04 * (max(values) - min(values))  # so that zero never stands on the edge
    return nice_axis(min(values) - room, max(values) + room, unit=unit, count=5)


def effect_strip(contrast: Contrast, axis: Axis, ink: Ink | None, *, tall: bool = False) -> str:
    """Return the SVG of one effect: its interval as a line, zero and the margin behind it."""
    parts = []
    if contrast.margin is not None:
        left, right = _x(axis, -contrast.margin), _x(axis, contrast.margin)
        parts.append(f'<path class="margin" d="M{left:.1f},0H{right:.1f}V40H{left:.1f}z"/>')
    ticks = "".join(f"M{_x(axis, tick):.1f},0V40" for tick in axis.ticks)
    parts.append(f'<path class="grid" d="{ticks}"/>')
    parts.append(f'<path class="zero" d="M{_x(axis, 0.0):.1f},0V40"/>')
    kind = f"k{ink.index}" if ink is not None else "kx"
    if contrast.bounded:
        parts.append(_interval(axis, contrast.low, contrast.high, f"ci {kind}"))
    elif contrast.t_low is not None:
        parts.append(_interval(axis, contrast.t_low, contrast.t_high, f"ci t {kind}"))
    if contrast.delta is not None:
        parts.append(f'<path class="dot {kind}" d="M{_x(axis, contrast.delta):.1f},20h0"/>')
    return _strip("".join(parts), "strip tall" if tall else "strip")


def _interval(axis: Axis, low: float | None, high: float | None, css: str) -> str:
    if low is None or high is None:
        return ""
    left, right = _x(axis, low), _x(axis, high)
    return (
        f'<path class="{css}" d="M{left:.1f},20H{right:.1f}"/>'
        f'<path class="{css}" d="M{left:.1f},12V28M{right:.1f},12V28"/>'
    )


def axis_labels(axis: Axis) -> str:
    """Return the tick labels under a column of strips, as signed differences."""
    return (
        '<div class="striplab" aria-hidden="true">'
        + "".join(
            f'<span style="left:{100 * axis.share(tick):.2f}%">'
            f"{escape(_tick(tick, axis.unit))}</span>"
            for tick in axis.ticks
        )
        + "</div>"
    )


def _tick(value: float, unit: str) -> str:
    shown = 100 * value if unit == "rate" else value
    return "0" if value == 0 else f"{shown:+.6g}".replace("-", "−")


def forest(contrasts: Sequence[Contrast], drawn_inks: Mapping[str, Ink]) -> str:
    """Return the forest plot: one row a contrast, one shared axis for each endpoint."""
    groups: dict[str, list[Contrast]] = {}
    for contrast in contrasts:
        name = contrast.metric + (f" over {contrast.over}" if contrast.over else "")
        groups.setdefault(name, []).append(contrast)
    return "".join(_forest_group(name, group, drawn_inks) for name, group in groups.items())


def _forest_group(name: str, contrasts: Sequence[Contrast], drawn_inks: Mapping[str, Ink]) -> str:
    axis = effect_axis(contrasts)
    unit = "pp" if axis.unit == "rate" else axis.unit
    rows = "".join(_forest_row(contrast, axis, drawn_inks) for contrast in contrasts)
    title = f"{name}, candidate − baseline" + (f" ({unit})" if unit else "")
    return (
        f'<div class="rows forest" role="table" aria-label="{escape(title)}">'
        f'<div class="rowhead" role="row"><span role="columnheader">{escape(title)}</span>'
        '<span role="columnheader" class="wide">effect with its 95 % interval</span>'
        '<span role="columnheader" class="num">in numbers</span></div>'
        f'{rows}<div class="row axisrow" aria-hidden="true"><span></span>{axis_labels(axis)}'
        "<span></span></div></div>"
    )


def _forest_row(contrast: Contrast, axis: Axis, drawn_inks: Mapping[str, Ink]) -> str:
    ink = drawn_inks.get(contrast.candidate)
    role = contrast.family
    p = f"p = {p_text(contrast.p)}" if contrast.p is not None else "no p"
    if contrast.p_holm is not None:
        p += f", Holm {p_text(contrast.p_holm)}"
    interval = interval_text(contrast.low, contrast.high, contrast.unit)
    if not contrast.bounded and contrast.t_low is not None:
        shown = interval_text(contrast.t_low, contrast.t_high, contrast.unit)
        interval = f"{shown} by t, assumes normality"
    n = MISSING if contrast.n_seeds is None else str(contrast.n_seeds)
    return (
        f'<div class="row {role}" role="row"><span role="cell"><b>{escape(contrast.candidate)}</b>'
        f" − {escape(contrast.baseline)} <small>{role}</small></span>"
        f'<span role="cell" class="wide">{effect_strip(contrast, axis, ink)}</span>'
        f'<span role="cell" class="num"><b>{escape(difference_text(contrast.delta, contrast.unit))}'
        f"</b> <small>{escape(interval)}</small>"
        f" <small>{escape(p)}, n = {n}</small></span></div>"
    )


def seed_rows(contrast: Contrast, drawn_inks: Mapping[str, Ink]) -> str:
    """Return one row a seed: where baseline and candidate ended, and the difference."""
    values = [
        value
        for pair in contrast.pairs
        for value in (pair.baseline, pair.candidate)
        if value is not None
    ]
    if not values:
        return ""
    axis = nice_axis(min(values), max(values), unit=contrast.unit, count=5)
    rows = "".join(_seed_row(pair, contrast, axis, drawn_inks) for pair in contrast.pairs)
    ticks = "".join(
        f'<span style="left:{100 * axis.share(tick):.2f}%">'
        f"{escape(tick_text(tick, axis.unit))}</span>"
        for tick in axis.ticks
    )
    return (
        '<div class="rows seeds" role="table" '
        f'aria-label="{escape(contrast.metric)}, seed by seed">'
        '<div class="rowhead" role="row"><span role="columnheader">seed</span>'
        f'<span role="columnheader" class="wide">{_key(contrast, drawn_inks)}</span>'
        '<span role="columnheader" class="num">difference</span></div>'
        f'{rows}<div class="row axisrow" aria-hidden="true"><span></span>'
        f'<div class="striplab">{ticks}</div><span></span></div></div>'
    )


def _key(contrast: Contrast, drawn_inks: Mapping[str, Ink]) -> str:
    parts = []
    for label, shape in ((contrast.baseline, "ring"), (contrast.candidate, "disc")):
        index = drawn_inks[label].index if label in drawn_inks else 0
        parts.append(f'<i class="{shape} k{index}"></i>{escape(label)}')
    return " → ".join(parts)


def _seed_row(pair: SeedPair, contrast: Contrast, axis: Axis, drawn_inks: Mapping[str, Ink]) -> str:
    before = drawn_inks.get(contrast.baseline)
    after = drawn_inks.get(contrast.candidate)
    ticks = "".join(f"M{_x(axis, tick):.1f},0V40" for tick in axis.ticks)
    parts = [f'<path class="grid" d="{ticks}"/>']
    if pair.baseline is not None and pair.candidate is not None:
        span = f"M{_x(axis, pair.baseline):.1f},20H{_x(axis, pair.candidate):.1f}"
        parts.append(f'<path class="link" d="{span}"/>')
    for value, ink, shape in ((pair.baseline, before, "ring"), (pair.candidate, after, "dot")):
        if value is None:
            continue
        kind = f"k{ink.index}" if ink is not None else "kx"
        place = f"M{_x(axis, value):.1f},20h0"
        parts.append(f'<path class="dot {kind}" d="{place}"/>')
        if shape == "ring":
            parts.append(f'<path class="hole" d="{place}"/>')
    difference = pair.difference
    name = f"seed {pair.seed}" if pair.seed is not None else "pair"
    sign = "" if difference is None else " up" if difference > 0 else " down"
    what = (
        f"{value_text(pair.baseline, contrast.unit)} → {value_text(pair.candidate, contrast.unit)}"
    )
    return (
        f'<div class="row" role="row"><span role="cell">{name}</span>'
        f'<span role="cell" class="wide">{_strip("".join(parts), "strip")}</span>'
        f'<span role="cell" class="num{sign}"><b>'
        f"{escape(difference_text(difference, contrast.unit))}</b>"
        f" <small>{escape(what)}</small></span></div>"
    )


def _strip(content: str, css: str) -> str:
    return (
        f'<svg class="{css}" viewBox="0 0 1000 40" preserveAspectRatio="none" aria-hidden="true" '
        f'focusable="false">{content}</svg>'
    )


def _x(axis: Axis, value: float) -> float:
    return 1000 * axis.share(value)
