"""Summaries that a few extreme seeds cannot carry away.

Knows trimmed means and distributions of scores over seeds; refuses to treat one seed's scores as
several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cupel.stats.intervals import Interval, sd_of
from cupel.stats.samples import FloatArray, Values, fraction, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Iqm:
    """The interquartile mean over seeds; `interval` is None below 4 seeds or without variation."""

    value: float
    kept: int
    interval: Interval | None


def iqm(values_S: Values, *, alpha: float = 0.05) -> Iqm:
    """Return the mean of the middle half of the values, with its t-interval.

    A quarter of the values (rounded down) is cut from each end. The interval uses the winsorised
    variance and Student's t on `kept - 1` degrees of freedom, which needs no resampling.

    Source: Agarwal et al. 2021 (arXiv:2108.13264); Tukey & McLaughlin 1963 (interval).
    """
    values = np.sort(vector(values_S, where="iqm"))
    fraction(alpha, where="iqm", name="alpha")
    n, cut = len(values), len(values) // 4
    kept = values[cut : n - cut]
    value = math.fsum(kept.tolist()) / len(kept)
    interval = None
    if n >= 4:
        sd = sd_of(np.clip(values, kept[0], kept[-1]))
        error = sd / ((len(kept) / n) * math.sqrt(n))
        if error > 0:
            half = float(stats.t.isf(alpha / 2, len(kept) - 1)) * error
            interval = Interval(
                low=value - half, high=value + half, coverage=1 - alpha, method="trimmed_t"
            )
    return Iqm(value=value, kept=len(kept), interval=interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The share of seeds that score more than each threshold.

    Attributes:
        low_T, high_T: exact bounds at each threshold by itself.
        band: half-width that holds for all thresholds at once.
    """

    thresholds_T: FloatArray
    share_T: FloatArray
    low_T: FloatArray
    high_T: FloatArray
    band: float


def performance_profile(scores_S: Values, thresholds_T: Values, *, alpha: float = 0.05) -> Profile:
    """Return the run-score distribution over seeds, one score a seed.

    Source: Agarwal et al. 2021 (profiles); Clopper & Pearson 1934 (pointwise bounds); Dvoretzky,
    Kiefer & Wolfowitz 1956 with the constant of Massart 1990 (simultaneous band).
    """
    scores = vector(scores_S, where="performance_profile")
    thresholds = vector(thresholds_T, where="performance_profile: thresholds")
    fraction(alpha, where="performance_profile", name="alpha")
    n = len(scores)
    above_T = np.count_nonzero(scores[:, None] > thresholds, axis=0)
    low_T = np.zeros(len(thresholds))
    high_T = np.ones(len(thresholds))
    some, not_all = above_T > 0, above_T < n
    low_T[some] = stats.beta.ppf(alpha / 2, above_T[some], n - above_T[some] + 1)
    high_T[not_all] = stats.beta.ppf(1 - alpha / 2, above_T[not_all] + 1, n - above_T[not_all])
    return Profile(
        thresholds_T=thresholds,
        share_T=above_T / n,
        low_T=low_T,
        high_T=high_T,
        band=math.sqrt(math.log(2 / alpha) / (2 * n)),
    )
