"""Sign flips and shuffles: against enumeration by hand, scipy, and their own duality."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cupel.errors import ConfigError, DataError
from cupel.stats.permutation import (
    attainable_size,
    pooled_permutation,
    pooled_permutation_counts,
    sign_flip,
    sign_flip_floor,
    sign_flip_p_values,
    smallest_n,
    wilcoxon_signed_rank,
)

DIFFERENCES = st.lists(st.integers(-20, 20).map(lambda k: k / 8), min_size=1, max_size=9)


def brute_p(d: np.ndarray, shift: float = 0.0) -> float:
    """Count every sign pattern, one by one."""
    moved = d - shift
    tolerance = 1e-12 * np.abs(d).sum()
    reached = [
        abs(np.dot(signs, moved)) >= abs(moved.sum()) - tolerance
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    return float(np.mean(reached))


@given(DIFFERENCES)
def test_p_equals_brute_force_enumeration(d: list[float]) -> None:
    assert sign_flip(d).p == pytest.approx(brute_p(np.array(d)), abs=1e-12)


def test_p_equals_scipy_exact_on_random_small_tables() -> None:
    rng = np.random.default_rng(11)
    for _ in range(200):
        d = rng.integers(-6, 7, size=rng.integers(2, 8)) / 10
        oracle = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert sign_flip(d).p == pytest.approx(oracle.pvalue, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=6, max_size=8))
def test_interval_equals_brute_force_inversion(d: list[float]) -> None:
    values = np.array(d)
    interval = sign_flip(values).interval
    inside, outside = [], []
    for shift in np.linspace(values.min() - 0.5, values.max() + 0.5, 41):
        kept = brute_p(values, shift) >= 0.05
        (inside if kept else outside).append(shift)
    assert all(interval.low - 1e-9 <= s <= interval.high + 1e-9 for s in inside)
    assert all(not interval.low + 1e-9 < s < interval.high - 1e-9 for s in outside)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10), st.sampled_from([0.05, 0.0625, 0.2]))
def test_zero_is_outside_exactly_when_p_is_below_alpha(d: list[float], alpha: float) -> None:
    result = sign_flip(d, alpha=alpha)
    assert (result.p < alpha) == (not result.interval.contains(0.0))


@given(DIFFERENCES, st.randoms(use_true_random=False))
def test_seed_order_changes_no_byte_and_swapping_arms_mirrors(d: list[float], random) -> None:
    shuffled = d[:]
    random.shuffle(shuffled)
    assert repr(sign_flip(shuffled)) == repr(sign_flip(d))
    forth, back = sign_flip(d), sign_flip([-x for x in d])
    assert back.p == forth.p
    assert back.mean == -forth.mean
    assert back.interval.low == pytest.approx(-forth.interval.high, abs=1e-12)


@given(DIFFERENCES)
def test_scaling_leaves_p_alone(d: list[float]) -> None:
    assert sign_flip([1024 * x for x in d]).p == sign_flip(d).p


def test_floor_size_and_smallest_n() -> None:
    assert [sign_flip_floor(n) for n in (0, 1, 3, 5, 6)] == [1, 1, 0.25, 0.0625, 0.03125]
    sizes = [round(attainable_size(n), 3) for n in (5, 6, 7, 8, 9, 10)]
    assert sizes == [0, 0.031, 0.047, 0.047, 0.047, 0.049]
    assert smallest_n() == 6
    assert smallest_n(0.0125) == 8


@pytest.mark.parametrize(
    ("n", "coverage"), [(5, 1.0), (6, 0.969), (7, 0.953), (8, 0.953), (10, 0.951), (16, 0.95)]
)
def test_interval_states_its_exact_coverage(n: int, coverage: float) -> None:
    interval = sign_flip(np.arange(1.0, n + 1)).interval
    assert interval.coverage == pytest.approx(coverage, abs=5e-4)
    assert interval.is_bounded == (n >= 6)


def test_all_signs_alike_reaches_the_floor() -> None:
    result = sign_flip(np.linspace(0.1, 0.8, 8))
    assert result.p == result.floor == 2 / 256
    assert result.patterns == 256
    assert result.p_interval is None


def test_twenty_pairs_are_enumerated_and_more_need_a_generator() -> None:
    rng = np.random.default_rng(3)
    d = rng.normal(0.3, 1, 24)
    assert sign_flip(d[:20]).method == "exact_sign_flip"
    with pytest.raises(ConfigError, match="24 pairs are too many"):
        sign_flip(d)
    result = sign_flip(d, rng=np.random.default_rng(1))
    assert result.method == "monte_carlo_sign_flip"
    assert result.p_interval is not None
    assert result.p_interval.contains(result.p)
    assert result.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.03)
    assert (result.p < 0.05) == (not result.interval.contains(0.0))
    assert repr(sign_flip(d, rng=np.random.default_rng(1))) == repr(result)


def test_random_flips_never_claim_p_zero() -> None:
    result = sign_flip(np.ones(30), rng=np.random.default_rng(0))
    assert result.p == 1 / result.patterns


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_is_an_error_never_a_p_value(bad: float) -> None:
    with pytest.raises(DataError, match="index 1"):
        sign_flip([0.1, bad, 0.2])
    with pytest.raises(DataError, match="index 0"):
        pooled_permutation([bad], [1.0], rng=np.random.default_rng(0))


def test_no_differences_and_wrong_shapes_are_errors() -> None:
    with pytest.raises(DataError, match="at least 1"):
        sign_flip([])
    with pytest.raises(DataError, match="shape"):
        sign_flip(np.ones((2, 2)))
    with pytest.raises(DataError, match="not all numbers"):
        sign_flip([0.1, "x"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="alpha"):
        sign_flip([0.1], alpha=0)


def test_vectorised_p_values_equal_the_single_ones() -> None:
    d = np.random.default_rng(5).normal(size=(50, 7))
    assert sign_flip_p_values(d).tolist() == [sign_flip(row).p for row in d]


def test_wilcoxon_equals_scipy_without_ties() -> None:
    d = np.array([0.3, -0.1, 0.7, 0.2, 0.9, -0.4, 1.3])
    assert wilcoxon_signed_rank(d) == pytest.approx(stats.wilcoxon(d, method="exact").pvalue)
    assert wilcoxon_signed_rank([0.0, 0.0]) is None


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_pooled_counts_equal_every_relabelling(n_b: int, n_c: int, data) -> None:
    k_b, k_c = data.draw(st.integers(0, n_b)), data.draw(st.integers(0, n_c))
    total, successes = n_b + n_c, k_b + k_c
    observed = abs(k_c * n_b - k_b * n_c)
    ways = sum(
        math.comb(successes, x) * math.comb(total - successes, n_c - x)
        for x in range(max(0, n_c - (total - successes)), min(successes, n_c) + 1)
        if abs(x * n_b - (successes - x) * n_c) >= observed
    )
    assert pooled_permutation_counts((k_b, n_b), (k_c, n_c)) == pytest.approx(
        ways / math.comb(total, n_c), abs=1e-12
    )


def test_shuffling_counts_and_shuffling_values_agree_with_the_exact_law() -> None:
    rng = np.random.default_rng(0)
    baseline = np.repeat([1.0, 0.0], [30, 98])
    candidate = np.repeat([1.0, 0.0], [44, 84])
    exact = pooled_permutation_counts((30, 128), (44, 128))
    by_counts = pooled_permutation(baseline, candidate, rng=rng)
    jitter = rng.uniform(0, 1e-6, size=(2, 128))
    by_values = pooled_permutation(
        baseline + jitter[0], candidate + jitter[1], rng=rng, resamples=4000
    )
    assert by_counts == pytest.approx(exact, abs=0.006)
    assert by_values == pytest.approx(exact, abs=0.02)
