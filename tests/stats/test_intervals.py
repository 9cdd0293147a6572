"""Intervals against scipy, statsmodels and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cupel.errors import ConfigError, DataError
from cupel.stats.intervals import (
    bootstrap_t,
    clopper_pearson,
    hodges_lehmann,
    newcombe,
    paired_t,
    percentile_bootstrap,
    percentile_bootstrap_difference,
    wilson,
)

COUNTS = st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_paired_t_equals_scipy(d: list[float]) -> None:
    result = paired_t(d)
    if result.sd == 0:
        assert result.p is None
        return
    oracle = stats.ttest_1samp(d, 0.0)
    bounds = oracle.confidence_interval(0.95)
    assert result.p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
    assert result.interval is not None
    assert (result.interval.low, result.interval.high) == pytest.approx(
        (bounds.low, bounds.high), rel=1e-6, abs=1e-9
    )


def test_differences_that_never_vary_give_no_p_value() -> None:
    result = paired_t([0.1, 0.1, 0.1])
    assert (result.t, result.p, result.interval) == (None, None, None)


@given(COUNTS)
def test_proportion_intervals_equal_scipy(count: tuple[int, int]) -> None:
    k, n = count
    for ours, method in ((clopper_pearson, "exact"), (wilson, "wilson")):
        oracle = stats.binomtest(k, n).proportion_ci(0.95, method=method)
        got = ours(k, n)
        assert (got.low, got.high) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_newcombe_published_value() -> None:
    interval = newcombe((298, 1024), (342, 1024))
    assert (interval.low, interval.high) == pytest.approx((0.0028, 0.0829), abs=5e-5)


@given(COUNTS, COUNTS)
def test_newcombe_mirrors_when_arms_swap(a: tuple[int, int], b: tuple[int, int]) -> None:
    forth, back = newcombe(a, b), newcombe(b, a)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-12)
    assert forth.contains(b[0] / b[1] - a[0] / a[1])


def test_hodges_lehmann_is_the_median_of_pairwise_means() -> None:
    assert hodges_lehmann([1.0, 2.0, 6.0]) == 2.75
    assert hodges_lehmann([3.0]) == 3.0


def test_bootstrap_t_refuses_fewer_than_five_and_needs_variation() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="at least 5"):
        bootstrap_t([1, 2, 3, 4], rng=rng)
    assert bootstrap_t([0.2] * 6, rng=rng) is None


def test_bootstrap_t_survives_ties_and_resamples_without_variation() -> None:
    interval = bootstrap_t([0.2, 0.225, 0.25, 0.2, 0.225, 0.25], rng=np.random.default_rng(0))
    assert interval is not None
    assert interval.low < 0.225 < interval.high


def test_bootstrap_t_is_near_student_on_many_normal_values() -> None:
    rng = np.random.default_rng(7)
    d = rng.normal(size=200)
    ours, student = bootstrap_t(d, rng=rng), paired_t(d).interval
    assert ours is not None
    assert student is not None
    assert (ours.low, ours.high) == pytest.approx((student.low, student.high), abs=0.02)


def test_percentile_bootstrap_draws_the_law_of_resampling() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=40)
    ours = percentile_bootstrap(values, rng=rng, resamples=40_000)
    oracle = values[rng.integers(0, 40, size=(40_000, 40))].mean(axis=1)
    low, high = np.quantile(oracle, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.015)


def test_percentile_difference_brackets_the_delta_and_is_repeatable() -> None:
    baseline, candidate = np.repeat([1.0, 0.0], [298, 726]), np.repeat([1.0, 0.0], [342, 682])
    first, second = (
        percentile_bootstrap_difference(baseline, candidate, rng=np.random.default_rng(0))
        for _ in range(2)
    )
    assert first == second
    assert (first.low, first.high) == pytest.approx((0.003, 0.083), abs=0.0025)


def test_bad_counts_levels_and_values_are_errors() -> None:
    with pytest.raises(DataError, match="5 of 4"):
        clopper_pearson(5, 4)
    with pytest.raises(DataError, match="total >= 1"):
        wilson(0, 0)
    with pytest.raises(ConfigError, match="alpha"):
        paired_t([1.0, 2.0], alpha=1.0)
    with pytest.raises(DataError, match="nan"):
        hodges_lehmann([math.nan])
    with pytest.raises(DataError, match="at least 2"):
        paired_t([1.0])
