"""The interval of a difference of two rates that were measured on the same trials.

Knows the four counts of paired yes/no outcomes; refuses to know what a trial is, and whether
trials are independent of one another, which it assumes.
"""

from __future__ import annotations

import math

from cupel.stats.intervals import Interval, wilson
from cupel.stats.samples import positive


def newcombe_paired(
    both: int, only_baseline: int, only_candidate: int, neither: int, *, alpha: float = 0.05
) -> Interval:
    """Return the interval of candidate rate minus baseline rate over paired trials.

    The two Wilson intervals are combined as in `newcombe`, less what the correlation phi of the
    pairs takes away; a positive phi is corrected towards 0 for continuity.

    >>> interval = newcombe_paired(36, 2, 12, 0)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0569, 0.3404)

    Raises:
        ConfigError: a count is negative, or there is no trial.
    Source: Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10.
    """
    where = "newcombe_paired"
    a = positive(both, where=where, name="both", at_least=0)
    b = positive(only_baseline, where=where, name="only_baseline", at_least=0)
    c = positive(only_candidate, where=where, name="only_candidate", at_least=0)
    d = positive(neither, where=where, name="neither", at_least=0)
    n = positive(a + b + c + d, where=where, name="number of pairs", at_least=1)
    base, cand = wilson(a + b, n, alpha=alpha), wilson(a + c, n, alpha=alpha)
    rate_b, rate_c, phi = (a + b) / n, (a + c) / n, _phi(a, b, c, d)
    delta = rate_c - rate_b
    down = _combined(rate_c - cand.low, base.high - rate_b, phi)
    up = _combined(cand.high - rate_c, rate_b - base.low, phi)
    return Interval(low=delta - down, high=delta + up, coverage=1 - alpha, method="newcombe_paired")


def _phi(a: int, b: int, c: int, d: int) -> float:
    """Return the correlation of the pairs, a positive one corrected for continuity."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    product = float(a * d - b * c)
    if product > 0:
        product = max(product - (a + b + c + d) / 2, 0.0)
    return product / math.sqrt(margins)


def _combined(first: float, second: float, phi: float) -> float:
    return math.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0))
