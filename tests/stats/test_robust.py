"""Robust summaries against scipy, and their bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cupel.stats.intervals import clopper_pearson
from cupel.stats.robust import iqm, performance_profile

VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=30)


@given(VALUES)
def test_iqm_is_the_quarter_trimmed_mean(values) -> None:
    assert iqm(values).value == pytest.approx(stats.trim_mean(values, 0.25), abs=1e-12)
    assert iqm(values[::-1]) == iqm(values)


def test_one_wild_seed_moves_the_mean_and_not_the_iqm() -> None:
    values = [0.30, 0.31, 0.29, 0.33, 0.30, 0.32, 0.31, 0.30]
    wild = [*values[:-1], -9.0]
    assert abs(iqm(wild).value - iqm(values).value) < 0.01
    assert iqm(wild).kept == 4


def test_trimmed_interval_covers_under_heavy_tails() -> None:
    rng = np.random.default_rng(51)
    found = [iqm(row).interval for row in rng.standard_t(3, size=(2_000, 16))]
    covered = np.mean([one is not None and one.contains(0.0) for one in found])
    assert covered == pytest.approx(0.95, abs=0.02)
    assert iqm([1.0, 2.0, 3.0]).interval is None
    assert iqm([1.0] * 8).interval is None


def test_profile_counts_seeds_and_bounds_each_share() -> None:
    found = performance_profile([0.2, 0.4, 0.4, 0.9], [0.0, 0.4, 1.0])
    assert found.share_T.tolist() == [1.0, 0.25, 0.0]
    exact = clopper_pearson(1, 4)
    assert (found.low_T[1], found.high_T[1]) == pytest.approx((exact.low, exact.high))
    assert (found.high_T[0], found.low_T[2]) == (1.0, 0.0)
    assert found.band == pytest.approx(np.sqrt(np.log(40) / 8))


@given(VALUES)
def test_profile_never_rises(values) -> None:
    assert np.all(np.diff(performance_profile(values, np.linspace(-5, 5, 11)).share_T) <= 0)
