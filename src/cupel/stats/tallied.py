"""Samples given as distinct values with how often each came: the same laws for far less work.

Knows means, effect sizes and resampling laws of tallied samples; refuses to know what was
tallied. A million outcomes of three kinds cost what three cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cupel.errors import DataError
from cupel.stats.intervals import Interval
from cupel.stats.permutation import pooled_permutation
from cupel.stats.samples import FloatArray, Values, fraction, positive, vector

MOST_DRAWS = 1_000_000_000
"""Values drawn in one resampling up to which it is simulated; beyond, its normal limit is used."""
_CHUNK = 2_000_000
_MOST_DISTINCT = 256
Law = Literal["drawn", "normal_limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tallied:
    """A sample: distinct values, ascending, and how often each came."""

    values_K: FloatArray
    counts_K: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.counts_K.sum())

    @property
    def mean(self) -> float:
        """Mean of all values."""
        return math.fsum((self.values_K * self.counts_K).tolist()) / self.n

    @property
    def squares(self) -> float:
        """Sum of squared deviations from the mean."""
        return math.fsum(((self.values_K - self.mean) ** 2 * self.counts_K).tolist())


def tallied(values_C: Values, counts_C: NDArray[np.int64]) -> Tallied:
    """Collect values, which may repeat, with their counts.

    >>> tallied([1.0, 0.0, 1.0], np.array([2, 5, 3])).counts_K.tolist()
    [5, 5]

    Raises:
        DataError: no value, one that is not finite, or a count below 1.
    """
    values = vector(values_C, where="tallied")
    counts = np.asarray(counts_C, dtype=np.int64)
    if len(counts) != len(values) or np.any(counts < 1):
        raise DataError("tallied: every value needs a count of at least 1")
    distinct_K, place_C = np.unique(values, return_inverse=True)
    counts_K = np.bincount(place_C, weights=counts).astype(np.int64)
    return Tallied(values_K=distinct_K, counts_K=counts_K)


def tallied_cohens_d(baseline: Tallied, candidate: Tallied) -> float | None:
    """Return `effects.cohens_d` of two tallied samples; None when neither varies."""
    degrees = baseline.n + candidate.n - 2
    squares = baseline.squares + candidate.squares
    if degrees < 1 or squares <= 1e-24 * degrees * _largest(baseline, candidate) ** 2:
        return None
    return (candidate.mean - baseline.mean) / math.sqrt(squares / degrees)


def law_of(baseline: Tallied, candidate: Tallied, resamples: int) -> Law:
    """Say how two samples are resampled: drawn, or through the normal limit of the same law.

    The limit stands in only for samples of many distinct values whose draws would take minutes;
    its error is of order 1/sqrt(n), far below that of the draws.
    """
    distinct = len(baseline.values_K) + len(candidate.values_K)
    return "drawn" if distinct * resamples <= MOST_DRAWS else "normal_limit"


def tallied_permutation(
    baseline: Tallied, candidate: Tallied, *, rng: np.random.Generator, resamples: int = 20_000
) -> float:
    """Return `permutation.pooled_permutation` of two tallied samples.

    Raises:
        ConfigError: fewer than 100 resamples.
    """
    where = "tallied_permutation"
    positive(resamples, where=where, name="resamples", at_least=100)
    values = np.concatenate([baseline.values_K, candidate.values_K])
    pooled = tallied(values, np.concatenate([baseline.counts_K, candidate.counts_K]))
    n_b, n_c = baseline.n, candidate.n
    observed = abs(candidate.mean - baseline.mean)
    if law_of(baseline, candidate, resamples) == "normal_limit":
        error = math.sqrt(pooled.squares / (n_b + n_c - 1) * (1 / n_b + 1 / n_c))
        return float(2 * stats.norm.sf(observed / error))
    if len(pooled.values_K) > _MOST_DISTINCT:
        return pooled_permutation(
            np.repeat(baseline.values_K, baseline.counts_K),
            np.repeat(candidate.values_K, candidate.counts_K),
            rng=rng,
            resamples=resamples,
        )
    drawn_BK = rng.multivariate_hypergeometric(
        pooled.counts_K, n_c, size=resamples, method="marginals"
    )
    sums_B = drawn_BK @ pooled.values_K
    delta_B = sums_B / n_c - (pooled.mean * pooled.n - sums_B) / n_b
    tolerance = 1e-12 * float(np.abs(pooled.values_K).max())
    reached = int(np.count_nonzero(np.abs(delta_B) >= observed - tolerance))
    return (reached + 1) / (resamples + 1)


def tallied_bootstrap_difference(
    baseline: Tallied,
    candidate: Tallied,
    *,
    rng: np.random.Generator,
    alpha: float = 0.05,
    resamples: int = 20_000,
) -> Interval:
    """Return `intervals.percentile_bootstrap_difference` of two tallied samples."""
    where = "tallied_bootstrap_difference"
    positive(resamples, where=where, name="resamples", at_least=100)
    fraction(alpha, where=where, name="alpha")
    if law_of(baseline, candidate, resamples) == "normal_limit":
        delta = candidate.mean - baseline.mean
        error = math.hypot(*(math.sqrt(one.squares) / one.n for one in (baseline, candidate)))
        half = float(stats.norm.isf(alpha / 2)) * error
        low, high = delta - half, delta + half
    else:
        delta_B = _means(candidate, resamples, rng) - _means(baseline, resamples, rng)
        low, high = np.quantile(delta_B, [alpha / 2, 1 - alpha / 2]).tolist()
    return Interval(low=low, high=high, coverage=1 - alpha, method="percentile_bootstrap")


def _means(sample: Tallied, resamples: int, rng: np.random.Generator) -> FloatArray:
    means_B = np.empty(resamples)
    share_K = sample.counts_K / sample.n
    step = max(1, _CHUNK // len(share_K))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn_BK = rng.multinomial(sample.n, share_K, size=size)
        means_B[start : start + size] = drawn_BK @ sample.values_K / sample.n
    return means_B


def tallied_icc(
    values_C: Values, counts_C: NDArray[np.int64], groups_C: NDArray[np.int64]
) -> float | None:
    """Return `effects.icc_oneway` of tallied values; groups are whole numbers from 0.

    Raises:
        DataError: the three differ in length, or a value is not finite.
    """
    values = vector(values_C, where="tallied_icc")
    if not len(values) == len(counts_C) == len(groups_C):
        raise DataError("tallied_icc: values, counts and groups differ in length")
    size_G = np.bincount(groups_C, weights=counts_C)
    filled = size_G > 0
    n, g = int(size_G.sum()), int(filled.sum())
    if g < 2 or n <= g:
        return None
    sum_G = np.bincount(groups_C, weights=values * counts_C)
    mean_G = np.divide(sum_G, size_G, out=np.zeros_like(sum_G), where=filled)
    between = float(size_G @ (mean_G - sum_G.sum() / n) ** 2) / (g - 1)
    within = float(counts_C @ (values - mean_G[groups_C]) ** 2) / (n - g)
    m0 = (n - float(size_G @ size_G) / n) / (g - 1)
    denominator = between + (m0 - 1) * within
    return (between - within) / denominator if denominator > 0 else None


def _largest(*samples: Tallied) -> float:
    return max(float(np.abs(sample.values_K).max()) for sample in samples)
