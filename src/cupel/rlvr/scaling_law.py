"""The Universal Scalability Law: throughput against concurrency, its fit and its peak.

Pure. Knows pairs of concurrency and throughput. Refuses to fit what cannot be told apart: three
parameters want three distinct concurrencies. What the law is used for is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import least_squares

from cupel.errors import DataError

Float = NDArray[np.float64]

LEAST_DISTINCT = 3
STALL = 0.1
"""Relative residual from which an observation counts less and less: a stalled step is no news
about the machine (the scale of the soft-l1 loss)."""
NO_COHERENCE = 1e-3
"""Coherence that slows the largest observed concurrency by less than this share is none: the
bounded fit comes near its bound, never onto it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFit:
    """X(p) = rate * p / (1 + sigma (p - 1) + kappa p (p - 1)), fitted.

    Attributes:
        rate: throughput at p = 1 (lambda), in the unit of the observations.
        sigma, kappa: contention in [0, 1] and coherence >= 0.
        rate_se, sigma_se, kappa_se: standard errors; None with no degree of freedom left, or for
            a parameter that lies on its bound.
        residual_sd: relative scatter around the curve; None with no degree of freedom left.
        condition: condition number of the column-scaled Jacobian; beyond 1e3 the parameters are
            hardly told apart, whatever the curve looks like.
        peak: p* = sqrt((1 - sigma) / kappa); None where throughput never falls.
        peak_low, peak_high: interval of the peak; None where it has none.
        observations, distinct: how many pairs, and how many different concurrencies.
    """

    rate: float
    sigma: float
    kappa: float
    rate_se: float | None
    sigma_se: float | None
    kappa_se: float | None
    residual_sd: float | None
    condition: float
    peak: float | None
    peak_low: float | None
    peak_high: float | None
    observations: int
    distinct: int

    def throughput(self, p: float) -> float:
        """Return the fitted throughput at concurrency p."""
        return float(throughput(np.array(p), self.rate, self.sigma, self.kappa))

    @property
    def best(self) -> float | None:
        """Highest throughput at any concurrency: at the peak, or the limit; None when unbounded."""
        if self.peak is not None:
            return self.throughput(max(self.peak, 1.0))
        return self.rate / self.sigma if self.sigma > 0 else None

    @property
    def balance(self) -> float | None:
        """Concurrency at which the cost of each unit overtakes the fixed cost of a pass.

        A pass takes p / X(p) = ((1 - sigma) + (sigma - kappa) p + kappa p^2) / rate seconds: a
        fixed part and parts that grow with p. None where they never meet.
        """
        slope, fixed = self.sigma - self.kappa, 1 - self.sigma
        if self.kappa > 0:
            return (-slope + math.sqrt(slope**2 + 4 * self.kappa * fixed)) / (2 * self.kappa)
        return fixed / slope if slope > 0 else None


def throughput(p: Float, rate: float, sigma: float, kappa: float) -> Float:
    """Return rate * p / (1 + sigma (p - 1) + kappa p (p - 1)).

    Source: N. J. Gunther, Guerrilla Capacity Planning (2007), eq. 4.9 and 6.1.

    >>> throughput(np.array([1.0, 10.0]), 5.0, 0.02, 0.0).tolist()
    [5.0, 42.3728813559322]
    """
    found: Float = rate * p / (1 + sigma * (p - 1) + kappa * p * (p - 1))
    return found


def peak_concurrency(sigma: float, kappa: float) -> float | None:
    """Return p* = sqrt((1 - sigma) / kappa), where dX/dp = 0; None where X never falls.

    >>> peak_concurrency(0.02, 0.0005)
    44.27188724235731
    """
    return math.sqrt((1 - sigma) / kappa) if kappa > 0 else None


