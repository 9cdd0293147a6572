"""Two one-sided tests against statsmodels, the interval they are dual to, and their edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cupel.errors import ConfigError, DataError
from cupel.stats.equivalence import non_inferiority, tost_paired
from cupel.stats.intervals import paired_t


@pytest.mark.parametrize("seed", range(20))
def test_p_equals_statsmodels(seed: int) -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    d = np.random.default_rng(seed).normal(0.1, 1.0, 9)
    p, _, _ = weightstats.ttost_paired(d, np.zeros(9), -0.8, 0.8)
    assert tost_paired(d, margin=0.8).p == pytest.approx(p, rel=1e-10)


@pytest.mark.parametrize("seed", range(50))
def test_equivalent_exactly_when_the_90_percent_interval_lies_inside(seed: int) -> None:
    d = np.random.default_rng(seed).normal(0.0, 1.0, 8)
    interval = paired_t(d, alpha=0.1).interval
    assert interval is not None
    p = tost_paired(d, margin=0.7).p
    assert p is not None
    assert (p < 0.05) == (interval.low > -0.7 and interval.high < 0.7)


def test_values_without_variation_give_no_p() -> None:
    assert tost_paired([0.1, 0.1, 0.1], margin=1.0).p is None


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="margin = 0"):
        tost_paired([0.1, 0.2], margin=0.0)
    with pytest.raises(DataError, match="at least 2"):
        tost_paired([0.1], margin=1.0)
    with pytest.raises(DataError):
        tost_paired([0.1, float("nan")], margin=1.0)


@given(st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=12, unique=True))
def test_not_inferior_exactly_where_the_bound_clears_the_margin(d: list[float]) -> None:
    found = non_inferiority(d, margin=0.05)
    if found.p is None or found.lower_bound is None:
        return
    assert (found.p < 0.05) == (found.lower_bound > -0.05)
    oracle = stats.ttest_1samp(d, -0.05, alternative="greater").pvalue
    assert found.p == pytest.approx(oracle, abs=1e-9)


def test_exact_non_inferiority_counts_sign_patterns() -> None:
    found = non_inferiority([0.01, 0.02, -0.01, 0.03, 0.0, 0.01], margin=0.05)
    assert found.p_exact == 1 / 64
    assert non_inferiority([-0.1] * 6, margin=0.05).p_exact == 1.0
    with pytest.raises(ConfigError, match="must be finite"):
        non_inferiority([0.1, 0.2], margin=float("inf"))
