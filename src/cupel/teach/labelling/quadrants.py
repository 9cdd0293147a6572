"""Where uncertainty and leverage are cut, and which quadrant a moment falls into.

Pure. Knows U and L_local. Refuses to fit a cut on tasks that anything is judged by, to cut where
one side would be empty, and to place a moment that lacks a label: it stays UNASSIGNED.

high: strictly above the cut. Q1 high U high L, Q2 high U low L, Q3 low U low L, Q4 low U high L.
Departures from the documents: cuts are fitted on the training split only; a cut may be given for
one axis alone (a fixed effect size for L); beside the class stands its probability given noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from cupel.config import Config
from cupel.errors import DataError
from cupel.teach.branches.arms import chance_above
from cupel.teach.labelling.labels import QUADRANTS, LabelledMoment, Quadrant

Method = Literal["median", "percentile_75", "manual"]

_QUANTILE = {"median": 0.5, "percentile_75": 0.75}
LEAST_SHARE = 0.02
"""Share of moments that must lie on each side of a fitted cut."""


class QuadrantConfig(Config):
    """How quadrants are assigned."""

    assign: bool = True
    """Assign quadrants; otherwise every row stays UNASSIGNED."""
    method: Method = "median"
    """median or percentile_75 of the training split's labels; manual: both thresholds as given."""
    U_threshold: float | None = None
    """Cut of U; default: fitted by `method`."""
    L_threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Cut of L_local, for instance an effect size such as 0.1; default: fitted by `method`."""
    min_per_quadrant: Annotated[int, Field(ge=1)] = 100
    """Moments of the training split each quadrant should have; a gate, shown with the counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where U and L_local are cut.

    Attributes:
        n_fitted: moments of the training split that had both labels.
        U_tie_mass, L_tie_mass: share of those that lie exactly on the cut, and count as low.
        U_fitted, L_fitted: False where the cut was given.
    """

    U: float
    L: float
    method: Method
    n_fitted: int
    U_tie_mass: float | None
    L_tie_mass: float | None
    U_fitted: bool
    L_fitted: bool


def fit_thresholds(labels: Iterable[LabelledMoment], config: QuadrantConfig) -> Thresholds:
    """Fit the cuts on the moments of the training split that have both labels.

    Raises:
        DataError: nothing to fit on, method manual without both cuts, or a degenerate cut: fewer
            than 2 % of the moments on one side; says how many lie exactly on it.
    """
    rows = [
        (label.U, label.leverage.L_local.value)
        for label in labels
        if label.moment.split == "train" and label.U is not None and label.leverage is not None
    ]
    given = {"U": config.U_threshold, "L": config.L_threshold}
    absent = [f"--{axis}-threshold" for axis, cut in given.items() if cut is None]
    if absent and config.method == "manual":
        raise DataError(f"quadrants: method 'manual' needs {' and '.join(absent)}")
    if absent and not rows:
        raise DataError(
            "quadrants: no moment of the training split has both U and L_local, so there is "
            "nothing to fit on; label uncertainty and leverage first, or give both thresholds"
        )
    values = {"U": [u for u, _ in rows], "L": [leverage for _, leverage in rows]}
    cuts = {axis: _cut(axis, values[axis], given[axis], config.method) for axis in values}
    return Thresholds(
        U=cuts["U"],
        L=cuts["L"],
        method=config.method,
        n_fitted=len(rows),
        U_tie_mass=_tie_mass(values["U"], cuts["U"]),
        L_tie_mass=_tie_mass(values["L"], cuts["L"]),
        U_fitted=given["U"] is None,
        L_fitted=given["L"] is None,
    )


def assign(labels: Iterable[LabelledMoment], thresholds: Thresholds) -> tuple[LabelledMoment, ...]:
    """Return the labels with their quadrant and the probability of each quadrant."""
    return tuple(
        replace(
            label,
            quadrant=quadrant_of(label, thresholds),
            quadrant_probs=quadrant_probs(label, thresholds),
        )
        for label in labels
    )


def quadrant_of(label: LabelledMoment, thresholds: Thresholds) -> Quadrant:
    """Return the quadrant of a moment; UNASSIGNED where U or L_local is missing."""
    if label.U is None or label.leverage is None:
        return "UNASSIGNED"
    return _QUADRANT[label.U > thresholds.U, label.leverage.L_local.value > thresholds.L]


def quadrant_probs(label: LabelledMoment, thresholds: Thresholds) -> Mapping[str, float]:
    """Return the probability of each quadrant given the noise of L_local; empty: unassigned.

    U is a property of the student at a state and carries no noise. For L_local see
    `cupel.teach.branches.arms.chance_above`.
    """
    if label.U is None or label.leverage is None:
        return {}
    high = chance_above(label.leverage.p_policy, label.leverage.p_force, thresholds.L)
    is_high = label.U > thresholds.U
    return {
        name: (high if leverage_high else 1.0 - high) if uncertain == is_high else 0.0
        for (uncertain, leverage_high), name in _QUADRANT.items()
    }


def thresholds_row(thresholds: Thresholds) -> dict[str, Any]:
    """Return the cuts as quadrant_thresholds_auto.json holds them."""
    return {
        "U_threshold": thresholds.U,
        "L_threshold": thresholds.L,
        "method": thresholds.method,
        "U_fitted": thresholds.U_fitted,
        "L_fitted": thresholds.L_fitted,
        "n_fitted": thresholds.n_fitted,
        "fitted_on": "train",
        "U_tie_mass": thresholds.U_tie_mass,
        "L_tie_mass": thresholds.L_tie_mass,
    }


def counts_of(labels: Iterable[LabelledMoment]) -> dict[str, int]:
    """Count the moments of each quadrant and those UNASSIGNED."""
    counts: dict[str, int] = dict.fromkeys((*QUADRANTS, "UNASSIGNED"), 0)
    for label in labels:
        counts[label.quadrant] += 1
    return counts


def short_of(counts: Mapping[str, int], at_least: int) -> tuple[str, ...]:
    """Name the quadrants with fewer moments than asked for, empty ones included."""
    return tuple(name for name in QUADRANTS if counts.get(name, 0) < at_least)


_QUADRANT: Mapping[tuple[bool, bool], Quadrant] = {
    (True, True): "Q1_highU_highL",
    (True, False): "Q2_highU_lowL",
    (False, False): "Q3_lowU_lowL",
    (False, True): "Q4_lowU_highL",
}


def _cut(axis: str, values: Sequence[float], given: float | None, method: Method) -> float:
    if given is not None:
        return given
    cut = float(np.quantile(values, _QUANTILE[method]))
    high = sum(value > cut for value in values) / len(values)
    if min(high, 1 - high) < LEAST_SHARE:
        tied = sum(value == cut for value in values)
        flag = "--L-threshold, for instance 0.1" if axis == "L" else "--U-threshold"
        raise DataError(
            f"quadrants: the {method} of {axis} is {cut:.4g} and {high:.1%} of {len(values)} "
            f"moments lie above it ({tied} lie exactly on it), so one side is empty; "
            f"give {flag}"
        )
    return cut


def _tie_mass(values: Sequence[float], cut: float) -> float | None:
    return sum(value == cut for value in values) / len(values) if values else None
