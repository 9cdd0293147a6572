"""What a living chart is drawn from: curves, means and bands as compact JSON.

Pure. Numbers keep five significant figures, a missing one is null, and steps that all curves share
are written once. Refuses to compute a statistic: means and bands come from `charts.prepare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from cupel.report.charts import Drawn, Figure, Mark, caption, end_labels
from cupel.report.palette import Ink
from cupel.report.view import Band, Curve, FloatT

_FIGURES = 5


def chart_data(
    figure: Figure, drawn: Drawn, inks: Mapping[str, Ink], marks: Sequence[Mark] = ()
) -> str:
    """Return the figure's data as JSON that may stand inside a script element."""
    steps_T = _all_steps(drawn)
    data = {
        "unit": figure.unit,
        "title": figure.x_title,
        "block": drawn.block,
        "x": [drawn.x.low, drawn.x.high],
        "y": [drawn.y.low, drawn.y.high],
        "steps": compact_steps(steps_T),
        "bands": [_band(band, steps_T, inks[band.condition]) for band in drawn.bands],
        "runs": [_run(curve, steps_T, inks[curve.condition]) for curve in drawn.curves],
        "marks": [
            {"k": inks[mark.condition].index, "x": mark.step, "y": mark.value, "words": mark.words}
            for mark in marks
        ],
        "caption": caption(figure, drawn, seeds_drawn=True),
        "ends": end_labels(figure, drawn, inks),
    }
    text = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def compact_steps(steps_T: FloatT) -> Any:
    """Return evenly spaced steps as `[first, distance, count]`, any others one by one."""
    if steps_T.size > 3:
        by = steps_T[1] - steps_T[0]
        if np.array_equal(steps_T, steps_T[0] + by * np.arange(steps_T.size)):
            return {"first": float(steps_T[0]), "by": float(by), "count": int(steps_T.size)}
    return steps_T


def rounded(values_T: FloatT, *, figures: int = _FIGURES) -> FloatT:
    """Round to significant figures; NaN stays NaN, and what is smaller than 1e-290 becomes 0.

    >>> rounded(np.array([0.123456789, 98765.4321, 0.0])).tolist()
    [0.12346, 98765.0, 0.0]
    """
    size_T = np.abs(values_T)
    known_T = np.isfinite(size_T) & (size_T > 1e-290)
    digits_T = figures - 1 - np.floor(np.log10(np.where(known_T, size_T, 1.0)))
    up_T, down_T = 10.0 ** np.maximum(digits_T, 0), 10.0 ** np.maximum(-digits_T, 0)
    return np.asarray(np.round(values_T * up_T / down_T) * down_T / up_T, dtype=np.float64)


def _all_steps(drawn: Drawn) -> FloatT:
    return np.unique(np.concatenate([curve.steps_T for curve in drawn.curves]))


def _run(curve: Curve, steps_T: FloatT, ink: Ink) -> dict[str, Any]:
    run: dict[str, Any] = {
        "k": ink.index,
        "c": curve.condition,
        "seed": curve.seed,
        "y": rounded(curve.values_T),
    }
    if not np.array_equal(curve.steps_T, steps_T[: curve.steps_T.size]):
        run["x"] = curve.steps_T
    if curve.failed:
        run["failed"] = True
    return run


def _band(band: Band, steps_T: FloatT, ink: Ink) -> dict[str, Any]:
    data: dict[str, Any] = {"k": ink.index, "c": band.condition, "mean": rounded(band.mean_T)}
    if band.kind != "none":
        data |= {"low": rounded(band.low_T), "high": rounded(band.high_T)}
    if not np.array_equal(band.steps_T, steps_T[: band.steps_T.size]):
        data["x"] = band.steps_T
    if band.thinned_out_T.any():
        data["part"] = int(np.argmax(band.thinned_out_T))  # it stays True to the end
    if ink.dash:
        data["dash"] = [int(length) for length in ink.dash.split()]
    return data
