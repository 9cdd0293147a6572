"""The power curve of a design as one figure: power against size, a line for each effect.

Knows numbers that were computed elsewhere. Draws with matplotlib, which it imports when called;
the same curves give the same bytes.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cupel.errors import MissingExtraError, UsageError
from cupel.lab.files import write_atomically
from cupel.report.figures import FORMATS, METADATA, STYLE

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", "--", "-.", ":")


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCurve:
    """Power by size of the design, for one effect."""

    label: str
    sizes: tuple[float, ...]
    powers: tuple[float, ...]


def write_power_figure(
    path: Path, curves: Sequence[PowerCurve], *, size_label: str, wanted: float, alpha: float
) -> None:
    """Write the curves to a .png, .svg or .pdf file; `wanted` and alpha are marked lines.

    Raises:
        UsageError: the file's ending is another one.
        MissingExtraError: matplotlib is not installed.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        endings = ", ".join(f".{one}" for one in FORMATS)
        raise UsageError(f"{path}: a figure ends in {endings}, not '{path.suffix}'")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("write_power_figure", "plot")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for place, curve in enumerate(curves):
            axes.plot(
                curve.sizes,
                curve.powers,
                _DASHES[place // len(_COLOURS) % len(_DASHES)],
                color=_COLOURS[place % len(_COLOURS)],
                marker="o" if len(curve.sizes) <= 12 else None,
                markersize=3.5,
                label=curve.label,
            )
        for level in (wanted, alpha):
            axes.axhline(level, color="0.6", linewidth=0.8, linestyle=":")
        axes.set(ylim=(0, 1.02), ylabel="power", xlabel=size_label)
        axes.legend(fontsize=8)
        sink = io.BytesIO()
        figure.savefig(
            sink, format=kind, dpi=200, bbox_inches="tight", metadata=dict(METADATA[kind])
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, sink.getvalue())
