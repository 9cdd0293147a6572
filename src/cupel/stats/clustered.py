"""Errors of means when values share prompts, seeds or both.

Knows crossed tables (seeds x prompts) and clustered lists; refuses to know what a prompt is and
to treat values of one cluster as independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cupel.errors import DataError
from cupel.stats.intervals import Interval
from cupel.stats.samples import FloatArray, Values, fraction, matrix, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoWay:
    """The mean of a crossed table and its error when seeds and prompts are both drawn.

    Attributes:
        variance: of the mean; `by_rows` and `by_columns` are its one-way parts.
        floored: the two-way estimate fell under the larger part, which was taken instead.
        df: Satterthwaite degrees of freedom.
        interval, p: None when nothing varies.
    """

    mean: float
    variance: float
    by_rows: float
    by_columns: float
    floored: bool
    df: float
    interval: Interval | None
    p: float | None


def two_way(table_SQ: FloatArray, *, alpha: float = 0.05) -> TwoWay:
    """Estimate the mean of a seeds x prompts table for new seeds and new prompts.

    V = V_rows + V_columns - V_cells, never under the larger of the first two;
    df = V^2 / (V_rows^2/(S-1) + V_columns^2/(Q-1)).

    Raises:
        DataError: fewer than 2 rows or columns, or a cell is missing.
    Source: Cameron, Gelbach & Miller 2011 (variance); Satterthwaite 1946 (df).
    """
    d_SQ = matrix(table_SQ, where="two_way", at_least=2)
    fraction(alpha, where="two_way", name="alpha")
    seeds, prompts = d_SQ.shape
    if seeds < 2:
        raise DataError("two_way: needs at least 2 rows (seeds), got 1")
    mean = math.fsum(d_SQ.ravel().tolist()) / d_SQ.size
    by_rows = float(d_SQ.mean(axis=1).var(ddof=1)) / seeds
    by_columns = float(d_SQ.mean(axis=0).var(ddof=1)) / prompts
    cells = float(np.sum((d_SQ - mean) ** 2)) / (d_SQ.size * (d_SQ.size - 1))
    unfloored = by_rows + by_columns - cells
    variance = max(unfloored, by_rows, by_columns)
    tiny = (1e-12 * float(np.max(np.abs(d_SQ)))) ** 2
    if variance <= tiny:
        return TwoWay(
            mean=mean,
            variance=0.0,
            by_rows=by_rows,
            by_columns=by_columns,
            floored=False,
            df=float(min(seeds, prompts) - 1),
            interval=None,
            p=None,
        )
    df = variance**2 / (by_rows**2 / (seeds - 1) + by_columns**2 / (prompts - 1))
    error = math.sqrt(variance)
    half = float(stats.t.isf(alpha / 2, df)) * error
    return TwoWay(
        mean=mean,
        variance=variance,
        by_rows=by_rows,
        by_columns=by_columns,
        floored=unfloored < variance,
        df=df,
        interval=Interval(low=mean - half, high=mean + half, coverage=1 - alpha, method="two_way"),
        p=float(2 * stats.t.sf(abs(mean) / error, df)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteredMean:
    """A mean with its clustered standard error.

    Attributes:
        clusters: number of clusters; the interval uses Student's t on one fewer.
        independent_error: what the error would be if all values were independent.
    """

    mean: float
    error: float
    independent_error: float
    clusters: int
    interval: Interval | None
    p: float | None


def clustered_mean(
    values_N: Values, clusters_N: NDArray[np.int64], *, alpha: float = 0.05
) -> ClusteredMean:
    """Estimate a mean of values that share clusters, e.g. paired differences that share a prompt.

    SE^2 = G/(G-1) sum over clusters of (sum of residuals)^2 / n^2. With one value a cluster this
    is the plain standard error of paired differences. Departure: Student's t on G - 1 degrees of
    freedom in place of the normal, which is too narrow for few clusters.

    Raises:
        DataError: lengths differ, fewer than 2 clusters, or a value is not finite.
    Source: Miller 2024 (arXiv:2411.00640), section 2.2; Liang & Zeger 1986.
    """
    values = vector(values_N, where="clustered_mean", at_least=2)
    labels, cluster_N = np.unique(np.asarray(clusters_N), return_inverse=True)
    fraction(alpha, where="clustered_mean", name="alpha")
    if len(cluster_N) != len(values):
        raise DataError(f"clustered_mean: {len(values)} values and {len(cluster_N)} labels")
    n, g = len(values), len(labels)
    if g < 2:
        raise DataError("clustered_mean: needs at least 2 clusters, got 1")
    mean = math.fsum(values.tolist()) / n
    residual_N = values - mean
    sum_G = np.bincount(cluster_N, weights=residual_N)
    error = math.sqrt(g / (g - 1) * float(sum_G @ sum_G)) / n
    independent = float(values.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-12 * float(np.max(np.abs(values))):
        return ClusteredMean(
            mean=mean,
            error=0.0,
            independent_error=independent,
            clusters=g,
            interval=None,
            p=None,
        )
    half = float(stats.t.isf(alpha / 2, g - 1)) * error
    return ClusteredMean(
        mean=mean,
        error=error,
        independent_error=independent,
        clusters=g,
        interval=Interval(
            low=mean - half, high=mean + half, coverage=1 - alpha, method="clustered_t"
        ),
        p=float(2 * stats.t.sf(abs(mean) / error, g - 1)),
    )
