"""Equivalence: two one-sided tests that a mean difference lies inside a margin.

Knows paired differences; refuses to choose a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from cupel.errors import ConfigError
from cupel.stats.intervals import mean_of, sd_of
from cupel.stats.samples import Values, vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Tost:
    """Both one-sided t-tests; `p` is the larger of the two, None when the values do not vary."""

    margin: float
    p: float | None
    p_above_lower: float | None
    p_below_upper: float | None


def tost_paired(differences_S: Values, *, margin: float) -> Tost:
    """Test that -margin < mean(d) < margin; equivalent at size alpha when p < alpha.

    Assumes normal differences. The same as asking whether the 1 - 2 alpha t-interval lies inside
    the margin.

    Source: Schuirmann 1987.

    Raises:
        DataError: fewer than 2 differences, or a value is not finite.
        ConfigError: the margin is not positive.
    """
    d_S = vector(differences_S, where="tost_paired: differences", at_least=2)
    if not 0.0 < margin < math.inf:
        raise ConfigError(f"tost_paired: margin = {margin} must be positive and finite")
    mean, sd, n = mean_of(d_S), sd_of(d_S), len(d_S)
    if sd == 0.0:
        return Tost(margin=margin, p=None, p_above_lower=None, p_below_upper=None)
    error = sd / math.sqrt(n)
    above = float(stats.t.sf((mean + margin) / error, n - 1))
    below = float(stats.t.cdf((mean - margin) / error, n - 1))
    return Tost(margin=margin, p=max(above, below), p_above_lower=above, p_below_upper=below)
