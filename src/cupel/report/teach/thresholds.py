"""The plots to choose quadrant cuts by: U, L_local, and one against the other.

Knows the rows of labeled_snapshots.jsonl. Refuses to draw a moment that lacks a label, or one of
a task that models are judged by: cuts are fitted without those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cupel.errors import DataError
from cupel.report.teach.canvas import canvas, minus, save
from cupel.teach.labelling.files import read_rows

_BINS = 40
_INK, _CUT = "#4c72b0", "#c44e52"


def write_threshold_plots(labels: Path, output_dir: Path) -> list[Path]:
    """Draw hist_U, hist_L and scatter_U_L as PNG and PDF from the moments of training tasks.

    Raises:
        DataError: the file is damaged, or no training row has both labels.
        MissingExtraError: matplotlib is not installed.
    """
    pairs = _pairs(labels)
    u, leverage = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    painters: Mapping[str, Callable[[], Any]] = {
        "hist_U": lambda: _histogram(u, "U (primary uncertainty)"),
        "hist_L": lambda: _histogram(leverage, "L_local"),
        "scatter_U_L": lambda: _scatter(u, leverage),
    }
    return [path for name, paint in painters.items() for path in save(paint, output_dir / name)]


def _pairs(labels: Path) -> list[tuple[float, float]]:
    pairs = [
        (row["U"], row["leverage"]["L_local"])
        for row in read_rows(labels)
        if row.get("split") == "train" and row.get("U") is not None and row.get("leverage")
    ]
    if not pairs:
        raise DataError(f"{labels}: no row of a training task has both U and leverage")
    return pairs


def _histogram(values: Sequence[float], name: str) -> Any:
    figure, (axes,) = canvas(4.4, 3.0)
    axes.hist(values, bins=_BINS, color=_INK, alpha=0.85)
    _cuts(axes.axvline, values)
    axes.set_xlabel(name)
    axes.set_ylabel(f"moments (n = {len(values)})")
    axes.legend(fontsize=8)
    return figure


def _scatter(u: Sequence[float], leverage: Sequence[float]) -> Any:
    figure, (axes,) = canvas(4.4, 3.8)
    axes.scatter(u, leverage, s=12, color=_INK, alpha=0.5, linewidths=0)
    _cuts(axes.axvline, u)
    _cuts(axes.axhline, leverage)
    axes.set_xlabel("U (primary uncertainty)")
    axes.set_ylabel("L_local")
    return figure


def _cuts(draw: Callable[..., Any], values: Sequence[float]) -> None:
    for share, style, name in ((0.5, "-", "median"), (0.75, "--", "75th percentile")):
        cut = float(np.quantile(values, share))
        draw(cut, color=_CUT, linestyle=style, linewidth=1.0, label=minus(f"{name} {cut:.3g}"))
