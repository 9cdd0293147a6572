"""Static figures for papers: learning curves, effects and entropy as PNG, SVG and PDF.

The only module that draws with matplotlib, which it imports when called and never configures
beyond its own figures. The same folder gives the same bytes: dates and random ids are fixed.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cupel.errors import MissingExtraError
from cupel.lab.files import write_atomically
from cupel.report.charts import Drawn, prepare
from cupel.report.evidence import Contrast, Evidence, read_evidence
from cupel.report.view import StudyView, load_view, unit_of

FORMATS = ("png", "svg", "pdf")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "legend.frameon": False,
    "svg.hashsalt": "cupel",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "figure.dpi": 100,
}
METADATA: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": "cupel"},
    "svg": {"Date": None, "Creator": "cupel"},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": "cupel", "Producer": "cupel"},
}
_ENTROPY = (
    ("exec_entropy_var", "execution tokens: variance"),
    ("exec_entropy_mean", "execution tokens: mean"),
    ("plan_entropy_mean", "planning tokens: mean"),
)


def write_figures(study_folder: Path) -> list[Path]:
    """Write figures/{learning_curves,effect,entropy}.{png,svg,pdf} and return what was written.

    A figure whose data the study does not have is left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: the folder is no study, or one of its files is damaged.
    """
    folder = Path(study_folder)
    return draw_figures(load_view(folder), read_evidence(folder), folder / "figures", FORMATS)


def draw_figures(
    view: StudyView,
    evidence: Evidence | None,
    folder: Path,
    formats: Sequence[str],
    style: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw every figure that the study has data for into `folder`; return the paths.

    Args:
        formats: of png, svg, pdf, pgf; pgf asks a LaTeX installation for the size of its text.
        style: matplotlib settings over the house style.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("write_figures", "plot")
    import matplotlib

    folder.mkdir(exist_ok=True)
    painters: Mapping[str, Callable[[], Any]] = {
        "learning_curves": lambda: _learning_curves(view),
        "effect": lambda: _effect(view, evidence),
        "entropy": lambda: _entropy(view),
    }
    written: list[Path] = []
    with matplotlib.rc_context({**STYLE, **(style or {})}):
        for name, paint in painters.items():
            figure = paint()
            if figure is not None:
                written += _save(figure, folder / name, formats)
    return written


def _save(figure: Any, stem: Path, formats: Sequence[str]) -> list[Path]:
    paths = []
    for kind in formats:
        sink = io.BytesIO()
        extra = {"metadata": dict(METADATA[kind])} if kind in METADATA else {}
        figure.savefig(sink, format=kind, dpi=200, bbox_inches="tight", **extra)
        path = stem.with_suffix(f".{kind}")
        write_atomically(path, sink.getvalue())
        paths.append(path)
    return paths


def _figure(columns: int, width: float, height: float) -> tuple[Any, Any]:
    """Return a figure on the Agg canvas and its axes, without pyplot and its global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _learning_curves(view: StudyView) -> Any | None:
    """Draw the training curve and, where it is another metric, the endpoint's."""
    metrics = dict.fromkeys(("correct_rate", view.record.study.endpoint.metric))
    present = [(metric, curves) for metric in metrics if (curves := view.curves(metric))]
    if not present:
        return None
    figure, all_axes = _figure(len(present), 1.6 + 3.6 * len(present), 3.2)
    for axes, (metric, curves) in zip(all_axes, present, strict=True):
        _draw_curves(axes, prepare(curves, view.labels, unit_of(metric)), view)
        axes.set_title(_axis_name(metric).split(" (")[0])
        axes.set_ylabel(_axis_name(metric))
        if metric.startswith("eval/"):
            axes.set_xlabel("updates done")
    _legend(figure, all_axes[0], columns=min(3, len(view.labels)))
    return figure


def _entropy(view: StudyView) -> Any | None:
    families = [(key, title, view.curves(key)) for key, title in _ENTROPY]
    present = [family for family in families if family[2]]
    if not present:
        return None
    figure, all_axes = _figure(len(present), 3.3 * len(present), 2.8)
    for axes, (key, title, curves) in zip(all_axes, present, strict=True):
        _draw_curves(axes, prepare(curves, view.labels, unit_of(key)), view)
        axes.set_title(title)
        axes.set_ylabel(_axis_name(key))
    _legend(figure, all_axes[0], columns=min(3, len(view.labels)))
    return figure


