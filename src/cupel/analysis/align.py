"""Learning curves of several runs on one grid of step values.

Knows steps; refuses to know list positions, so a run that lacks a step has a gap there instead
of borrowing its neighbour's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.analysis.endpoint import read_series
from cupel.lab.store import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """One metric of several runs.

    Attributes:
        steps_T: every step any run logged, ascending.
        values_RT: value by run and step; NaN where a run has none.
        runs: the runs, one a row.
    """

    metric: str
    steps_T: NDArray[np.int64]
    values_RT: NDArray[np.float64]
    runs: tuple[RunRecord, ...]

    @property
    def count_T(self) -> NDArray[np.int64]:
        """Number of runs with a value, by step."""
        count_T: NDArray[np.int64] = np.sum(~np.isnan(self.values_RT), axis=0, dtype=np.int64)
        return count_T

    @property
    def mean_T(self) -> NDArray[np.float64]:
        """Mean over the runs that have a value, by step; NaN where none has."""
        total_T = np.nansum(self.values_RT, axis=0)
        mean_T: NDArray[np.float64] = np.full(len(self.steps_T), np.nan)
        np.divide(total_T, self.count_T, out=mean_T, where=self.count_T > 0)
        return mean_T


def align_curves(runs: Sequence[RunRecord], metric: str) -> Curves:
    """Read a metric of several runs and align it by step value.

    Raises:
        DataError: a run lacks the metric, or its file is damaged.
    """
    series = [read_series(run, metric) for run in runs]
    steps = sorted({step for one in series for step in one.steps})
    position = {step: index for index, step in enumerate(steps)}
    values_RT = np.full((len(runs), len(steps)), np.nan)
    for row, one in enumerate(series):
        for step, value in zip(one.steps, one.values, strict=True):
            if value is not None:
                values_RT[row, position[step]] = value
    return Curves(
        metric=metric,
        steps_T=np.array(steps, dtype=np.int64),
        values_RT=values_RT,
        runs=tuple(runs),
    )
