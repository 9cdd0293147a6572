"""Exact power of tests of two rates with equal arms, by enumerating all tables that matter.

Knows binomial and hypergeometric laws; refuses to approximate either by a normal.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cupel.errors import ConfigError
from cupel.stats.samples import FloatArray, fraction, positive

ExactTest = Literal["fisher", "mid_p"]
_WIDTH = 9.0
"""Standard deviations kept on each side: what lies beyond has less than 1e-17 of the mass."""


def exact_power(
    p0: float, lift: float, n: int, *, alpha: float = 0.05, test: ExactTest = "fisher"
) -> float:
    """Return the unconditional power of a two-sided exact test with n trials per arm.

    Sums the probability of every pair of counts whose p-value is under alpha; lift = 0 gives the
    true size. Trials are independent.

    Raises:
        ConfigError: a rate outside (0, 1), or n below 1.
    Source: Fisher 1935; Lancaster 1961 (mid-p); Casagrande, Pike & Smith 1978 (exact power).
    """
    fraction(p0, where="exact_power", name="p0")
    p1 = fraction(p0 + lift, where="exact_power", name="p0 + lift")
    fraction(alpha, where="exact_power", name="alpha")
    positive(n, where="exact_power", name="n")
    x_X, y_Y = _likely_counts(n, p0), _likely_counts(n, p1)
    totals_M = np.arange(x_X[0] + y_Y[0], x_X[-1] + y_Y[-1] + 1)
    critical_M = _critical_counts(n, totals_M, alpha=alpha, test=test)
    critical_XY = critical_M[x_X[:, None] + y_Y - totals_M[0]]
    rejects_XY = np.minimum(x_X[:, None], y_Y) <= critical_XY
    mass_X, mass_Y = stats.binom.pmf(x_X, n, p0), stats.binom.pmf(y_Y, n, p1)
    return float(mass_X @ rejects_XY @ mass_Y)


def exact_n(
    p0: float,
    lift: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    test: ExactTest = "fisher",
    start: int = 100,
) -> int:
    """Return trials per arm that give an exact test this power, by bisection.

    Exact power rises in saw teeth; bisection ends at a place where it passes `power`, which is
    within a few trials of any other such place.

    Args:
        start: a first guess, e.g. the normal approximation.

    Raises:
        ConfigError: a rate outside (0, 1), or a lift of 0.
    """
    if lift == 0:
        raise ConfigError("exact_n: lift is 0; no sample size detects no difference")
    fraction(power, where="exact_n", name="power")

    def enough(n: int) -> bool:
        return exact_power(p0, lift, n, alpha=alpha, test=test) >= power

    high = max(2, start)
    while not enough(high):
        high *= 2
    low = high // 2
    while low > 1 and enough(low):
        low //= 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _likely_counts(n: int, p: float) -> NDArray[np.int64]:
    half = math.ceil(_WIDTH * math.sqrt(n * p * (1 - p))) + 25
    centre = round(n * p)
    return np.arange(max(0, centre - half), min(n, centre + half) + 1)


def _critical_counts(
    n: int, totals_M: NDArray[np.int64], *, alpha: float, test: ExactTest
) -> NDArray[np.int64]:
    """Return, by total of both arms, the largest smaller count with p < alpha; -1 for none.

    Equal arms make the law of one count symmetric about half the total, so that the two-sided
    p-value is twice the lower tail.
    """
    successes_M = totals_M.astype(np.float64)
    sd_M = np.sqrt(successes_M * (2 * n - successes_M) / (4 * (2 * n - 1.0)))
    width = math.ceil(_WIDTH * float(sd_M.max())) + 25
    first_M = np.maximum(np.maximum(0, totals_M - n), totals_M // 2 - width)
    x_MW = first_M[:, None] + np.arange(width + 1)
    possible_MW = x_MW <= (totals_M // 2)[:, None]
    x_MW = np.where(possible_MW, x_MW, first_M[:, None])
    log_p_MW = (
        _log_choose(n, x_MW)
        + _log_choose(n, totals_M[:, None] - x_MW)
        - _log_choose(2 * n, totals_M)[:, None]
    )
    p_MW = np.where(possible_MW, np.exp(log_p_MW), 0.0)
    tail_MW = np.cumsum(p_MW, axis=1)
    if test == "mid_p":
        tail_MW = tail_MW - p_MW / 2
    rejected_MW = possible_MW & (2 * tail_MW < alpha) & (2 * x_MW < totals_M[:, None])
    critical_M: NDArray[np.int64] = first_M + np.count_nonzero(rejected_MW, axis=1) - 1
    return critical_M


def _log_choose(n: int, k: NDArray[np.int64]) -> FloatArray:
    k_float = k.astype(np.float64)
    terms: FloatArray = (
        special.gammaln(n + 1.0) - special.gammaln(k_float + 1) - special.gammaln(n - k_float + 1)
    )
    return terms
