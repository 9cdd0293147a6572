"""Tallied samples say what the same values say one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.stats.effects import cohens_d, icc_oneway
from cupel.stats.intervals import percentile_bootstrap_difference
from cupel.stats.permutation import pooled_permutation
from cupel.stats.tallied import (
    Tallied,
    law_of,
    tallied,
    tallied_bootstrap_difference,
    tallied_cohens_d,
    tallied_icc,
    tallied_permutation,
)

samples = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.1]), min_size=2, max_size=60)


def of(values: list[float]) -> Tallied:
    return tallied(values, np.ones(len(values), dtype=np.int64))


@given(samples, samples)
def test_effects_equal_those_of_single_values(b: list[float], c: list[float]) -> None:
    assert of(b).mean == pytest.approx(np.mean(b))
    assert of(b).squares == pytest.approx(np.var(b) * len(b), abs=1e-12)
    expected = cohens_d(b, c)
    found = tallied_cohens_d(of(b), of(c))
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(expected)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 0.3]), st.integers(0, 5)), min_size=2))
def test_the_icc_equals_that_of_single_values(rows: list[tuple[float, int]]) -> None:
    values, groups = np.array([v for v, _ in rows]), np.array([g for _, g in rows])
    cells, place = np.unique(np.stack([values, groups]), axis=1, return_inverse=True)
    found = tallied_icc(cells[0], np.bincount(place.ravel()), cells[1].astype(np.int64))
    expected = icc_oneway(values, groups)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_same_generator_gives_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    b, c = rng.choice([0.0, 0.1, 1.0], 300).tolist(), rng.choice([0.0, 0.1, 1.0], 200).tolist()
    one = tallied_bootstrap_difference(of(b), of(c), rng=np.random.default_rng(1))
    other = percentile_bootstrap_difference(b, c, rng=np.random.default_rng(1))
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-12)
    p = tallied_permutation(of(b), of(c), rng=np.random.default_rng(2))
    assert p == pooled_permutation(b, c, rng=np.random.default_rng(2))


def test_the_normal_limit_is_the_law_of_many_distinct_values() -> None:
    rng = np.random.default_rng(3)
    b, c = rng.normal(0.0, 1.0, 3000), rng.normal(0.05, 1.0, 3000)
    few, many = 1000, 200_000
    assert law_of(of(b), of(c), few) == "drawn"
    assert law_of(of(b), of(c), many) == "normal_limit"
    drawn = tallied_permutation(of(b), of(c), rng=np.random.default_rng(4), resamples=few)
    limit = tallied_permutation(of(b), of(c), rng=np.random.default_rng(4), resamples=many)
    assert limit == pytest.approx(drawn, abs=4 * np.sqrt(limit / few))
    one = tallied_bootstrap_difference(of(b), of(c), rng=np.random.default_rng(5), resamples=few)
    other = tallied_bootstrap_difference(of(b), of(c), rng=np.random.default_rng(5), resamples=many)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.01)


def test_many_distinct_values_are_shuffled_one_by_one() -> None:
    rng = np.random.default_rng(6)
    b, c = rng.normal(size=200), rng.normal(size=200)
    p = tallied_permutation(of(b), of(c), rng=np.random.default_rng(7), resamples=500)
    ordered = pooled_permutation(
        np.sort(b), np.sort(c), rng=np.random.default_rng(7), resamples=500
    )
    assert p == ordered


@pytest.mark.parametrize(
    ("values", "counts"), [([], []), ([1.0], [0]), ([1.0, 2.0], [1]), ([np.nan], [1])]
)
def test_what_is_no_sample_is_refused(values: list[float], counts: list[int]) -> None:
    with pytest.raises(DataError):
        tallied(values, np.array(counts, dtype=np.int64))