def _legend(figure: Any, axes: Any, *, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)


def _draw_curves(axes: Any, drawn: Drawn, view: StudyView) -> None:
    for curve in drawn.curves:
        colour = view.inks[curve.condition].light
        axes.plot(curve.steps_T, curve.values_T, color=colour, linewidth=0.5, alpha=0.3)
        if curve.failed:
            last = int(np.flatnonzero(np.isfinite(curve.values_T))[-1])
            axes.plot(curve.steps_T[last], curve.values_T[last], "x", color=colour, markersize=5)
    for band in drawn.bands:
        ink = view.inks[band.condition]
        words = {"t95": "95 % t-band", "range": "range", "none": "no band"}[band.kind]
        axes.fill_between(
            band.steps_T, band.low_T, band.high_T, color=ink.light, alpha=0.16, linewidth=0
        )
        label = f"{band.condition} ({words}, n = {band.full})"
        whole_T = np.where(band.thinned_out_T, np.nan, band.mean_T)
        axes.plot(band.steps_T, whole_T, color=ink.light, linewidth=1.8, label=label)
        axes.plot(
            band.steps_T,
            np.where(band.thinned_out_T, band.mean_T, np.nan),
            color=ink.light,
            linewidth=1.4,
            linestyle=(0, (1.5, 1.5)),
        )
    axes.set_xlim(drawn.x.low, drawn.x.high)
    axes.set_ylim(drawn.y.low, drawn.y.high)
    axes.set_xlabel("training step" + (f" (means of {drawn.block})" if drawn.block > 1 else ""))
    if drawn.y.unit == "rate":
        _percent(axes.yaxis)


def _effect(view: StudyView, evidence: Evidence | None) -> Any | None:
    primary = evidence.primary if evidence is not None else None
    if evidence is None or primary is None:
        return None
    contrasts = [
        contrast
        for contrast in evidence.contrasts
        if contrast.metric == primary.metric and contrast.delta is not None
    ]
    if not contrasts:
        return None
    figure, (axes,) = _figure(1, 6.2, 1.3 + 0.45 * len(contrasts))
    for place, contrast in enumerate(contrasts):
        _draw_contrast(axes, -place, contrast, view)
    axes.axvline(0.0, color="0.35", linewidth=0.9, zorder=0)
    axes.set_yticks(
        [-place for place in range(len(contrasts))],
        [f"{contrast.candidate}\n− {contrast.baseline}" for contrast in contrasts],
    )
    axes.set_ylim(-len(contrasts) + 0.4, 0.6)
    axes.set_xlabel(f"difference in {_axis_name(primary.metric, difference=True)}, 95 % interval")
    if primary.unit == "rate":
        _percent(axes.xaxis, sign=True)
    return figure


def _draw_contrast(axes: Any, height: float, contrast: Contrast, view: StudyView) -> None:
    ink = view.inks.get(contrast.candidate)
    colour = ink.light if ink is not None else "0.2"
    differences = [pair.difference for pair in contrast.pairs if pair.difference is not None]
    axes.plot(
        differences, [height - 0.22] * len(differences), "|", color=colour, alpha=0.5, markersize=5
    )
    if contrast.bounded:
        axes.plot([contrast.low, contrast.high], [height, height], color=colour, linewidth=1.8)
    elif contrast.t_low is not None and contrast.t_high is not None:
        ends = [contrast.t_low, contrast.t_high]
        axes.plot(ends, [height, height], color=colour, linewidth=1.8, linestyle=":")
        axes.text(ends[1], height, "  t-interval", va="center", fontsize=7, color=colour)
    axes.plot([contrast.delta], [height], "o", color=colour, markersize=6)


def _percent(axis: Any, *, sign: bool = False) -> None:
    from matplotlib.ticker import FuncFormatter

    form = "{:+.3g}" if sign else "{:.3g}"
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: "0" if value == 0 else form.format(100 * value))
    )


def _axis_name(metric: str, *, difference: bool = False) -> str:
    unit = unit_of(metric)
    shown = ("pp" if difference else "%") if unit == "rate" else unit
    name = metric.removeprefix("eval/").replace("_", " ")
    name = f"held-out {name}" if metric.startswith("eval/") else name
    return f"{name} ({shown})" if shown else name
