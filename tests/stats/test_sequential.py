"""Looks: constants from the joint law, p-values that fit the boundaries, stages that combine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cupel.errors import ConfigError
from cupel.stats.permutation import sign_flip
from cupel.stats.sequential import (
    combine_p,
    e_process,
    inverse_normal,
    plan_looks,
    repeated_p,
    stagewise_p,
)

SPENDINGS = ("pocock", "obrien_fleming")


@pytest.mark.parametrize("spending", SPENDINGS)
@pytest.mark.parametrize("sizes", [(8, 16), (6, 20), (10, 12)])
def test_two_looks_spend_alpha_under_the_bivariate_normal(sizes, spending) -> None:
    looks = plan_looks(sizes, spending=spending)
    rho = math.sqrt(sizes[0] / sizes[1])
    law = stats.multivariate_normal(np.zeros(2), [[1, rho], [rho, 1]])
    c = np.array(looks.critical)
    inside = sum(
        sign * law.cdf(corner)
        for sign, corner in (
            (1, c),
            (-1, [-c[0], c[1]]),
            (-1, [c[0], -c[1]]),
            (1, -c),
        )
    )
    assert 1 - inside == pytest.approx(0.05, abs=2e-5)


@pytest.mark.parametrize("spending", SPENDINGS)
def test_many_looks_spend_alpha_in_simulation(spending) -> None:
    rng = np.random.default_rng(31)
    looks = plan_looks([4, 7, 12, 20], spending=spending)
    sums = rng.normal(size=(200_000, 20)).cumsum(axis=1)
    z = np.stack([sums[:, n - 1] / math.sqrt(n) for n in looks.sizes], axis=1)
    crossed = np.any(np.abs(z) >= looks.critical, axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=3.29 * math.sqrt(0.05 * 0.95 / 200_000))


def test_one_look_is_the_plain_test() -> None:
    looks = plan_looks([8])
    assert looks.alpha_at[0] == pytest.approx(0.05)
    assert repeated_p(looks, 0, 0.03) == pytest.approx(0.03)
    assert stagewise_p(looks, 0, 0.03) == 0.03


@given(
    st.sampled_from(SPENDINGS),
    st.integers(0, 2),
    st.floats(1e-6, 1.0),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_adjusted_p_is_below_alpha_exactly_where_the_boundary_is_crossed(
    spending, look, p, alpha
) -> None:
    looks = plan_looks([6, 8, 16], spending=spending, alpha=alpha)
    crossed = p < looks.alpha_at[look]
    if abs(p - looks.alpha_at[look]) > 1e-9:
        assert (repeated_p(looks, look, p) < alpha) == crossed
        if look == 2:
            assert (stagewise_p(looks, look, p) < alpha) == crossed
    assert stagewise_p(looks, look, p) >= p - 1e-12
    assert repeated_p(looks, look, p) >= p - 1e-12


def test_stopping_later_is_never_more_extreme_than_the_first_boundary() -> None:
    looks = plan_looks([8, 16])
    assert stagewise_p(looks, 1, 1e-9) == pytest.approx(looks.alpha_at[0], abs=1e-7)
    assert stagewise_p(looks, 1, looks.alpha_at[1]) == pytest.approx(0.05)


def test_combination_of_stages_is_stouffers() -> None:
    p = [0.03, 0.2, 0.5]
    weights = [math.sqrt(w / 30) for w in (8, 10, 12)]
    oracle = stats.combine_pvalues(p, method="stouffer", weights=weights).pvalue
    assert combine_p(p, weights) == pytest.approx(oracle, abs=1e-14)
    assert combine_p([0.001, 1.0], [0.6, 0.8]) == 1.0


def test_combined_interval_and_p_say_the_same() -> None:
    rng = np.random.default_rng(32)
    for _ in range(20):
        stages = [rng.normal(0.5, 1, 8), rng.normal(0.5, 1, 6)]
        found = inverse_normal(stages, [8, 8], level=0.05)
        assert found.interval.contains(0.0) == (found.p >= 0.05)
        mirrored = inverse_normal([-stage for stage in stages], [8, 8], level=0.05)
        assert mirrored.p == pytest.approx(found.p)
        assert mirrored.interval.low == pytest.approx(-found.interval.high)


def test_one_stage_alone_is_the_sign_flip() -> None:
    d = np.random.default_rng(33).normal(0.6, 1, 9)
    assert inverse_normal([d], [9], level=0.05).p == pytest.approx(sign_flip(d).p)


def test_e_process_starts_near_one_and_grows_with_evidence() -> None:
    assert e_process([0.0, 0.0], clip=1.0).tolist() == [1.0, 1.0]
    grown = e_process([1.0] * 20, clip=1.0)
    assert grown[-1] == pytest.approx((1.5**20 + 0.5**20) / 2)
    assert np.all(np.diff(grown) > 0)
    assert e_process([1e9], clip=1.0)[0] == 1.0


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_e_process_averages_to_one_over_all_sign_flips(d) -> None:
    codes = range(2 ** len(d))
    flips = [[x if code >> i & 1 else -x for i, x in enumerate(d)] for code in codes]
    mean = np.mean([e_process(flip, clip=2.0)[-1] for flip in flips])
    assert mean == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_looks([16, 8]), "ascending"),
        (lambda: plan_looks([]), "ascending"),
        (lambda: plan_looks([8, 16], spending="pocok"), "did you mean 'pocock'"),
        (lambda: repeated_p(plan_looks([8, 16]), 2, 0.1), "there are 2 looks"),
        (lambda: stagewise_p(plan_looks([8, 16]), 0, 0.0), "must lie in"),
        (lambda: inverse_normal([[1.0]], [8, 8], level=0.05), "give one size"),
        (lambda: e_process([1.0], clip=0.0), "positive and finite"),
        (lambda: e_process([1.0], clip=1.0, bet=1.0), "strictly between"),
    ],
)
def test_bad_plans_are_refused(call, message) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
