"""Figures of trainings on ARC: learning, halting and the encoder's health, one column a run.

Draws with matplotlib, imported when called; the same folders give the same bytes. Rows share their
scale, so that encoders can be compared across. Refuses to draw what was not measured: it is named.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cupel.errors import MissingExtraError
from cupel.lab.files import write_atomically
from cupel.report.arc.panels import FIGURES, Line, Panel
from cupel.report.arc.trainings import Series, Training, read_trainings
from cupel.report.arc.zones import mark_checks, shade, zones_of
from cupel.report.figures import FORMATS, METADATA, STYLE
from cupel.report.formats import count_text
from cupel.report.teach.canvas import canvas, percent_axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was written, and the keys that were not measured, by figure, run and stream."""

    written: tuple[Path, ...]
    missing: Mapping[str, tuple[str, ...]]


def write_figures(folders: Sequence[Path], output: Path) -> Made:
    """Write {learning,halting,encoder_health}.{png,svg,pdf}; a figure of nothing is left out.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: a folder is no run of arc.train, or a file of it is damaged.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("arc figures", "plot")
    import matplotlib

    trainings = read_trainings(folders)
    output.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    missing: dict[str, tuple[str, ...]] = {}
    for name, panels in FIGURES.items():
        missing |= _gaps(name, panels, trainings)
        shown = [panel for panel in panels if not panel.optional or _measured(panel, trainings)]
        if not any(_measured(panel, trainings) for panel in shown):
            continue
        with matplotlib.rc_context(STYLE):
            written += _save(_paint(name, shown, trainings), output / name)
    return Made(written=tuple(written), missing=missing)


def _gaps(
    name: str, panels: Sequence[Panel], trainings: Sequence[Training]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for run in trainings:
        for line in (line for panel in panels for line in panel.lines):
            if _applies(line, run) and _of(line, run) is None:
                place = f"{name}: {run.label}/{line.stream}"
                found[place] = (*found.get(place, ()), line.key)
    return found


def _paint(name: str, panels: Sequence[Panel], trainings: Sequence[Training]) -> Any:
    columns = len(trainings)
    figure, axes = canvas(
        2.4 + 2.9 * columns,
        0.9 + 1.85 * len(panels),
        rows=len(panels),
        columns=columns,
        sharex="col",
        sharey="row",
    )
    for row, panel in enumerate(panels):
        of_row = axes[row * columns : (row + 1) * columns]
        of_row[0].set_ylabel(panel.title, fontsize=8)
        for each, run in zip(of_row, trainings, strict=True):
            _draw(each, panel, run)
        _scale(of_row[0], panel, trainings)
        for each, run in zip(of_row, trainings, strict=True):
            _mark(each, panel, run)
        _legend(of_row, aside=1.1 if panel.zones else 1.03)
    for top, bottom, run in zip(axes[:columns], axes[-columns:], trainings, strict=True):
        top.set_title(f"{run.label}\n{_header(name, run)}", fontsize=8)
        bottom.set_xlabel("updates" + (f" (means of {run.block} rows)" if run.block > 1 else ""))
    if name == "encoder_health":
        for bottom in axes[-columns:]:
            bottom.set_xscale("log")
            _log_ticks(bottom.xaxis, *bottom.get_xlim())
        _note(figure, trainings)
    return figure


def _draw(axes: Any, panel: Panel, run: Training) -> None:
    drawn = False
    for place, line in enumerate(panel.lines):
        found = _of(line, run) if _applies(line, run) else None
        if found is not None:
            drawn = True
            _draw_line(axes, line, found, shift=place)
    if not drawn:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center",
                  fontsize=8, color="0.4")  # fmt: skip


def _draw_line(axes: Any, line: Line, found: Series, *, shift: int) -> None:
    look = {"color": line.colour, "linestyle": line.dash, "label": line.name}
    if not line.evaluated:
        lone = np.isfinite(found.values_T).sum() == 1
        axes.plot(found.steps_T, found.values_T, linewidth=1.0, marker="." if lone else "", **look)
        return
    there_T = np.isfinite(found.values_T)
    axes.plot(found.steps_T[there_T], found.values_T[there_T], marker=line.marker, markersize=3.5,
              linewidth=1.4, **look)  # fmt: skip
    if line.limits == "band":
        axes.fill_between(
            found.steps_T, found.low_T, found.high_T, color=line.colour, alpha=0.16, linewidth=0
        )
        axes.vlines(found.steps_T, found.low_T, found.high_T, color=line.colour, linewidth=0.8,
                    alpha=0.5)  # fmt: skip
    elif line.limits == "last" and np.isfinite(found.low_T[-1]):
        _last_limits(axes, line, found, shift)


def _last_limits(axes: Any, line: Line, found: Series, shift: int) -> None:
    """Draw the last interval to the right of its point, so that none hides another."""
    from matplotlib.transforms import ScaledTranslation

    aside = ScaledTranslation((4 + 3 * shift) / 72, 0.0, axes.figure.dpi_scale_trans)
    axes.plot(
        [found.steps_T[-1]] * 2,
        [found.low_T[-1], found.high_T[-1]],
        color=line.colour,
        linewidth=1.2,
        transform=axes.transData + aside,
        clip_on=False,
    )


def _scale(axes: Any, panel: Panel, trainings: Sequence[Training]) -> None:
    """Set the scale that a row shares."""
    match panel.scale:
        case "rate":
            high = max(axes.get_ylim()[1], 0.1) if panel.optional else 1.02
            axes.set_ylim(-0.02 * high, high)
            percent_axis(axes.yaxis)
        case "gain":
            percent_axis(axes.yaxis, signed=True)
        case "count":
            axes.set_ylim(bottom=0)
        case "log":
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            zones = [zones_of(run, panel.zones) for run in trainings]
            known = [each for each in zones if each is not None]
            low = min([low, *(each.stop / 3 for each in known if each.stop > 0)])
            high = max([high * 3 if known else high, *(each.ok * 3 for each in known)])
            axes.set_ylim(low, high)
            _log_ticks(axes.yaxis, low, high)


def _log_ticks(axis: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _mark(axes: Any, panel: Panel, run: Training) -> None:
    """Mark what values are held against; on a logarithmic axis, say which of them are 0."""
    if panel.guide is not None:
        height, words = panel.guide
        axes.axhline(height, color="0.45", linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
        axes.annotate(words, (0.01, height), xycoords=("axes fraction", "data"), xytext=(0, -1.5),
                      textcoords="offset points", va="top", fontsize=6.5, color="0.35")  # fmt: skip
    if panel.zones:
        shade(axes, zones_of(run, panel.zones))
        mark_checks(axes, run, panel.zones)
    if panel.scale == "log":
        found = [(line.key, _of(line, run)) for line in panel.lines]
        zeros = [key for key, each in found if each is not None and (each.values_T == 0).any()]
        if zeros:
            axes.text(0.98, 0.04, f"at 0 in places: {', '.join(zeros)}", transform=axes.transAxes,
                      ha="right", fontsize=6.5, color="0.35")  # fmt: skip


def _legend(of_row: Sequence[Any], *, aside: float) -> None:
    found: dict[str, Any] = {}
    for axes in of_row:
        handles, names = axes.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    if found:
        of_row[-1].legend(
            list(found.values()), list(found), loc="center left", bbox_to_anchor=(aside, 0.5),
            fontsize=7, handlelength=1.8,
        )  # fmt: skip


def _header(name: str, run: Training) -> str:
    done = run.rows[-1]["step"] if run.rows else 0
    about = f"{run.config.encoder.kind}, seed {run.seed}, {count_text(done, 'update')}"
    match name:
        case "learning":
            gates = run.gates or {}
            words = {True: "passed", False: "failed", None: "not measured"}
            told = [
                f"{each[-1]} {words[gates[each]['passed']]}"
                for each in ("criterion_1", "criterion_2")
                if each in gates
            ]
            probed = run.evaluations[-1] if run.evaluations else {}
            size = [count_text(probed["puzzles"], "puzzle")] if probed.get("puzzles") else []
            criteria = f"criteria: {', '.join(told)}" if told else "criteria: not judged yet"
            return "\n".join([about, ", ".join([*size, criteria])])
        case "encoder_health":
            return f"{about}\nhealth: {run.health().level}"
        case _:
            return f"{about}\nhalt_max_steps {run.config.halt_max_steps}"


def _note(figure: Any, trainings: Sequence[Training]) -> None:
    patience = sorted({run.config.health.patience_steps for run in trainings})
    figure.supxlabel(
        f"stop: a run is lost if it stays there for {' or '.join(map(str, patience))} updates. "
        "Dotted: checks after updates 10, 100 and 500, and what they found.",
        fontsize=7, color="0.35",
    )  # fmt: skip


def _applies(line: Line, run: Training) -> bool:
    return run.config.halt_max_steps >= line.from_age


def _of(line: Line, run: Training) -> Series | None:
    return run.evaluated(line.key) if line.evaluated else run.trained(line.key)


def _measured(panel: Panel, trainings: Sequence[Training]) -> bool:
    return any(_of(line, run) is not None for line in panel.lines for run in trainings)


def _save(figure: Any, stem: Path) -> list[Path]:
    paths = []
    for kind in FORMATS:
        sink = io.BytesIO()
        figure.savefig(
            sink, format=kind, dpi=200, bbox_inches="tight", metadata=dict(METADATA[kind])
        )
        paths.append(stem.with_name(f"{stem.name}.{kind}"))
        write_atomically(paths[-1], sink.getvalue())
    return paths
