"""The Universal Scalability Law: its values, its fit, and whether the peak's interval covers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cupel.errors import DataError
from cupel.rlvr.scaling_law import ScalingFit, fit_scaling, peak_concurrency, throughput

DOUBLING = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])

SPECSDM91 = (
    [1, 18, 36, 72, 108, 144, 216],
    [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2],
)
"""Users and throughput of the SPEC SDM91 benchmark, as published with the R package `usl`, whose
unweighted fit is alpha 0.0277285, beta 0.0001044, gamma 89.995: a peak of 1884 at load 96.52."""


def test_the_law_and_its_peak_have_the_published_values() -> None:
    # from the R package's coefficients: peak throughput 1884 at load 96.52
    peak = peak_concurrency(0.0277285, 0.0001044)
    assert peak == pytest.approx(96.52, abs=0.05)
    best = throughput(np.array([96.52]), 89.9952330, 0.0277285, 0.0001044)
    assert best.tolist() == pytest.approx([1884], abs=1)
    # its limits: no contention is linear, contention alone is Amdahl's 1 / (s + (1 - s)/p)
    assert throughput(DOUBLING, 3.0, 0.0, 0.0).tolist() == (3 * DOUBLING).tolist()
    amdahl = 1 / (0.1 + 0.9 / DOUBLING)
    assert throughput(DOUBLING, 1.0, 0.1, 0.0) == pytest.approx(amdahl)
    assert peak_concurrency(0.1, 0.0) is None


def test_the_fit_of_the_benchmark_agrees_with_the_published_one() -> None:
    found = fit_scaling(*SPECSDM91)
    assert found.peak_low is not None
    assert found.peak_high is not None
    assert found.peak_low < 96.52 < found.peak_high
    assert found.best == pytest.approx(1884, rel=0.05)
    assert found.condition < 20


@pytest.mark.parametrize(
    ("sigma", "kappa"), [(0.03, 0.0004), (0.0, 0.001), (0.2, 0.01), (0.001, 1e-6), (0.5, 0.0)]
)
def test_exact_throughput_gives_the_parameters_back(sigma: float, kappa: float) -> None:
    found = fit_scaling(DOUBLING.tolist(), throughput(DOUBLING, 250.0, sigma, kappa).tolist())
    assert found.rate == pytest.approx(250.0, rel=1e-5)
    assert found.sigma == pytest.approx(sigma, abs=1e-5)
    assert found.kappa == pytest.approx(kappa, abs=1e-8, rel=1e-4)
    if kappa == 0:
        assert found.peak is None
        assert found.best == pytest.approx(250.0 / sigma, rel=1e-4)
    else:
        assert found.peak == pytest.approx(math.sqrt((1 - sigma) / kappa), rel=1e-3)


def test_the_unit_of_concurrency_does_not_move_the_peak() -> None:
    x = throughput(DOUBLING, 10.0, 0.02, 0.001)
    ones, groups = (
        fit_scaling(DOUBLING.tolist(), x.tolist()),
        fit_scaling((16 * DOUBLING).tolist(), x.tolist()),
    )
    assert ones.peak is not None
    assert groups.peak == pytest.approx(16 * ones.peak, rel=1e-4)


@pytest.mark.parametrize(
    ("p", "x", "says"),
    [
        ([8, 8, 16], [1.0, 1.1, 2.0], "2 distinct concurrencies"),
        ([], [], "0 distinct"),
        ([1, 2], [1.0, 2.0, 3.0], "the same length"),
        ([1, 2, 4], [1.0, 0.0, 2.0], "throughputs > 0"),
        ([0, 2, 4], [1.0, 1.0, 2.0], "concurrencies must be >= 1"),
        ([1, 2, 4], [1.0, math.nan, 2.0], "not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(p: list[float], x: list[float], says: str) -> None:
    with pytest.raises(DataError, match=says):
        fit_scaling(p, x)


def test_three_observations_leave_nothing_for_errors() -> None:
    p = np.array([1.0, 8.0, 64.0])
    found = fit_scaling(p.tolist(), throughput(p, 5.0, 0.02, 0.001).tolist())
    assert found.peak == pytest.approx(math.sqrt(0.98 / 0.001), rel=1e-4)
    missing = [found.rate_se, found.sigma_se, found.kappa_se, found.residual_sd]
    assert [*missing, found.peak_low, found.peak_high] == [None] * 6


def test_a_stalled_step_hardly_moves_the_peak() -> None:
    p = np.repeat(DOUBLING, 3)
    x = throughput(p, 100.0, 0.03, 0.0004) * np.exp(
        0.02 * np.random.default_rng(1).standard_normal(len(p))
    )
    calm = fit_scaling(p.tolist(), x.tolist())
    x[-1] /= 10
    stalled = fit_scaling(p.tolist(), x.tolist())
    assert calm.peak is not None
    assert stalled.peak == pytest.approx(calm.peak, rel=0.1)
    assert stalled.residual_sd is not None
    assert calm.residual_sd is not None
    assert stalled.residual_sd > calm.residual_sd


def simulated(
    levels: list[int], repeats: int, noise: float, runs: int, **law: Any
) -> list[ScalingFit]:
    rng = np.random.default_rng(20260101)
    p = np.repeat(np.array(levels, dtype=np.float64), repeats)
    truth = throughput(p, 100.0, **law)
    return [
        fit_scaling(p.tolist(), (truth * np.exp(noise * rng.standard_normal(len(p)))).tolist())
        for _ in range(runs)
    ]


@pytest.mark.parametrize(
    ("levels", "repeats", "noise"),
    [([1, 2, 4, 8, 16, 32, 64], 2, 0.03), ([8, 16, 32, 64, 128], 2, 0.1)],
)
def test_the_interval_of_the_peak_covers_it(levels: list[int], repeats: int, noise: float) -> None:
    """200 simulated machines: a 95 % interval covers in 92 to 99 % (binomial band of 3 sd)."""
    law = {"sigma": 0.03, "kappa": 0.0004}
    truth = math.sqrt(0.97 / 0.0004)
    fits = simulated(levels, repeats, noise, 200, **law)
    inside = [
        fit.peak_low is not None
        and fit.peak_high is not None
        and fit.peak_low <= truth <= fit.peak_high
        for fit in fits
    ]
    assert 0.90 <= np.mean(inside) <= 0.995
    peaks = [fit.peak for fit in fits if fit.peak is not None]
    assert len(peaks) == len(fits)
    assert np.median(peaks) == pytest.approx(truth, rel=0.05)


def test_the_balance_point_is_where_the_two_costs_meet() -> None:
    found = fit_scaling(DOUBLING.tolist(), throughput(DOUBLING, 7.0, 0.1, 0.001).tolist())
    assert found.balance is not None
    fixed = 1 - found.sigma
    grown = (found.sigma - found.kappa) * found.balance + found.kappa * found.balance**2
    assert grown == pytest.approx(fixed)
    linear = fit_scaling(DOUBLING.tolist(), throughput(DOUBLING, 7.0, 0.1, 0.0).tolist())
    assert linear.balance == pytest.approx(9.0, rel=1e-3)
