"""Scales, ticks and paths: the arithmetic of drawing, without any drawing.

Pure. Plots live in a box of 1000 by 400 units that the page stretches to any width, so that lines
scale and text does not. Refuses to know what a line means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 1000.0
HEIGHT = 400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A linear axis: its ends, its ticks and the unit of its values."""

    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str = ""

    def share(self, value: float) -> float:
        """Return where a value lies between the ends, 0 to 1 (outside when it is outside)."""
        return (value - self.low) / (self.high - self.low)


def nice_axis(
    low: float, high: float, *, unit: str = "", count: int = 5, widen: bool = True
) -> Axis:
    """Return an axis over [low, high] with about `count` round ticks.

    Args:
        widen: move the ends out to the next tick; otherwise keep them.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = 0.0, 1.0
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = (0.0, high + pad) if low == 0 else (low - pad, high + pad)
    step = _round_step((high - low) / max(1, count))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    if widen:
        low, high = first * step, last * step
    ticks = tuple(
        round(index * step, 12)
        for index in range(first, last + 1)
        if low - 1e-9 * step <= index * step <= high + 1e-9 * step
    )
    return Axis(low=low, high=high, ticks=ticks, unit=unit)


def value_axis(values: Sequence[NDArray[np.float64]], *, unit: str) -> Axis:
    """Return the y axis of curves: it starts at zero unless a value is negative."""
    finite = [array[np.isfinite(array)] for array in values]
    together = np.concatenate(finite) if finite else np.empty(0)
    if together.size == 0:
        return nice_axis(0.0, 1.0, unit=unit)
    low, high = min(0.0, float(together.min())), float(together.max())
    if unit == "rate":
        high = min(1.0, high) if high > 0 else 0.1
    return nice_axis(low, high, unit=unit, count=4)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if rough <= factor * power * (1 + 1e-9):
            return factor * power
    raise AssertionError("unreachable: rough is below ten powers of itself")


def line_path(
    x_axis: Axis,
    y_axis: Axis,
    steps_T: NDArray[np.float64],
    values_T: NDArray[np.float64],
) -> str:
    """Return the path of a curve; a missing value (NaN) is a gap, a lone value is a dot."""
    x_T = (steps_T - x_axis.low) / (x_axis.high - x_axis.low) * WIDTH
    y_T = HEIGHT - (values_T - y_axis.low) / (y_axis.high - y_axis.low) * HEIGHT
    parts = []
    for start, stop in finite_pieces(values_T):
        points = [
            f"{x:.1f},{y:.1f}"
            for x, y in zip(x_T[start:stop].tolist(), y_T[start:stop].tolist(), strict=True)
        ]
        parts.append("M" + " ".join(points) if len(points) > 1 else f"M{points[0]}h0")
    return "".join(parts)


def band_path(
    x_axis: Axis,
    y_axis: Axis,
    steps_T: NDArray[np.float64],
    low_T: NDArray[np.float64],
    high_T: NDArray[np.float64],
) -> str:
    """Return the closed path between two curves, one piece for each stretch without gaps."""
    x_T = (steps_T - x_axis.low) / (x_axis.high - x_axis.low) * WIDTH
    scale = HEIGHT / (y_axis.high - y_axis.low)
    low_y_T = np.clip(HEIGHT - (low_T - y_axis.low) * scale, 0, HEIGHT)
    high_y_T = np.clip(HEIGHT - (high_T - y_axis.low) * scale, 0, HEIGHT)
    parts = []
    for start, stop in finite_pieces(low_T + high_T):
        if stop - start < 2:
            continue
        there = [
            f"{x:.1f},{y:.1f}" for x, y in zip(x_T[start:stop], high_y_T[start:stop], strict=True)
        ]
        back = [
            f"{x:.1f},{y:.1f}" for x, y in zip(x_T[start:stop], low_y_T[start:stop], strict=True)
        ]
        parts.append("M" + " ".join(there + back[::-1]) + "z")
    return "".join(parts)


def finite_pieces(values_T: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return [start, stop) of every stretch of finite values."""
    finite = np.concatenate(([False], np.isfinite(values_T), [False]))
    edges = np.flatnonzero(finite[1:] != finite[:-1])
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def spread(
    places: Sequence[float], *, gap: float, low: float = 0.0, high: float = 1.0
) -> list[float]:
    """Move places apart until neighbours are at least `gap` away, staying in [low, high].

    Order is kept; labels at the ends of curves use it so that they never overlap.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    room = (high - low) / max(1, len(places) - 1)
    gap = min(gap, room)
    moved = [min(max(places[index], low), high) for index in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    if moved:
        moved[-1] = min(moved[-1], high)
    for index in range(len(moved) - 2, -1, -1):
        moved[index] = min(moved[index], moved[index + 1] - gap)
    result = [0.0] * len(places)
    for place, index in zip(moved, order, strict=True):
        result[index] = place
    return result
