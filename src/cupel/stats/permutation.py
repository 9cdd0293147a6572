"""Exact tests by relabelling: sign flips of paired differences, shuffles of two samples.

Knows groups of relabellings and the intervals that belong to them; refuses to know what a seed
or a completion is. Up to 20 pairs every sign pattern is enumerated and no random number is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from cupel.errors import ConfigError
from cupel.stats.intervals import Interval, clopper_pearson, mean_of
from cupel.stats.samples import (
    FloatArray,
    Values,
    counts,
    fraction,
    matrix,
    positive,
    vector,
)

EXACT_LIMIT = 20
"""Pairs up to which all sign patterns are enumerated."""
MOST_FLIPS = 2_000_000
_TOLERANCE = 1e-12
_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SignFlip:
    """The sign-flip test of paired differences and the interval that inverts it.

    Attributes:
        n: number of pairs.
        mean: mean difference.
        p: two-sided p-value.
        floor: smallest p-value that n pairs can give.
        method: `exact_sign_flip` or `monte_carlo_sign_flip`.
        patterns: sign patterns looked at, the observed one included.
        interval: all shifts the same test does not reject at p < alpha; unbounded ends are
            infinite; `coverage` is exact under symmetry.
        p_interval: 95 % bounds of the Monte Carlo p-value, None where p is exact.
    """

    n: int
    mean: float
    p: float
    floor: float
    method: Literal["exact_sign_flip", "monte_carlo_sign_flip"]
    patterns: int
    interval: Interval
    p_interval: Interval | None


def sign_flip_floor(n: int) -> float:
    """Return the smallest two-sided p-value of n pairs, 2/2^n.

    >>> [sign_flip_floor(n) for n in (3, 5, 6, 8)]
    [0.25, 0.0625, 0.03125, 0.0078125]
    """
    return min(1.0, 2.0 / 2.0 ** positive(n, where="sign_flip_floor", name="n", at_least=0))


def attainable_size(n: int, alpha: float = 0.05) -> float:
    """Return the probability of p < alpha under the null hypothesis, without ties."""
    fraction(alpha, where="attainable_size", name="alpha")
    return max(0, math.ceil(alpha / sign_flip_floor(n)) - 1) * sign_flip_floor(n)


def smallest_n(alpha: float = 0.05) -> int:
    """Return the fewest pairs that can give p < alpha."""
    fraction(alpha, where="smallest_n", name="alpha")
    n = 1
    while sign_flip_floor(n) >= alpha:
        n += 1
    return n


def sign_flip(
    differences_S: Values,
    *,
    alpha: float = 0.05,
    rng: np.random.Generator | None = None,
    flips: int = 20_000,
) -> SignFlip:
    """Test that the differences are symmetric about 0, and invert the test into an interval.

    p is the share of sign patterns whose |sum| reaches the observed one. The interval's ends
    are order statistics of the means over subsets of pairs, so 0 is outside exactly when
    p < alpha. Beyond 20 pairs `flips` random patterns are drawn and p = (b+1)/(B+1); the number
    is multiplied by ten, up to two million, while the bounds of p straddle alpha.

    Raises:
        DataError: no differences, or a value is not finite.
        ConfigError: more than 20 pairs and no generator.
    Source: Fisher 1935; Hartigan 1969 (typical values); Phipson & Smyth 2010.
    """
    d = np.sort(vector(differences_S, where="sign_flip"))
    fraction(alpha, where="sign_flip", name="alpha")
    if len(d) <= EXACT_LIMIT:
        sums_A, sizes_A = _all_subsets(d[1:])
        return _judge(d, sums_A[1:], sizes_A[1:], alpha=alpha, exact=True)
    if rng is None:
        raise ConfigError(
            f"sign_flip: {len(d)} pairs are too many to enumerate (limit {EXACT_LIMIT}); pass rng"
        )
    flips = positive(flips, where="sign_flip", name="flips", at_least=100)
    while True:
        result = _judge(d, *_random_subsets(d, flips, rng), alpha=alpha, exact=False)
        straddles = result.p_interval is not None and result.p_interval.contains(alpha)
        if not straddles or flips >= MOST_FLIPS:
            return result
        flips = min(10 * flips, MOST_FLIPS)


def sign_flip_one_sided(differences_S: Values) -> tuple[float, float]:
    """Return the exact one-sided p-values (of a positive mean, of a negative mean).

    Each counts the observed pattern, so both are at least 1/2^n and together exceed 1.

    Raises:
        DataError: no differences, or a value is not finite.
        ConfigError: more than 20 pairs.
    """
    d = np.sort(vector(differences_S, where="sign_flip_one_sided"))
    if len(d) > EXACT_LIMIT:
        raise ConfigError(
            f"sign_flip_one_sided: {len(d)} pairs are too many to enumerate (limit {EXACT_LIMIT})"
        )
    sums_A, _ = _all_subsets(d)
    tolerance = _TOLERANCE * float(np.abs(d).sum())
    total = math.fsum(d.tolist())
    flipped_A = total - 2 * sums_A
    up = float(np.mean(flipped_A >= total - tolerance))
    return up, float(np.mean(flipped_A <= total + tolerance))


def _judge(
    d: FloatArray, sums_B: FloatArray, sizes_B: FloatArray, *, alpha: float, exact: bool
) -> SignFlip:
    """Compute p and interval from the flipped subsets B; each also stands for its complement."""
    tolerance = _TOLERANCE * float(np.abs(d).sum())
    total = math.fsum(d.tolist())
    reached = int(np.count_nonzero(np.abs(total - 2 * sums_B) >= abs(total) - tolerance))
    patterns = len(sums_B) + 1
    p = (reached + 1) / patterns
    coverage_steps = max(0, math.ceil(alpha * patterns) - 1)
    sums_A = np.concatenate([sums_B, total - sums_B, [total]])
    sizes_A = np.concatenate([sizes_B, len(d) - sizes_B, [float(len(d))]])
    filled = sizes_A > 0
    sums_A = np.where(np.abs(sums_A) <= tolerance / 2, 0.0, sums_A)[filled]
    low, high = _typical_values(
        sums_A / sizes_A[filled], coverage_steps - int(np.count_nonzero(~filled))
    )
    return SignFlip(
        n=len(d),
        mean=mean_of(d),
        p=p,
        floor=sign_flip_floor(len(d)),
        method="exact_sign_flip" if exact else "monte_carlo_sign_flip",
        patterns=2 ** len(d) if exact else patterns,
        interval=Interval(
            low=low,
            high=high,
            coverage=1 - coverage_steps / patterns,
            method="sign_flip_inversion",
        ),
        p_interval=None if exact else clopper_pearson(reached + 1, patterns),
    )


def _typical_values(means_A: FloatArray, k: int) -> tuple[float, float]:
    """Return the k-th smallest and k-th largest of the means, or no bounds when k < 1."""
    if k < 1:
        return -math.inf, math.inf
    ends = np.partition(means_A, [k - 1, len(means_A) - k])
    return float(ends[k - 1]), float(ends[len(means_A) - k])


def _all_subsets(d: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return sum and size of every subset of d by doubling; the empty one stands first."""
    sums_A, sizes_A = np.zeros(1), np.zeros(1)
    for value in d:
        sums_A = np.concatenate([sums_A, sums_A + value])
        sizes_A = np.concatenate([sizes_A, sizes_A + 1.0])
    return sums_A, sizes_A


