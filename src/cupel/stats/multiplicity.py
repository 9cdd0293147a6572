"""Many tests at once: adjusted p-values.

Knows lists of p-values; refuses to know which question each answers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from cupel.errors import DataError
from cupel.stats.permutation import sign_flip_floor
from cupel.stats.samples import FloatArray, fraction, vector


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


def _p_values(p_values_K: ArrayLike, *, where: str) -> FloatArray:
    p = vector(p_values_K, where=where)
    if (p < 0).any() or (p > 1).any():
        raise DataError(f"{where}: p-values must lie in [0, 1], got {p.min():g} to {p.max():g}")
    return p


def _unsort(sorted_K: FloatArray, order_K: np.ndarray) -> FloatArray:
    adjusted = np.empty_like(sorted_K)
    adjusted[order_K] = np.minimum(sorted_K, 1.0)
    return adjusted
