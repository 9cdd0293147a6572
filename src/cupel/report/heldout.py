"""Held-out accuracy before and after training, one line a run, as HTML.

Pure but for the run rows it is handed. A run without a first or a last evaluation is said to be
missing; it is never drawn as if it had stayed where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from cupel.report.charts import breakable
from cupel.report.formats import count_text, tick_text, value_text
from cupel.report.geometry import Axis, value_axis
from cupel.report.tables import estimate, held_out, held_out_key
from cupel.report.view import RunView, StudyView, unit_of

Pair = tuple[float | None, float | None]
"""A run's measure before its first update and at its end."""

_BEFORE, _AFTER = 0.24, 0.76
"""Where the two ends of a line stand within its condition's column."""


def held_out_figure(view: StudyView) -> str:
    """Return the slope figure, or a line that says no run was evaluated on held-out problems."""
    key = held_out_key(view)
    unit = unit_of(key)
    pairs = {run.record.folder: held_out(run, key) for run in view.runs}
    ends = [value for pair in pairs.values() for value in pair if value is not None]
    if not ends:
        return '<p class="empty">No run has a held-out evaluation yet.</p>'
    if not any(None not in pair for pair in pairs.values()):
        return (
            f'<p class="empty">No run has {escape(key)} both before its first update and at its '
            "end.</p>"
        )
    axis = value_axis([np.array(ends)], unit=unit)
    columns = len(view.labels)
    paths, feet = [], []
    for place, label in enumerate(view.labels):
        runs = view.of(label)
        left = (place + _BEFORE) / columns * 1000
        right = (place + _AFTER) / columns * 1000
        kind = f"k{view.inks[label].index}"
        paths += [_line(run, pairs[run.record.folder], axis, left, right, kind) for run in runs]
        both = [pair for run in runs if None not in (pair := pairs[run.record.folder])]
        paths.append(_mean(both, axis, left, right, kind))
        feet.append(_foot(label, kind, both, unit))
    ticks = "".join(
        f'<span style="top:{100 * (1 - axis.share(tick)):.2f}%">'
        f"{escape(tick_text(tick, unit))}</span>"
        for tick in axis.ticks
    )
    grid = "".join(f"M0,{400 * (1 - axis.share(tick)):.1f}H1000" for tick in axis.ticks)
    return (
        '<figure class="fig tall slope" id="fig-heldout"><figcaption>'
        f"<h3>{escape(_title(key))}</h3><p>{escape(_caption(view, pairs.values()))}</p>"
        '</figcaption><div class="chart" tabindex="0" role="group" aria-label="The same before '
        'and after training. Arrow keys up and down choose a run.">'
        f'<div class="ylab" aria-hidden="true">{ticks}</div><div class="plot">'
        '<svg viewBox="0 0 1000 400" preserveAspectRatio="none" aria-hidden="true" '
        f'focusable="false"><path class="grid" d="{grid}"/>{"".join(paths)}</svg></div>'
        f'<div class="xlab">{"".join(feet)}</div></div></figure>'
    )


def _title(key: str) -> str:
    name = key.removeprefix("eval/")
    return f"{name.replace('_', ' ').capitalize()}, held out"


def _line(run: RunView, pair: Pair, axis: Axis, left: float, right: float, kind: str) -> str:
    ends = [(x, value) for x, value in zip((left, right), pair, strict=True) if value is not None]
    if not ends:
        return ""
    points = " ".join(f"{x:.1f},{400 * (1 - axis.share(value)):.1f}" for x, value in ends)
    lone = "h0" if len(ends) == 1 else ""
    before, after = (value_text(value, axis.unit) for value in pair)
    label = f"{run.condition} · seed {run.seed}"
    if run.status != "done":
        label += f" · {run.status}"
    return (
        f'<path class="s {kind}" data-c="{escape(run.condition)}" data-label="{escape(label)}" '
        f'data-text="{escape(f"{before} before, {after} after")}" d="M{points}{lone}"/>'
    )


def _mean(both: Sequence[Pair], axis: Axis, left: float, right: float, kind: str) -> str:
    """Draw the mean of the runs that have both ends, so that both ends mean the same runs."""
    before = estimate([pair[0] for pair in both])
    after = estimate([pair[1] for pair in both])
    if before is None or after is None:
        return ""
    top, end = (400 * (1 - axis.share(value.mean)) for value in (before, after))
    return f'<path class="m {kind}" d="M{left:.1f},{top:.1f} {right:.1f},{end:.1f}"/>'


def _foot(label: str, kind: str, both: Sequence[Pair], unit: str) -> str:
    before = estimate([pair[0] for pair in both])
    after = estimate([pair[1] for pair in both])
    if before is None or after is None:
        words = "no run with both ends"
    else:
        words = (
            f"{value_text(before.mean, unit)} → {value_text(after.mean, unit)}, "
            f"mean of {count_text(len(both), 'run')}"
        )
    return f'<div class="{kind}"><i></i>{breakable(label)}<small>{escape(words)}</small></div>'


def _caption(view: StudyView, pairs: Iterable[Pair]) -> str:
    rows = [row for run in view.runs for row in run.evaluations]
    sizes = {(row.get("problems"), row.get("samples")) for row in rows}
    size = ""
    if len(sizes) == 1:
        problems, samples = sizes.pop()
        if isinstance(problems, int) and isinstance(samples, int):
            size = f" ({count_text(problems, 'problem')}, {samples} samples each)"
    missing = sum(None in pair for pair in pairs)
    text = (
        f"Before the first update (left) and at the end of training (right){size}. Thin lines are "
        "runs, the thick one their mean."
    )
    if missing:
        text += (
            f" {count_text(missing, 'run')} without both ends "
            f"{'is' if missing == 1 else 'are'} not in the mean."
        )
    return text
