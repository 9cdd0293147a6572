"""Many tests at once: adjusted p-values.

Knows lists of p-values; refuses to know which question each answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from cupel.errors import ConfigError, DataError
from cupel.stats.permutation import EXACT_LIMIT, sign_flip_floor
from cupel.stats.samples import FloatArray, fraction, matrix, positive, vector

_CHUNK = 1_000_000


def holm(p_values_K: ArrayLike) -> FloatArray:
    """Return step-down adjusted p-values; p_adj < alpha keeps the family-wise error below alpha.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]

    Source: Holm 1979.
    """
    p = _p_values(p_values_K, where="holm")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return _unsort(steps, order)


def benjamini_hochberg(p_values_K: ArrayLike) -> FloatArray:
    """Return step-up adjusted p-values, which bound the false discovery rate.

    Source: Benjamini & Hochberg 1995.
    """
    p = _p_values(p_values_K, where="benjamini_hochberg")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    return _unsort(np.minimum.accumulate(scaled[::-1])[::-1], order)


def holm_capacity(n: int, alpha: float = 0.05) -> int:
    """Return the largest family whose first Holm step n pairs can still pass by sign flips.

    >>> [holm_capacity(n) for n in (5, 6, 7, 8, 9, 10)]
    [0, 1, 3, 6, 12, 25]
    """
    fraction(alpha, where="holm_capacity", name="alpha")
    return max(0, math.ceil(alpha / sign_flip_floor(n)) - 1)


def max_t(
    differences_SK: FloatArray,
    *,
    rng: np.random.Generator | None = None,
    flips: int = 20_000,
) -> FloatArray:
    """Return step-down adjusted p-values of K contrasts measured on the same seeds.

    All contrasts of a seed flip sign together, so their correlation is used and the correction is
    lighter than Holm's. The statistic of a contrast is |sum d| / sqrt(sum d^2), which orders sign
    patterns as |t| does. Exact up to 20 seeds, (b+1)/(B+1) from random flips beyond.

    Assumes that the vector of a seed's differences is symmetric about 0 under the null.

    Raises:
        DataError: a difference is missing or not finite.
        ConfigError: more than 20 seeds and no generator.
    Source: Westfall & Young 1993, algorithm 2.8 (step-down maxT).
    """
    d_SK = matrix(differences_SK, where="max_t")
    d_SK = d_SK[np.lexsort(d_SK.T)]
    seeds, contrasts = d_SK.shape
    norm_K = np.sqrt(np.sum(d_SK**2, axis=0))
    scaled_SK = np.divide(d_SK, norm_K, out=np.zeros_like(d_SK), where=norm_K > 0)
    observed_K = np.abs(scaled_SK.sum(axis=0))
    order_K = np.argsort(-observed_K, kind="stable")
    reached_K, patterns = np.zeros(contrasts), 0
    threshold_K = observed_K[order_K] - 1e-12 * seeds
    for signs_BS in _sign_patterns(seeds, rng, positive(flips, where="max_t", name="flips")):
        t_BK = np.abs(signs_BS @ scaled_SK[:, order_K])
        largest_BK = np.maximum.accumulate(t_BK[:, ::-1], axis=1)[:, ::-1]
        reached_K += np.count_nonzero(largest_BK >= threshold_K, axis=0)
        patterns += len(signs_BS)
    if seeds > EXACT_LIMIT:
        reached_K, patterns = reached_K + 1, patterns + 1
    return _unsort(np.maximum.accumulate(reached_K / patterns), order_K)


def _sign_patterns(seeds: int, rng: np.random.Generator | None, flips: int) -> Iterator[FloatArray]:
    """Yield sign patterns in blocks: one of each mirrored couple, or random ones."""
    if seeds > EXACT_LIMIT and rng is None:
        raise ConfigError(
            f"max_t: {seeds} seeds are too many to enumerate (limit {EXACT_LIMIT}); pass rng"
        )
    number = flips if seeds > EXACT_LIMIT else 2 ** (seeds - 1)
    step = max(1, _CHUNK // seeds)
    for start in range(0, number, step):
        stop = min(start + step, number)
        if seeds > EXACT_LIMIT:
            assert rng is not None
            flipped_BS = rng.integers(0, 2, size=(stop - start, seeds))
        else:
            codes_B = np.arange(start, stop)
            flipped_BS = (codes_B[:, None] >> np.arange(seeds)) & 1
        yield 1.0 - 2.0 * flipped_BS.astype(np.float64)


def _p_values(p_values_K: ArrayLike, *, where: str) -> FloatArray:
    p = vector(p_values_K, where=where)
    if (p < 0).any() or (p > 1).any():
        raise DataError(f"{where}: p-values must lie in [0, 1], got {p.min():g} to {p.max():g}")
    return p


def _unsort(sorted_K: FloatArray, order_K: np.ndarray) -> FloatArray:
    adjusted = np.empty_like(sorted_K)
    adjusted[order_K] = np.minimum(sorted_K, 1.0)
    return adjusted
