"""What a design can show: sample sizes, power, smallest detectable effects.

Knows two-proportion formulas, the noncentral t and simulated sign flips; refuses to plug in an
observed effect by itself, which says nothing new (Hoenig & Heisey 2001).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from scipy import optimize, stats

from cupel.config import did_you_mean
from cupel.errors import ConfigError
from cupel.stats.exact_power import exact_n
from cupel.stats.permutation import sign_flip_p_values, smallest_n
from cupel.stats.samples import FloatArray, fraction, positive

ProportionMethod = Literal["seed_compat", "normal", "arcsine", "fleiss", "fisher", "mid_p"]
MOST_SEEDS = 10_000
MOST_SIMULATED = 12
"""Pairs up to which the power of sign flips is simulated."""


def two_proportion_n(
    p0: float,
    lift: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    method: ProportionMethod = "seed_compat",
) -> int:
    """Return the trials per arm that detect p0 against p0 + lift, two-sided, equal arms.

    n = (z_a sqrt(2 pq) + z_b sqrt(p0 q0 + p1 q1))^2 / lift^2, p the mean of both rates.

    - `normal`: exact normal quantiles, rounded up.
    - `seed_compat`: z_a rounded to two decimals and n rounded to nearest, which reproduces
      published tables made with z = 1.96.
    - `arcsine`: Cohen's h, rounded up.
    - `fleiss`: `normal` with continuity correction, near what Fisher's exact test needs.
    - `fisher`, `mid_p`: what these tests need, by exact enumeration.

    >>> [two_proportion_n(0.01875, lift) for lift in (0.01, 0.0126, 0.015, 0.02)]
    [3639, 2414, 1782, 1095]

    Raises:
        ConfigError: a rate outside (0, 1), a lift of 0, or an unknown method.
    Source: Fleiss, Tytun & Ury 1980; Casagrande, Pike & Smith 1978; Cohen 1988 (h).
    """
    p1 = _rates(p0, lift, where="two_proportion_n")
    if method not in get_args(ProportionMethod):
        raise ConfigError(
            f"two_proportion_n: method '{method}' is unknown; "
            f"{did_you_mean(method, get_args(ProportionMethod))}"
        )
    z_a = float(stats.norm.isf(fraction(alpha, where="two_proportion_n", name="alpha") / 2))
    z_b = float(stats.norm.ppf(fraction(power, where="two_proportion_n", name="power")))
    if method == "arcsine":
        h = 2 * math.asin(math.sqrt(p1)) - 2 * math.asin(math.sqrt(p0))
        return math.ceil(2 * ((z_a + z_b) / h) ** 2)
    if method == "seed_compat":
        return max(1, math.floor(_normal_n(p0, p1, round(z_a, 2), z_b) + 0.5))
    n = _normal_n(p0, p1, z_a, z_b)
    if method == "fleiss":
        n = n / 4 * (1 + math.sqrt(1 + 4 / (n * abs(lift)))) ** 2
    if method == "fisher" or method == "mid_p":
        return exact_n(p0, lift, alpha=alpha, power=power, test=method, start=math.ceil(n))
    return math.ceil(n)


def two_proportion_power(p0: float, lift: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the power of the two-sided z-test with n trials per arm, all independent."""
    p1 = _rates(p0, lift, where="two_proportion_power")
    positive(n, where="two_proportion_power", name="n")
    z_a = float(stats.norm.isf(fraction(alpha, where="two_proportion_power", name="alpha") / 2))
    mean = (p0 + p1) / 2
    null = z_a * math.sqrt(2 * mean * (1 - mean))
    spread = math.sqrt(p0 * (1 - p0) + p1 * (1 - p1))
    shift = abs(lift) * math.sqrt(n)
    return float(stats.norm.cdf((shift - null) / spread) + stats.norm.cdf((-shift - null) / spread))


def _rates(p0: float, lift: float, *, where: str) -> float:
    fraction(p0, where=where, name="p0")
    if lift == 0:
        raise ConfigError(f"{where}: lift is 0; no sample size detects no difference")
    return fraction(p0 + lift, where=where, name="p0 + lift")


def _normal_n(p0: float, p1: float, z_a: float, z_b: float) -> float:
    mean = (p0 + p1) / 2
    root = z_a * math.sqrt(2 * mean * (1 - mean)) + z_b * math.sqrt(p0 * (1 - p0) + p1 * (1 - p1))
    return (root / (p1 - p0)) ** 2


