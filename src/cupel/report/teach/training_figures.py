"""Figures of the trained matrix: gain in the own quadrant (H3), transfer between quadrants (H4),
and what was gained against what was lost (H5).

Draws with matplotlib. Knows the evaluation's tables; refuses to colour a cell that was not
measured, and shows every figure with its interval and n.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cupel.report.teach.canvas import (
    QUADRANT_MARKERS,
    QUADRANT_NAMES,
    SUPERVISION_COLOURS,
    canvas,
    heatmap,
    percent_axis,
    point,
    points_text,
)
from cupel.report.teach.measures import (
    Measure,
    ModelPoint,
    chosen_formats,
    measure,
    model_points,
    transfer_cell,
)
from cupel.report.teach.results import MissingInput, TeachResults, number
from cupel.teach.labelling.labels import QUADRANTS
from cupel.teach.records import FORMATS

DROP_LIMIT = 0.10
"""Share of retained tasks that a model may lose, by the documents' criterion."""


def in_quadrant(results: TeachResults) -> Any:
    """H3: gain over BASE in the quadrant trained on, by quadrant and format."""
    matrix = results.table("transfer_matrix.csv")
    found = [
        [measure(transfer_cell(matrix, f"{q}_{f}", q), "delta_success") for f in FORMATS]
        for q in QUADRANTS
    ]
    if not any(each.value is not None for row in found for each in row):
        raise MissingInput("transfer_matrix.csv: no model of one quadrant was evaluated in its own")
    figure, (axes,) = canvas(5.6, 3.9)
    _matrix(figure, axes, found, [QUADRANT_NAMES[q] for q in QUADRANTS], list(FORMATS))
    axes.set_ylabel("trained and evaluated on")
    axes.set_xlabel("supervision")
    axes.set_title("success in the own quadrant less BASE (pp)")
    return figure


def transfer(results: TeachResults, supervision: str = "best") -> Any:
    """H4: gain over BASE by quadrant trained on and quadrant evaluated on."""
    matrix = results.table("transfer_matrix.csv")
    formats = chosen_formats(supervision, matrix, results)
    shown = [quadrant for quadrant in QUADRANTS if quadrant in formats]
    found = [
        [
            measure(transfer_cell(matrix, f"{trained}_{formats[trained]}", q), "delta_success")
            for q in QUADRANTS
        ]
        for trained in shown
    ]
    figure, (axes,) = canvas(6.6, 1.5 + 0.72 * len(shown))
    _matrix(
        figure,
        axes,
        found,
        [f"{QUADRANT_NAMES[q]}\n({formats[q]})" for q in shown],
        [q[:2] for q in QUADRANTS],
    )
    for place, quadrant in enumerate(shown):
        _frame(axes, QUADRANTS.index(quadrant), place)
    axes.set_ylabel("trained on")
    axes.set_xlabel(f"evaluated on\n{_diagonal(results)}")
    named = "each quadrant's best format on test tasks" if supervision == "best" else supervision
    axes.set_title(f"success less BASE (pp), {named}")
    return figure


def _matrix(
    figure: Any,
    axes: Any,
    found: Sequence[Sequence[Measure]],
    row_names: Sequence[str],
    column_names: Sequence[str],
) -> None:
    values = [[each.value for each in row] for row in found]
    known = [abs(value) for row in values for value in row if value is not None]
    image = heatmap(
        axes,
        values,
        [[_cell(each) for each in row] for row in found],
        row_names=row_names,
        column_names=column_names,
        limit=max([*known, 0.05]),
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02, fraction=0.05)
    percent_axis(bar.ax.yaxis, signed=True)


def _cell(each: Measure) -> str:
    if each.value is None:
        return "not measured"
    lines = [points_text(each.value)]
    if each.lo is not None and each.hi is not None:
        lines.append(f"[{points_text(each.lo)}, {points_text(each.hi)}]")
    if each.n is not None:
        lines.append(f"n = {each.n}")
    return "\n".join(lines)


def _frame(axes: Any, column: int, row: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False, edgecolor="black", lw=1.3)
    )


def _diagonal(results: TeachResults) -> str:
    """Say what the pooled contrast of the whole matrix is, where gates.json holds it."""
    gates = (results.json_if_there("gates.json") or {}).get("gates", ())
    for gate in gates:
        if gate.get("gate") == "transfer_diagonal" and gate.get("figure") is not None:
            text = f"all formats pooled: own less other quadrants {points_text(gate['figure'])} pp"
            ends = number(gate, "lo"), number(gate, "hi")
            if ends[0] is not None and ends[1] is not None:
                text += f" [{points_text(ends[0])}, {points_text(ends[1])}]"
            return f"{text}, n = {gate['n']}"
    return "framed: own quadrant"


