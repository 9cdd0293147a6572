"""Equivalence and non-inferiority: is a mean difference inside a margin, or not under one?

Knows paired differences; refuses to choose a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import stats

from cupel.errors import ConfigError
from cupel.stats.intervals import mean_of, sd_of
from cupel.stats.permutation import EXACT_LIMIT, sign_flip_one_sided
from cupel.stats.samples import Values, fraction, vector


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """The one-sided question whether the mean is above -margin.

    Attributes:
        lower_bound: one-sided t bound of the mean; None when the differences do not vary.
        p: of the one-sided t-test; None when the differences do not vary.
        p_exact: of the one-sided sign flips of d + margin; None above 20 pairs.
    """

    margin: float
    alpha: float
    lower_bound: float | None
    p: float | None
    p_exact: float | None


def non_inferiority(differences_S: Values, *, margin: float, alpha: float = 0.05) -> NonInferiority:
    """Test mean(d) > -margin; not inferior at size alpha when `lower_bound` exceeds -margin.

    Differences point the good way up; negate them where lower is better. A margin of 0 asks for
    superiority, a negative one for an effect of at least that size.

    Raises:
        DataError: fewer than 2 differences, or a value is not finite.
        ConfigError: the margin is not finite.
    Source: Blackwelder 1982; Fisher 1935 (sign flips).
    """
    d_S = vector(differences_S, where="non_inferiority: differences", at_least=2)
    fraction(alpha, where="non_inferiority", name="alpha")
    if not math.isfinite(margin):
        raise ConfigError(f"non_inferiority: margin = {margin} must be finite")
    exact = sign_flip_one_sided(d_S + margin)[0] if len(d_S) <= EXACT_LIMIT else None
    mean, sd, n = mean_of(d_S), sd_of(d_S), len(d_S)
    if sd == 0.0:
        return NonInferiority(margin=margin, alpha=alpha, lower_bound=None, p=None, p_exact=exact)
    error = sd / math.sqrt(n)
    return NonInferiority(
        margin=margin,
        alpha=alpha,
        lower_bound=mean - float(stats.t.isf(alpha, n - 1)) * error,
        p=float(stats.t.sf((mean + margin) / error, n - 1)),
        p_exact=exact,
    )
