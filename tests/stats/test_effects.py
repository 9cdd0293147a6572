"""Effects, proportions, multiplicity: oracles and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cupel.errors import DataError
from cupel.stats.effects import (
    cohens_d,
    cohens_d_of_counts,
    correlation,
    d_z,
    design_effect,
    hedges_correction,
    icc_oneway,
    probability_of_improvement,
)
from cupel.stats.multiplicity import benjamini_hochberg, holm, holm_capacity
from cupel.stats.proportions import fisher_exact, mcnemar_exact

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(P_VALUES)
def test_adjusted_p_values_equal_statsmodels(p: list[float]) -> None:
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-12)


def test_adjusting_refuses_what_is_no_p_value() -> None:
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        holm([0.1, 1.2])
    with pytest.raises(DataError, match="nan"):
        benjamini_hochberg([math.nan])


def test_family_capacity() -> None:
    assert [holm_capacity(n) for n in (5, 6, 7, 8, 9, 10)] == [0, 1, 3, 6, 12, 25]


def test_d_z_and_hedges() -> None:
    assert d_z([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert d_z([1.0, 1.0]) is None
    assert hedges_correction(7) == pytest.approx(1 - 3 / 27)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_cohens_d_of_counts_equals_cohens_d(n_b: int, n_c: int, data) -> None:
    k_b, k_c = data.draw(st.integers(0, n_b)), data.draw(st.integers(0, n_c))
    if min(n_b, n_c) < 2:
        return
    by_values = cohens_d(np.arange(n_b) < k_b, np.arange(n_c) < k_c)
    by_counts = cohens_d_of_counts((k_b, n_b), (k_c, n_c))
    assert (by_values is None) == (by_counts is None)
    if by_values is not None:
        assert by_values == pytest.approx(by_counts, abs=1e-9)


def test_ties_count_against_improvement() -> None:
    result = probability_of_improvement([0.1, 0.0, -0.1, 0.3])
    assert (result.k, result.n) == (2, 4)
    assert result.interval.contains(0.5)


def test_icc_is_one_zero_or_negative_where_it_must_be() -> None:
    groups = np.repeat(np.arange(10), 8)
    assert icc_oneway(np.repeat(np.arange(10.0), 8), groups) == pytest.approx(1.0)
    assert icc_oneway(np.tile([0.0, 1.0], 40), groups) == pytest.approx(-1 / 7)
    noise = np.random.default_rng(0).normal(size=80_000)
    assert icc_oneway(noise, np.repeat(np.arange(10_000), 8)) == pytest.approx(0, abs=0.01)
    assert icc_oneway([1.0, 2.0], np.array([0, 0])) is None


def test_icc_recovers_a_known_share_with_unequal_groups() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(2, 12, size=4000)
    groups = np.repeat(np.arange(4000), sizes)
    values = rng.normal(size=4000)[groups] + rng.normal(scale=2.0, size=len(groups))
    assert icc_oneway(values, groups) == pytest.approx(0.2, abs=0.02)


def test_design_effect_is_one_for_independent_trials() -> None:
    rng = np.random.default_rng(2)
    rates = rng.binomial(500, 0.3, size=(2, 4000)) / 500
    independent = 2 * 0.3 * 0.7 / (500 * 4000)
    assert design_effect(rates[1] - rates[0], independent_variance=independent) == pytest.approx(
        1.0, abs=0.1
    )
    assert design_effect([0.1, 0.2], independent_variance=0.0) is None


def test_correlation_equals_scipy_and_has_no_value_without_variation() -> None:
    b, c = [0.1, 0.3, 0.2, 0.5], [0.2, 0.3, 0.1, 0.9]
    assert correlation(b, c) == pytest.approx(stats.pearsonr(b, c).statistic)
    assert correlation(b, [0.1] * 4) is None
    with pytest.raises(DataError, match="do not pair"):
        correlation(b, c[:3])


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_fisher_is_symmetric_in_the_arms(n_b: int, n_c: int, data) -> None:
    k_b, k_c = data.draw(st.integers(0, n_b)), data.draw(st.integers(0, n_c))
    forth, back = fisher_exact((k_b, n_b), (k_c, n_c)), fisher_exact((k_c, n_c), (k_b, n_b))
    assert forth.p == pytest.approx(back.p, abs=1e-9)
    assert 0 < forth.p <= 1


def test_mcnemar_is_the_binomial_on_discordant_pairs() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(1, 7) == pytest.approx(2 * (1 + 8) / 256)
