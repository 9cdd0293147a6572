"""Effect sizes and how strongly outcomes cluster.

Knows standardised differences, the probability of improvement, the intraclass correlation and
the design effect; refuses to know where values came from and to judge whether they are large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.stats.intervals import Interval, clopper_pearson, mean_of, sd_of
from cupel.stats.samples import Values, counts, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """How many pairs favour the candidate: k of n, strictly, with the exact interval."""

    k: int
    n: int
    interval: Interval


def d_z(differences_S: Values) -> float | None:
    """Return mean over standard deviation of paired differences; None when they do not vary.

    Source: Cohen 1988, section 2.3.5.
    """
    d = vector(differences_S, where="d_z", at_least=2)
    sd = sd_of(d)
    return mean_of(d) / sd if sd > 0 else None


def hedges_correction(df: int) -> float:
    """Return J = 1 - 3/(4 df - 1), which removes the small-sample bias. Source: Hedges 1981."""
    if df < 1:
        raise DataError(f"hedges_correction: df = {df}; needs at least 1 degree of freedom")
    return 1.0 - 3.0 / (4.0 * df - 1.0)


def cohens_d(baseline_N: Values, candidate_M: Values) -> float | None:
    """Return the standardised mean difference of two samples; None when neither varies.

    Pooled standard deviation with n - 1 weights. Source: Cohen 1988, section 2.2.
    """
    baseline = vector(baseline_N, where="cohens_d", at_least=2)
    candidate = vector(candidate_M, where="cohens_d", at_least=2)
    n_b, n_c = len(baseline), len(candidate)
    squares = (n_b - 1) * sd_of(baseline) ** 2 + (n_c - 1) * sd_of(candidate) ** 2
    if squares == 0.0:
        return None
    return (mean_of(candidate) - mean_of(baseline)) / math.sqrt(squares / (n_b + n_c - 2))


def cohens_d_of_counts(baseline: tuple[int, int], candidate: tuple[int, int]) -> float | None:
    """Return `cohens_d` of two 0/1 samples, each given as (successes, total)."""
    k_b, n_b = counts(*baseline, where="cohens_d_of_counts")
    k_c, n_c = counts(*candidate, where="cohens_d_of_counts")
    squares = k_b * (n_b - k_b) / n_b + k_c * (n_c - k_c) / n_c
    if squares == 0.0 or n_b + n_c <= 2:
        return None
    return (k_c / n_c - k_b / n_b) / math.sqrt(squares / (n_b + n_c - 2))


def probability_of_improvement(differences_S: Values, *, alpha: float = 0.05) -> Improvement:
    """Count pairs with d > 0 and bound the probability behind it. Ties count against."""
    d = vector(differences_S, where="probability_of_improvement")
    k = int(np.count_nonzero(d > 0))
    return Improvement(k=k, n=len(d), interval=clopper_pearson(k, len(d), alpha=alpha))


def design_effect(differences_S: Values, *, independent_variance: float) -> float | None:
    """Return Var(mean difference) over what independent trials would give; None for no variance.

    Args:
        independent_variance: variance of the pooled difference if all trials were independent,
            e.g. p(1-p)/n summed over both arms.

    Source: Kish 1965.
    """
    d = vector(differences_S, where="design_effect", at_least=2)
    if not math.isfinite(independent_variance) or independent_variance < 0:
        raise DataError(
            f"design_effect: independent_variance = {independent_variance} is no variance"
        )
    if independent_variance == 0:
        return None
    return sd_of(d) ** 2 / len(d) / independent_variance


def correlation(baseline_S: Values, candidate_S: Values) -> float | None:
    """Return Pearson's correlation of paired values; None when a side does not vary."""
    b = vector(baseline_S, where="correlation", at_least=2)
    c = vector(candidate_S, where="correlation", at_least=2)
    if len(b) != len(c):
        raise DataError(f"correlation: {len(b)} and {len(c)} values do not pair")
    if sd_of(b) == 0 or sd_of(c) == 0:
        return None
    products = ((b - mean_of(b)) * (c - mean_of(c))).tolist()
    return math.fsum(products) / (len(b) - 1) / (sd_of(b) * sd_of(c))


def icc_oneway(values_N: Values, groups_N: NDArray[np.int64]) -> float | None:
    """Return the one-way ANOVA intraclass correlation, ICC(1); None where it has no value.

    (MSB - MSW) / (MSB + (m0 - 1) MSW), m0 the adjusted group size; may be slightly negative.

    Raises:
        DataError: values and groups differ in length, or a value is not finite.
    Source: Fisher 1925; Donner & Koval 1980 for unequal groups.
    """
    values = vector(values_N, where="icc_oneway")
    labels, group_N = np.unique(np.asarray(groups_N), return_inverse=True)
    if len(group_N) != len(values):
        raise DataError(f"icc_oneway: {len(values)} values and {len(group_N)} group labels")
    n, g = len(values), len(labels)
    if g < 2 or n <= g:
        return None
    size_G = np.bincount(group_N).astype(np.float64)
    mean_G = np.bincount(group_N, weights=values) / size_G
    between = float(size_G @ (mean_G - values.mean()) ** 2) / (g - 1)
    within = float(np.sum((values - mean_G[group_N]) ** 2)) / (n - g)
    m0 = (n - float(size_G @ size_G) / n) / (g - 1)
    denominator = between + (m0 - 1) * within
    return (between - within) / denominator if denominator > 0 else None
