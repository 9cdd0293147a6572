"""Promises: ties share their places, a ceiling is what a perfect predictor reaches, and random is
random."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from cupel.errors import DataError
from cupel.teach.prediction.metrics import (
    clustered_difference,
    rankings,
    score_classes,
    score_regression,
    score_top,
    top_shares,
)
from cupel.teach.prediction.noise_ceiling import noise_ceiling


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_regression_scores_are_those_of_scikit_learn() -> None:
    label, said = rng().normal(size=50), rng(1).normal(size=50)
    score = score_regression(label, said)
    assert score.r2 == pytest.approx(reference.r2_score(label, said))
    assert score.mae == pytest.approx(reference.mean_absolute_error(label, said))
    assert score.mse == pytest.approx(reference.mean_squared_error(label, said))
    assert score.correlation == pytest.approx(np.corrcoef(label, said)[0, 1])
    assert score.spearman_interval is not None
    assert score.spearman_interval.contains(score.spearman)


def test_labels_that_do_not_vary_have_no_r2() -> None:
    score = score_regression(np.ones(5), rng().normal(size=5))
    assert (score.r2, score.correlation, score.spearman) == (None, None, None)


def test_a_missing_label_is_not_scored_as_something_else() -> None:
    with pytest.raises(DataError, match="finite"):
        score_regression(np.array([1.0, np.nan, 2.0]), np.ones(3))


@settings(max_examples=60, deadline=None)
@given(scores=st.lists(st.integers(0, 4), min_size=2, max_size=30), data=st.data())
def test_top_shares_are_the_mean_over_random_tie_breaks(
    scores: list[int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(scores)))
    values = np.array(scores, dtype=float)
    shares = top_shares(values, k)
    assert shares.sum() == pytest.approx(k)
    assert np.all((shares >= 0) & (shares <= 1))
    generator, drawn = rng(k), np.zeros(len(scores))
    for _ in range(400):
        order = np.lexsort((generator.random(len(values)), -values))
        drawn[order[:k]] += 1 / 400
    assert np.allclose(shares, drawn, atol=0.15)


def test_the_order_of_rows_decides_nothing_among_ties() -> None:
    label = np.array([1.0, 0.0, 0.0, 1.0, -1.0, 0.5])
    flat = np.zeros(6)
    forward, backward = score_top(label, flat, 2), score_top(label[::-1], flat, 2)
    assert forward == backward
    assert forward.precision_pos == pytest.approx(forward.base_rate) == pytest.approx(0.5)


def test_k_is_lowered_where_everything_would_be_the_top_and_says_so() -> None:
    label = rng().normal(size=30)
    score = score_top(label, label, 50)
    assert (score.k, score.k_used) == (50, 15)
    assert (score.overlap, score.ndcg) == (1.0, pytest.approx(1.0))


def test_random_is_the_mean_of_shuffles() -> None:
    label = rng().normal(size=200) + 0.3
    scored = rankings(label, {"truth": label}, rng=rng(5))
    top = scored["random"][50]
    assert top.precision_pos == pytest.approx((label > 0).mean(), abs=0.02)
    assert top.overlap == pytest.approx(50 / 200, abs=0.02)
    assert scored["truth"][10].ndcg == pytest.approx(1.0)


def test_a_ranking_of_other_items_is_refused() -> None:
    with pytest.raises(DataError, match="ranking 'short'"):
        rankings(np.ones(4), {"short": np.ones(3)}, rng=rng())


def test_classes_are_counted_with_their_support() -> None:
    score = score_classes(
        np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 2, 0]), ("a", "b", "c", "d")
    )
    assert score.accuracy == pytest.approx(0.6)
    assert score.majority == pytest.approx(0.4)
    assert score.per_class["a"] == (0.5, 2)
    assert score.per_class["d"] == (None, 0)
    assert score.balanced == pytest.approx((0.5 + 1.0 + 0.5) / 3)
    assert score.confusion == ((1, 1, 0, 0), (0, 1, 0, 0), (1, 0, 1, 0), (0, 0, 0, 0))


def test_the_difference_of_rankings_has_an_interval_over_tasks() -> None:
    label = np.clip(rng().normal(size=240), 0, None)
    noise = rng(1).normal(size=240)
    tasks = np.repeat(np.arange(60), 4)
    found = clustered_difference(label, label, noise, tasks, k=20, rng=rng(2), draws=200)
    assert found["ndcg"] is not None
    assert found["ndcg"].low > 0.1
    same = clustered_difference(label, noise, noise, tasks, k=20, rng=rng(2), draws=50)
    assert same["ndcg"] is not None
    assert (same["ndcg"].low, same["ndcg"].high) == (0.0, 0.0)


@pytest.mark.parametrize("n", [7, 32])
def test_a_perfect_predictor_of_sampled_labels_scores_its_ceiling(n: int) -> None:
    """The truth itself, scored against binomial labels, has the R2 and rank the ceiling tells."""
    generator, r2, rho, told_r2, told_rho = rng(3), [], [], [], []
    for _ in range(40):
        truth = generator.beta(2.0, 2.0, size=300)
        label = generator.binomial(n, truth) / n
        noise = label * (1 - label) / max(1, n - 1)  # unbiased variance of a proportion
        ceiling = noise_ceiling(label, noise, rng=generator, draws=20)
        score = score_regression(label, truth)
        r2.append(score.r2)
        rho.append(score.spearman)
        told_r2.append(ceiling.r2)
        told_rho.append(ceiling.spearman)
    assert np.mean(told_r2) == pytest.approx(np.mean(r2), abs=0.03)
    assert np.mean(told_rho) == pytest.approx(np.mean(rho), abs=0.05)
    assert np.mean(told_r2) < 0.9


def test_exact_labels_have_no_ceiling_below_one() -> None:
    ceiling = noise_ceiling(rng().normal(size=30), np.zeros(30), rng=rng(), ks=(10,))
    assert (ceiling.r2, ceiling.spearman, ceiling.ndcg) == (1.0, 1.0, {10: 1.0})
    assert ceiling.exact


def test_labels_that_are_noise_alone_have_a_ceiling_of_nothing() -> None:
    ceiling = noise_ceiling(rng().normal(size=200), np.ones(200) * 2, rng=rng())
    assert ceiling.r2 == 0.0
    assert ceiling.spearman == 0.0