def _random_subsets(
    d: FloatArray, number: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    sums_B, sizes_B = np.empty(number), np.empty(number)
    step = max(1, _CHUNK // len(d))
    for start in range(0, number, step):
        stop = min(start + step, number)
        flipped_BS = rng.integers(0, 2, size=(stop - start, len(d)), dtype=np.int8)
        sums_B[start:stop] = flipped_BS @ d
        sizes_B[start:stop] = flipped_BS.sum(axis=1, dtype=np.int64)
    return sums_B, sizes_B


def sign_flip_p_values(differences_RS: FloatArray) -> FloatArray:
    """Return the exact sign-flip p-value of every row, for simulations; at most 16 columns.

    Raises:
        DataError: not a finite matrix.
        ConfigError: more than 16 columns.
    """
    d_RS = matrix(differences_RS, where="sign_flip_p_values")
    pairs = d_RS.shape[1]
    if pairs > 16:
        raise ConfigError(f"sign_flip_p_values: {pairs} columns; at most 16 are enumerated")
    codes_B = np.arange(2 ** (pairs - 1))
    signs_BS = 1.0 - 2.0 * ((codes_B[:, None] >> np.arange(pairs)) & 1)
    total_R = np.abs(d_RS.sum(axis=1))
    threshold_R = total_R - _TOLERANCE * np.abs(d_RS).sum(axis=1)
    p_R = np.empty(len(d_RS))
    step = max(1, _CHUNK // len(codes_B))
    for start in range(0, len(d_RS), step):
        part = slice(start, start + step)
        reached_RB = np.abs(d_RS[part] @ signs_BS.T) >= threshold_R[part, None]
        p_R[part] = reached_RB.mean(axis=1)
    return p_R


def wilcoxon_signed_rank(
    differences_S: Values, *, rng: np.random.Generator | None = None
) -> float | None:
    """Return the exact two-sided signed-rank p-value, ties by mid-ranks; None when all are 0.

    Targets the pseudo-median, not the mean. Source: Wilcoxon 1945; zeros dropped.
    """
    d = vector(differences_S, where="wilcoxon_signed_rank")
    d = d[d != 0]
    if len(d) == 0:
        return None
    return sign_flip(np.sign(d) * stats.rankdata(np.abs(d)), rng=rng).p


def pooled_permutation_counts(baseline: tuple[int, int], candidate: tuple[int, int]) -> float:
    """Return the exact permutation p-value of a difference of rates of pooled trials.

    The law of the shuffled success count is hypergeometric, so nothing is drawn. Treats all
    trials as independent.
    """
    where = "pooled_permutation_counts"
    (k_b, n_b), (k_c, n_c) = counts(*baseline, where=where), counts(*candidate, where=where)
    successes, total = k_b + k_c, n_b + n_c
    observed = abs(k_c * total - successes * n_c)
    if observed == 0:
        return 1.0
    upper = -((-(successes * n_c + observed)) // total)
    lower = (successes * n_c - observed) // total
    law = stats.hypergeom(total, successes, n_c)
    return min(1.0, float(law.sf(upper - 1) + law.cdf(lower)))


def pooled_permutation(
    baseline_N: Values,
    candidate_M: Values,
    *,
    rng: np.random.Generator,
    resamples: int = 20_000,
) -> float:
    """Return the permutation p-value of a difference of means of two pooled samples.

    p = (b+1)/(B+1). Samples with at most 256 distinct values are shuffled through their counts
    (multivariate hypergeometric: the same law, much faster). Treats all values as independent.

    Raises:
        DataError: an empty sample, or a value is not finite.
    """
    where = "pooled_permutation"
    baseline, candidate = vector(baseline_N, where=where), vector(candidate_M, where=where)
    positive(resamples, where=where, name="resamples", at_least=100)
    pooled = np.concatenate([baseline, candidate])
    total, n_b, n_c = float(pooled.sum()), len(baseline), len(candidate)
    distinct_K, counts_K = np.unique(pooled, return_counts=True)
    if len(distinct_K) <= 256:
        drawn_BK = rng.multivariate_hypergeometric(
            counts_K, n_c, size=resamples, method="marginals"
        )
        sums_B = drawn_BK @ distinct_K
    else:
        sums_B = _shuffled_sums(pooled, n_c, resamples, rng)
    delta_B = sums_B / n_c - (total - sums_B) / n_b
    observed = abs(float(candidate.mean() - baseline.mean()))
    tolerance = _TOLERANCE * float(np.abs(pooled).max())
    reached = int(np.count_nonzero(np.abs(delta_B) >= observed - tolerance))
    return (reached + 1) / (resamples + 1)


def _shuffled_sums(
    pooled_N: FloatArray, take: int, resamples: int, rng: np.random.Generator
) -> FloatArray:
    sums_B = np.empty(resamples)
    step = max(1, _CHUNK // len(pooled_N))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        shuffled_BN = rng.permuted(np.tile(pooled_N, (stop - start, 1)), axis=1)
        sums_B[start:stop] = shuffled_BN[:, :take].sum(axis=1)
    return sums_B