def fit_scaling(
    concurrency: Sequence[float], observed: Sequence[float], *, confidence: float = 0.95
) -> ScalingFit:
    """Fit the law to observed throughput, by least squares on its logarithm within bounds.

    Residuals are relative, since timings scatter in proportion; a soft-l1 loss keeps a stalled
    step from bending the curve. The peak's interval is the delta method on log p* with Student's
    t. Departure from the source, which regresses p / X - 1 on p by a parabola: there the noise of
    the p = 1 measurement enters every point, and nothing holds the parameters to their bounds.

    Args:
        concurrency: p >= 1 of each observation.
        observed: throughput > 0, in any unit.

    Raises:
        DataError: fewer than three distinct concurrencies, or a value that cannot be.
    """
    p_N, x_N = np.asarray(concurrency, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    distinct = _check(p_N, x_N)

    def residuals(theta: Float) -> Float:
        log_rate, sigma, kappa = theta.tolist()
        found: Float = np.log(x_N) - log_rate - np.log(throughput(p_N, 1.0, sigma, kappa))
        return found

    found = least_squares(
        residuals,
        _start(p_N, x_N),
        bounds=([-np.inf, 0.0, 0.0], [np.inf, 1.0, np.inf]),
        x_scale="jac",
        loss="soft_l1",
        f_scale=STALL,
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    log_rate, sigma, kappa = (float(value) for value in found.x)
    largest = p_N.max()
    without = throughput(largest, 1.0, sigma, 0.0)
    if throughput(largest, 1.0, sigma, kappa) > (1 - NO_COHERENCE) * without:
        kappa = 0.0
    free = np.array([True, 0 < sigma < 1, kappa > 0])
    jacobian_NF = np.asarray(found.jac, dtype=np.float64)[:, free]
    scale_F = np.linalg.norm(jacobian_NF, axis=0)
    condition = float(np.linalg.cond(jacobian_NF / scale_F))
    degrees = len(p_N) - int(free.sum())
    covariance = np.full((3, 3), np.nan)
    residual_sd = None
    if degrees > 0:
        variance = 2 * found.cost / degrees
        residual_sd = math.sqrt(variance)
        covariance[np.ix_(free, free)] = variance * np.linalg.pinv(jacobian_NF.T @ jacobian_NF)
    low, high = _peak_interval(sigma, kappa, covariance, degrees, confidence)
    return ScalingFit(
        rate=math.exp(log_rate),
        sigma=sigma,
        kappa=kappa,
        rate_se=_error(covariance[0, 0], math.exp(log_rate)),
        sigma_se=_error(covariance[1, 1]),
        kappa_se=_error(covariance[2, 2]),
        residual_sd=residual_sd,
        condition=condition,
        peak=peak_concurrency(sigma, kappa),
        peak_low=low,
        peak_high=high,
        observations=len(p_N),
        distinct=distinct,
    )


def _check(p_N: Float, x_N: Float) -> int:
    if p_N.shape != x_N.shape or p_N.ndim != 1:
        raise DataError(
            f"fit_scaling: {p_N.shape} concurrencies and {x_N.shape} throughputs; give two lists "
            "of the same length"
        )
    if not (np.isfinite(p_N).all() and np.isfinite(x_N).all()):
        raise DataError("fit_scaling: a concurrency or throughput is not finite; leave it out")
    if (p_N < 1).any() or (x_N <= 0).any():
        raise DataError("fit_scaling: concurrencies must be >= 1 and throughputs > 0")
    distinct = len(np.unique(p_N))
    if distinct < LEAST_DISTINCT:
        raise DataError(
            f"fit_scaling: {distinct} distinct concurrencies; the law has three parameters, so "
            f"observe at least {LEAST_DISTINCT}"
        )
    return distinct


def _start(p_N: Float, x_N: Float) -> Float:
    """Return a start inside the bounds: relative least squares on the linear p/X = a + bp + cp²."""
    powers_N3 = np.stack([np.ones_like(p_N), p_N, p_N**2], axis=1) * (x_N / p_N)[:, None]
    scale_3 = np.linalg.norm(powers_N3, axis=0)
    solved = np.linalg.lstsq(powers_N3 / scale_3, np.ones_like(p_N), rcond=None)[0] / scale_3
    total = float(solved.sum())
    sigma = kappa = 0.0
    if total > 0:
        sigma, kappa = float(solved[1] + solved[2]) / total, float(solved[2]) / total
    largest = p_N.max()
    sigma = min(max(sigma, 1e-4 / largest), 1 - 1e-4)
    kappa = max(kappa, 1e-4 / largest**2)
    log_rate = np.mean(np.log(x_N) - np.log(throughput(p_N, 1.0, sigma, kappa)))
    return np.array([log_rate, sigma, kappa])


def _peak_interval(
    sigma: float, kappa: float, covariance: Float, degrees: int, confidence: float
) -> tuple[float | None, float | None]:
    """Return the interval of log p* = (log(1 - sigma) - log kappa) / 2, as p*."""
    peak = peak_concurrency(sigma, kappa)
    if peak is None or peak == 0 or degrees < 1:
        return None, None
    slope = np.array([0.0, -0.5 / (1 - sigma), -0.5 / kappa])
    known = np.nan_to_num(covariance)  # a parameter on its bound is held there
    wide = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * math.sqrt(slope @ known @ slope)
    if wide > 700:  # exp would overflow: nothing is known of the peak
        return None, None
    return peak * math.exp(-wide), peak * math.exp(wide)


def _error(variance: float, factor: float = 1.0) -> float | None:
    return None if math.isnan(variance) else factor * math.sqrt(variance)
