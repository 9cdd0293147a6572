"""The zones of a training's health, drawn: ok, warn and stop shaded, checks marked.

Draws on axes it is given. Knows limits and findings of `cupel.arc.health`; refuses to judge by
itself, and to say a zone by colour alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cupel.arc.health import CHECK_AT
from cupel.report.arc.trainings import Training
from cupel.report.palette import LIGHT

ZONE_COLOURS = {"ok": LIGHT[2], "warn": LIGHT[4], "stop": LIGHT[1]}
_ALPHA = {"ok": 0.10, "warn": 0.14, "stop": 0.20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """Limits of one value: stop below `stop`, ok from `ok` on, a worse kind of warn below `low`."""

    stop: float
    ok: float
    low: float | None = None


def zones_of(run: Training, topic: str) -> Zones | None:
    """Return the limits a run was held to; None for a value that is not judged."""
    limits = run.config.health
    match topic:
        case "gradient":
            return Zones(stop=limits.encoder_norm_starved, ok=limits.encoder_norm_ok)
        case "contexts" if run.matched_scale:
            return Zones(
                stop=limits.variance_collapsed, ok=limits.variance_ok, low=limits.variance_low
            )
        case _:
            return None


def shade(axes: Any, zones: Zones | None) -> None:
    """Shade the zones between the ends of a logarithmic axis, and name them at its right."""
    if zones is None:
        axes.text(0.02, 0.04, "raw scale: not judged", transform=axes.transAxes, fontsize=6.5,
                  color="0.35")  # fmt: skip
        return
    low, high = axes.get_ylim()
    spans = {"stop": (low, zones.stop), "warn": (zones.stop, zones.ok), "ok": (zones.ok, high)}
    for zone, (bottom, top) in spans.items():
        if not 0 < bottom < top:
            continue
        axes.axhspan(bottom, top, color=ZONE_COLOURS[zone], alpha=_ALPHA[zone], linewidth=0,
                     zorder=0)  # fmt: skip
        axes.annotate(
            zone, (1.0, math.sqrt(bottom * top)), xycoords=("axes fraction", "data"),
            xytext=(2, 0), textcoords="offset points", va="center", fontsize=6.5, color="0.3",
        )  # fmt: skip
    if zones.low is not None and zones.low > 0:
        axes.axhline(zones.low, color=ZONE_COLOURS["warn"], linewidth=0.7, linestyle=(0, (3, 2)))


def mark_checks(axes: Any, run: Training, topic: str) -> None:
    """Mark the rows after which the run was checked, with the topic's finding at the top."""
    for due in CHECK_AT:
        step = next((row["step"] for row in run.rows if row["step"] >= due), None)
        if step is None:
            return
        axes.axvline(step, color="0.4", linewidth=0.8, linestyle=":")
        found = next((f for f in run.health(step).findings if f.topic == topic), None)
        if found is not None:
            late = 2 * step > run.rows[-1]["step"] > run.rows[0]["step"] * 2
            axes.annotate(
                f"{due}: {found.level}", (step, 1.0), xycoords=("data", "axes fraction"),
                xytext=(-2 if late else 2, -1), textcoords="offset points", va="top",
                ha="right" if late else "left", fontsize=6.5, color="0.2",
            )  # fmt: skip
