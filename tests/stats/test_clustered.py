"""Clustered errors against statsmodels, and what they reduce to."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.stats.clustered import clustered_mean, two_way
from cupel.stats.intervals import paired_t


def test_clustered_error_equals_the_sandwich_of_a_library() -> None:
    rng = np.random.default_rng(41)
    clusters = rng.integers(0, 12, size=200)
    values = rng.normal(size=12)[clusters] + rng.normal(size=200)
    fit = sm.OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    ours = clustered_mean(values, clusters)
    assert ours.error == pytest.approx(float(fit.bse[0]), rel=1e-12)
    assert ours.clusters == 12
    assert ours.error > ours.independent_error


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30, unique=True))
def test_one_value_a_cluster_is_the_plain_t(values) -> None:
    ours, plain = clustered_mean(values, np.arange(len(values))), paired_t(values)
    if plain.interval is None or ours.interval is None:
        return
    assert ours.interval.low == pytest.approx(plain.interval.low, abs=1e-9)
    assert ours.p == pytest.approx(plain.p, abs=1e-9)


def test_two_way_variance_equals_the_sum_of_three_sandwiches() -> None:
    rng = np.random.default_rng(42)
    table = rng.normal(size=(6, 1)) + rng.normal(size=(1, 9)) + rng.normal(size=(6, 9))
    found = two_way(table)
    row, column = np.indices(table.shape)
    error = [
        clustered_mean(table.ravel(), groups.ravel()).error ** 2
        for groups in (row, column, np.arange(54).reshape(6, 9))
    ]
    assert found.by_rows == pytest.approx(error[0])
    assert found.by_columns == pytest.approx(error[1])
    assert found.variance == pytest.approx(error[0] + error[1] - error[2])
    assert not found.floored


@given(st.integers(0, 10_000))
def test_two_way_is_never_under_its_parts_and_forgets_order(seed) -> None:
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(4, 5))
    found, shuffled = two_way(table), two_way(table[rng.permutation(4)][:, rng.permutation(5)])
    assert found.variance >= max(found.by_rows, found.by_columns)
    assert shuffled.variance == pytest.approx(found.variance)
    assert found.interval is not None
    assert found.interval.contains(0.0) == (found.p >= 0.05)
    assert found.df >= 1 / (1 / 3 + 1 / 4)


def test_without_variation_there_is_no_interval() -> None:
    assert two_way(np.full((3, 3), 0.2)).interval is None
    assert clustered_mean([0.2, 0.2], np.array([0, 1])).p is None


def test_too_little_to_estimate_an_error_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 rows"):
        two_way(np.zeros((1, 4)))
    with pytest.raises(DataError, match="at least 2 clusters"):
        clustered_mean([1.0, 2.0], np.array([7, 7]))
    with pytest.raises(DataError, match="2 values and 3 labels"):
        clustered_mean([1.0, 2.0], np.array([7, 7, 8]))
    with pytest.raises(DataError, match="nan"):
        two_way(np.array([[0.1, np.nan], [0.2, 0.3]]))
