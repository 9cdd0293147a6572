"""Figures of the labels: where moments lie in U and L (H1), and whether the patch test predicts
what training brings (H2).

Draws with matplotlib. Knows documented fields; refuses to draw a label that a row does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cupel.report.teach.canvas import (
    DIVERGING,
    QUADRANT_COLOURS,
    QUADRANT_MARKERS,
    QUADRANT_NAMES,
    canvas,
    percent_axis,
    point,
)
from cupel.report.teach.correlations import Agreement, agreements
from cupel.report.teach.measures import Labelled, labelled_of, mean_of
from cupel.report.teach.results import MissingInput, TeachResults, number
from cupel.teach.labelling.labels import QUADRANTS


def landscape(results: TeachResults) -> Any:
    """H1: moments by U and L_local, coloured by what the best note brings; and by quadrant."""
    moments = [labelled_of(row) for row in results.labels()]
    placed = [each for each in moments if each.U is not None and each.L is not None]
    if not placed:
        raise MissingInput(f"{results.path('labeled_snapshots.jsonl')}: no row has U and L_local")
    figure, (left, right) = canvas(9.2, 4.1, columns=2, width_ratios=(1.55, 1.0))
    _scatter(figure, left, placed, results)
    tasks = len({each.task for each in placed})
    cut = _thresholds(left, results, placed)
    left.set_title(f"{len(placed)} moments of {tasks} tasks; dashed: {cut}")
    _by_quadrant(right, moments)
    handles, labels = left.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower left", fontsize=7.5)
    return figure


def _measure_of(results: TeachResults) -> str:
    """Say which measure U is, where the labelling says so."""
    labelling = (results.json_if_there("labeling_metadata.json") or {}).get("labeling") or {}
    measure = str(labelling.get("primary_uncertainty", ""))
    unit = ", nats" if measure == "entropy" else ""
    return f" ({measure.replace('_', ' ')}{unit})" if measure else ""


def _scatter(figure: Any, axes: Any, placed: Sequence[Labelled], results: TeachResults) -> None:
    known = [each for each in placed if each.ELP is not None]
    bare = [each for each in placed if each.ELP is None]
    if bare:
        axes.scatter(
            [each.U for each in bare],
            [each.L for each in bare],
            s=16,
            marker="x",
            color="0.5",
            linewidths=0.8,
            label=f"no patch test (n = {len(bare)})",
        )
    if known:
        gains = np.array([each.ELP for each in known], dtype=float)
        limit = max(float(np.abs(gains).max()), 0.01)
        order = np.argsort(np.abs(gains), kind="stable")
        drawn = axes.scatter(
            np.array([each.U for each in known], dtype=float)[order],
            np.array([each.L for each in known], dtype=float)[order],
            c=gains[order],
            cmap=DIVERGING,
            vmin=-limit,
            vmax=limit,
            s=20,
            linewidths=0.3,
            edgecolors="0.35",
        )
        bar = figure.colorbar(drawn, ax=axes, pad=0.02, fraction=0.05)
        bar.set_label(gain_name(known))
        percent_axis(bar.ax.yaxis, signed=True)
    axes.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"uncertainty U{_measure_of(results)}")
    axes.set_ylabel("leverage L_local (pp)")
    percent_axis(axes.yaxis, signed=True)


def gain_name(known: Sequence[Labelled]) -> str:
    """Say which gain is shown: one without optimism, or the largest of noisy ones."""
    if any(each.biased for each in known):
        return "ELP_net (pp): largest of noisy gains, biased up"
    return "ELP (pp)"


def _thresholds(axes: Any, results: TeachResults, placed: Sequence[Labelled]) -> str:
    """Draw the thresholds that the quadrants were cut by, or the medians; return which."""
    stored = results.json_if_there("quadrant_thresholds.json") or results.json_if_there(
        "quadrant_thresholds_auto.json"
    )
    u, l_local = number(stored, "U_threshold"), number(stored, "L_threshold")
    words = f"thresholds ({(stored or {}).get('method', 'manual')})"
    if u is None or l_local is None:
        u = float(np.median([each.U for each in placed if each.U is not None]))
        l_local = float(np.median([each.L for each in placed if each.L is not None]))
        words = "medians"
    for line in (axes.axvline(u, zorder=1), axes.axhline(l_local, zorder=1)):
        line.set(color="0.25", linewidth=0.9, linestyle=(0, (4, 2)))
    return words


def _by_quadrant(axes: Any, moments: Sequence[Labelled]) -> None:
    names = []
    rest = [name for name in ("UNASSIGNED",) if any(each.quadrant == name for each in moments)]
    for place, quadrant in enumerate([*QUADRANTS, *rest]):
        mine = [each for each in moments if each.quadrant == quadrant]
        gain = mean_of([(each.task, each.ELP) for each in mine])
        colour = QUADRANT_COLOURS.get(quadrant, "0.5")
        name = QUADRANT_NAMES.get(quadrant, "unassigned")
        names.append(f"{name}\nn = {gain.n} of {len(mine)}")
        values = [each.ELP for each in mine if each.ELP is not None]
        spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0.0] * len(values)
        axes.scatter(values, place + np.array(spread), s=5, color=colour, alpha=0.3,
                     linewidths=0)  # fmt: skip
        if gain.value is not None:
            point(
                axes,
                (gain.value, place),
                x_interval=gain.interval,
                colour="black",
                marker=QUADRANT_MARKERS.get(quadrant, "v"),
            )
    axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"{gain_name(moments)}\nmean and 95 % interval by task")
    percent_axis(axes.xaxis, signed=True)
    axes.set_title("by quadrant")


def patch_validation(results: TeachResults) -> Any:
    """H2: patch-test gain against what micro-training brought, and rank correlations."""
    groups = agreements(results)
    points = groups[0].points
    figure, (left, right) = canvas(8.4, 3.6, columns=2, width_ratios=(1.2, 1.0))
    for quadrant in (*QUADRANTS, "UNASSIGNED"):
        mine = [row for row in points if row.get("quadrant", "UNASSIGNED") == quadrant]
        if mine:
            left.scatter(
                [row["cpt"] for row in mine],
                [row["elp"] for row in mine],
                s=16,
                alpha=0.75,
                linewidths=0,
                color=QUADRANT_COLOURS.get(quadrant, "0.5"),
                marker=QUADRANT_MARKERS.get(quadrant, "v"),
                label=f"{quadrant[:2]} (n = {len(mine)})",
            )
    for draw in (left.axhline, left.axvline):
        draw(0.0, color="0.8", linewidth=0.8, zorder=0)
    left.set_xlabel("gain in the patch test (pp)")
    left.set_ylabel("gain by micro-training (pp)")
    percent_axis(left.xaxis, signed=True)
    percent_axis(left.yaxis, signed=True)
    left.set_title(f"{len(points)} moments")
    _correlations(right, groups)
    handles, labels = left.get_legend_handles_labels()
    more = right.get_legend_handles_labels()
    figure.legend(
        handles + more[0], labels + more[1], loc="outside lower center", ncols=6, fontsize=7.5
    )
    return figure


def _correlations(axes: Any, groups: Sequence[Agreement]) -> None:
    for place, group in enumerate(groups):
        whole = group.group == "all"
        colour = "black" if whole else QUADRANT_COLOURS[group.group]
        if group.rho.value is None:
            axes.text(0.02, place, "not defined", va="center", fontsize=7, color="0.4")
        else:
            point(
                axes,
                (group.rho.value, place),
                x_interval=group.rho.interval,
                colour=colour,
                marker="o" if whole else QUADRANT_MARKERS[group.group],
            )
        if group.partial.value is not None:
            point(
                axes,
                (group.partial.value, place + 0.3),
                x_interval=group.partial.interval,
                colour="0.4",
                hollow=True,
                label="given the success before",
            )
    axes.axvline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes.axvline(0.3, color="0.6", linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    names = [
        f"{QUADRANT_NAMES.get(group.group, 'all')}\nn = {len(group.points)}" for group in groups
    ]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-1.05, 1.05)
    axes.set_xlabel("Spearman's ρ, 95 % interval\n(dashed: 0.3, the criterion)")