def frontier(results: TeachResults) -> Any:
    """H5: gain on test tasks against the share of retained tasks that was lost."""
    folder = results.path("overall_task_results.csv").parent
    points = model_points(folder)
    drawn = [each for each in points if each.gain.value is not None and each.drop.value is not None]
    if not drawn:
        raise MissingInput(f"{folder}: no trained model with both a gain and a retention drop")
    figure, (axes,) = canvas(6.8, 4.4)
    draw_points(axes, drawn)
    for each in drawn:
        if each.train_quadrant == "all":
            _name(axes, each)
    axes.set_xlabel(f"retained tasks lost (pp){_n_text([each.drop for each in drawn])}")
    axes.set_ylabel(f"success on test tasks less BASE (pp){_n_text([e.gain for e in drawn])}")
    axes.set_title("gained and forgotten; bars: 95 % intervals, line: undominated")
    _legend(figure, drawn)
    return figure


def draw_points(axes: Any, drawn: Sequence[ModelPoint]) -> None:
    """Draw models between loss (x) and gain (y), the limits, and the undominated ones."""
    for each in drawn:
        assert each.gain.value is not None
        assert each.drop.value is not None
        point(
            axes,
            (each.drop.value, each.gain.value),
            x_interval=each.drop.interval,
            y_interval=each.gain.interval,
            colour=SUPERVISION_COLOURS.get(each.supervision, "0.2"),
            marker=QUADRANT_MARKERS[each.train_quadrant],
        )
    _steps(axes, drawn)
    axes.axhline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.axvline(0.0, color="0.7", linewidth=0.8, zorder=0)
    axes.axvline(DROP_LIMIT, color="0.5", linewidth=0.8, linestyle=(0, (3, 2)), zorder=0)
    axes.annotate(
        "limit", (DROP_LIMIT, 0.0), xycoords=("data", "axes fraction"), xytext=(2, 2),
        textcoords="offset points", fontsize=7, color="0.4", rotation=90, va="bottom",
    )  # fmt: skip
    percent_axis(axes.xaxis, signed=True)
    percent_axis(axes.yaxis, signed=True)


def _steps(axes: Any, drawn: Sequence[ModelPoint]) -> None:
    """Join the points that no other beats on both sides."""
    found = sorted((p.drop.value or 0.0, -(p.gain.value or 0.0)) for p in drawn)
    kept: list[tuple[float, float]] = []
    for loss, negative in found:
        if not kept or -negative > kept[-1][1]:
            kept.append((loss, -negative))
    if len(kept) > 1:
        axes.plot(*zip(*kept, strict=True), color="0.6", linewidth=0.9, drawstyle="steps-post",
                  zorder=1)  # fmt: skip


def _name(axes: Any, each: ModelPoint) -> None:
    axes.annotate(
        each.model, (each.drop.value, each.gain.value), xytext=(6, 5),
        textcoords="offset points", fontsize=7,
    )  # fmt: skip


def _n_text(measures: Sequence[Measure]) -> str:
    counts = sorted({each.n for each in measures if each.n is not None})
    if not counts:
        return ""
    return f", n = {counts[0]}" if len(counts) == 1 else f", n = {counts[0]}–{counts[-1]}"


def _legend(figure: Any, drawn: Sequence[ModelPoint]) -> None:
    from matplotlib.lines import Line2D

    quadrants = [q for q in QUADRANTS if any(each.train_quadrant == q for each in drawn)]
    handles = [
        Line2D([], [], linestyle="none", marker=QUADRANT_MARKERS[q], color="0.35",
               label=QUADRANT_NAMES[q])
        for q in quadrants
    ]  # fmt: skip
    if any(each.train_quadrant == "all" for each in drawn):
        handles.append(
            Line2D([], [], linestyle="none", marker=QUADRANT_MARKERS["all"], color="0.35",
                   label="all quadrants")
        )  # fmt: skip
    named = [s for s in SUPERVISION_COLOURS if any(each.supervision == s for each in drawn)]
    handles += [
        Line2D([], [], linestyle="none", marker="s", color=SUPERVISION_COLOURS[s], label=s)
        for s in named
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=7.5)