def paired_t_power(effect_sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the power of the two-sided paired t-test.

    Args:
        effect_sd: effect in units of the standard deviation of the seed differences.

    Departure: integrates the normal over the chi law of the sample deviation, because library
    noncentral-t routines return NaN in part of the range needed.
    """
    positive(n, where="paired_t_power", name="n", at_least=2)
    if not math.isfinite(effect_sd):
        raise ConfigError(f"paired_t_power: effect_sd = {effect_sd} must be finite")
    critical_M = float(stats.t.isf(alpha / 2, n - 1)) * _chi_scale(n - 1)
    shift = abs(effect_sd) * math.sqrt(n)
    both = stats.norm.sf(critical_M - shift) + stats.norm.cdf(-critical_M - shift)
    return float(np.mean(both))


@lru_cache(maxsize=64)
def _chi_scale(df: int) -> FloatArray:
    """Return sqrt(V/df) at 4,000 quantile midpoints of V ~ chi-square."""
    midpoints = (np.arange(4_000) + 0.5) / 4_000
    return np.sqrt(stats.chi2.ppf(midpoints, df) / df)


def mde_paired_t(n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest effect, in units of the seed-difference sd, found with this power.

    >>> round(mde_paired_t(8), 2)
    1.16
    """
    fraction(alpha, where="mde_paired_t", name="alpha")
    fraction(power, where="mde_paired_t", name="power")
    if power <= alpha:
        raise ConfigError(f"mde_paired_t: power {power} must exceed alpha {alpha}")
    top = 1.0
    while paired_t_power(top, n, alpha=alpha) < power:
        top *= 2
    root = optimize.brentq(lambda e: paired_t_power(e, n, alpha=alpha) - power, 0.0, top)
    return float(root)


def seeds_needed(
    effect_sd: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    test: Literal["sign_flip", "paired_t"] = "sign_flip",
) -> int | None:
    """Return the fewest seed pairs that find the effect with this power; None above 10,000.

    The t approximation serves both tests; `sign_flip` also needs enough pairs to reach alpha. It
    flatters sign flips of 6 or 7 pairs: `seeds_for_power` does not.
    """
    fraction(power, where="seeds_needed", name="power")
    least = smallest_n(alpha) if test == "sign_flip" else 2

    def enough(n: int) -> bool:
        return paired_t_power(effect_sd, n, alpha=alpha) >= power

    if not enough(MOST_SEEDS):
        return None
    low, high = least, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def seed_power(
    effect_sd: float,
    n: int,
    *,
    alpha: float = 0.05,
    test: Literal["sign_flip", "paired_t"] = "sign_flip",
) -> float:
    """Return the power of the declared test on n normal seed differences.

    Sign flips of up to 12 pairs are simulated from a fixed stream (20,000 samples, the same for
    every effect, so that power rises with it); from 13 pairs on they need what t needs.

    >>> round(seed_power(1.5, 6), 2), round(paired_t_power(1.5, 6), 2)
    (0.66, 0.83)
    """
    positive(n, where="seed_power", name="n", at_least=2)
    fraction(alpha, where="seed_power", name="alpha")
    if test == "paired_t" or n > MOST_SIMULATED:
        return paired_t_power(effect_sd, n, alpha=alpha)
    if n < smallest_n(alpha):
        return 0.0
    return _simulated_power(abs(effect_sd), n, alpha)


def seeds_for_power(
    effect_sd: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    test: Literal["sign_flip", "paired_t"] = "sign_flip",
) -> int | None:
    """Return the fewest seed pairs that find the effect with this power; None above 10,000.

    Unlike `seeds_needed`, counts what sign flips of few pairs lose to the coarseness of their
    p-values; a hundredth under `power` is enough.

    >>> seeds_needed(1.5), seeds_for_power(1.5)
    (6, 7)
    """
    by_t = seeds_needed(effect_sd, alpha=alpha, power=power, test=test)
    if by_t is None or test == "paired_t":
        return by_t
    for n in range(by_t, MOST_SIMULATED + 1):
        if seed_power(effect_sd, n, alpha=alpha) >= power - 0.01:
            return n
    return max(by_t, MOST_SIMULATED + 1)


def seed_mde(
    n: int,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    test: Literal["sign_flip", "paired_t"] = "sign_flip",
) -> float | None:
    """Return the smallest effect, in units of the seed-difference sd, the declared test finds.

    None where the test cannot reach alpha with n pairs.

    >>> round(seed_mde(6) or 0, 1), round(mde_paired_t(6), 1)
    (1.8, 1.4)
    """
    if test == "sign_flip" and n < smallest_n(alpha):
        return None
    if test == "paired_t" or n > MOST_SIMULATED:
        return mde_paired_t(n, alpha=alpha, power=power)
    low, high = 0.0, 2 * mde_paired_t(n, alpha=alpha, power=power)
    while high - low > 1e-4:
        middle = (low + high) / 2
        enough = seed_power(middle, n, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


@lru_cache(maxsize=512)
def _simulated_power(effect_sd: float, n: int, alpha: float) -> float:
    z_RS = np.random.default_rng([n, 20_000]).normal(size=(10_000, n))
    both_RS = np.concatenate([z_RS, -z_RS]) + effect_sd
    return float(np.mean(sign_flip_p_values(both_RS) < alpha))


def sign_flip_power(
    effect_sd: float,
    n: int,
    *,
    rng: np.random.Generator,
    alpha: float = 0.05,
    simulations: int = 2_000,
) -> float:
    """Return the simulated power of the exact sign-flip test on normal differences, n <= 16."""
    positive(n, where="sign_flip_power", name="n")
    positive(simulations, where="sign_flip_power", name="simulations", at_least=100)
    d_RS = rng.normal(effect_sd, 1.0, size=(simulations, n))
    return float(np.mean(sign_flip_p_values(d_RS) < alpha))


def sd_upper_limit(sd: float, n: int, *, confidence: float = 0.8) -> float:
    """Return the one-sided upper confidence limit of a standard deviation from n normal values.

    Plan with this, not with the estimate, which is too small about half of the time.
    """
    positive(n, where="sd_upper_limit", name="n", at_least=2)
    quantile = stats.chi2.ppf(
        1 - fraction(confidence, where="sd_upper_limit", name="confidence"), n - 1
    )
    return float(sd * math.sqrt((n - 1) / quantile))
