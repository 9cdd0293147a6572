"""Rankings against scipy, enumeration and symmetry."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cupel.errors import DataError
from cupel.stats.ranking import ndcg, rank_probability, spearman


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=20))
def test_spearman_equals_scipy(pairs) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    found = spearman(first, second)
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert found.rho is None
        return
    assert found.rho == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    if found.interval is not None:
        assert found.interval.low < found.rho < found.interval.high


def test_spearman_interval_is_bonett_and_wright() -> None:
    rng = np.random.default_rng(61)
    x = rng.normal(size=50)
    found = spearman(x, x + rng.normal(size=50))
    assert found.rho is not None
    assert found.interval is not None
    error = np.sqrt((1 + found.rho**2 / 2) / 47)
    ends = np.tanh(np.arctanh(found.rho) + np.array([-1, 1]) * 1.959963985 * error)
    assert [found.interval.low, found.interval.high] == pytest.approx(ends.tolist())
    assert spearman([1, 2, 3, 4], [2, 4, 6, 8]).interval is None


def test_spearman_interval_covers() -> None:
    rng = np.random.default_rng(62)
    rho, hits = 0.5, []
    truth = 6 / np.pi * np.arcsin(rho / 2)
    for _ in range(1_000):
        x = rng.normal(size=40)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=40)
        interval = spearman(x, y).interval
        hits.append(interval is not None and interval.contains(truth))
    assert np.mean(hits) == pytest.approx(0.95, abs=0.025)


def test_ndcg_by_hand_and_under_ties() -> None:
    assert ndcg([3, 2, 1], [9, 5, 1]) == pytest.approx(1.0)
    gain = 1 / np.log2(3)
    assert ndcg([0, 1], [2, 1]) == pytest.approx(gain)
    relevance = [3.0, 1.0, 0.0]
    discount = 1 / np.log2([2, 3, 4])
    mean = np.mean([np.array(order) @ discount for order in permutations(relevance)])
    assert ndcg(relevance, [1, 1, 1]) == pytest.approx(mean / (np.array(relevance) @ discount))
    assert ndcg([0, 0], [1, 2]) is None
    assert ndcg([0, 1], [2, 1], k=1) == 0.0
    with pytest.raises(DataError, match="relevance >= 0"):
        ndcg([-1, 1], [2, 1])


def test_rank_probabilities_sum_to_one_both_ways() -> None:
    rng = np.random.default_rng(63)
    found = rank_probability(rng.normal(size=(4, 6)), rng=rng, resamples=1_000)
    assert found.probability_AK.sum(axis=0) == pytest.approx(np.ones(4))
    assert found.probability_AK.sum(axis=1) == pytest.approx(np.ones(4))
    assert found.best in found.within_one_error


def test_equal_arms_share_every_place_and_a_clear_winner_holds_the_first() -> None:
    rng = np.random.default_rng(64)
    base = rng.normal(size=6)
    equal = rank_probability(np.array([base, base]), rng=rng, resamples=200)
    assert equal.probability_AK.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert equal.within_one_error == (0, 1)
    clear = rank_probability(np.array([base, base + 9]), rng=rng, resamples=200)
    assert (clear.best, clear.within_one_error) == (1, (1,))
    lower = rank_probability(
        np.array([base, base + 9]), rng=rng, resamples=200, higher_is_better=False
    )
    assert lower.best == 0
