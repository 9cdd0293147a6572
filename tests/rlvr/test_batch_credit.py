"""Credit over a whole batch: GTPO as published and the entropy mask, against loops and by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cupel.errors import ConfigError, DataError
from cupel.rlvr.batch_credit import (
    entropy_masked,
    entropy_threshold,
    gtpo_paper_weights,
    standardised_by_outcome,
)

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Groups of completions of random lengths; padding holds junk."""

    h_NT: Float
    mask_NT: NDArray[np.bool_]
    advantages_N: Float
    group_size: int


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, group_size = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    width = draw(st.integers(1, 7))
    rows = groups * group_size
    mask_NT = np.arange(width) < rng.integers(1, width + 1, rows)[:, None]
    h_NT = rng.gamma(0.7, 1.0, (rows, width)) + 1e-3
    return Batch(
        h_NT=np.where(mask_NT, h_NT, rng.choice([np.nan, 1e9, 0.0], (rows, width))),
        mask_NT=mask_NT,
        advantages_N=rng.normal(size=rows) * rng.integers(0, 2, rows),
        group_size=group_size,
    )


def weights(batch: Batch, beta: float) -> Float:
    return gtpo_paper_weights(
        batch.advantages_N,
        batch.h_NT,
        batch.mask_NT,
        group_size=batch.group_size,
        beta=beta,
    )


def test_gtpo_of_the_paper_by_hand() -> None:
    """Eq. 3 and 5, beta 1/2; two successes, two failures, the second of each one token long.

    Success at t = 0: H = 3, 1, so shares 3/4 and 1/4 of d = 2 give 1.5 and 0.5, w 1.25 and 0.75.
    Failure at t = 0: 1/H = 1/2, 1/6, so shares 3/4 and 1/4 again, the surer token first.
    At t = 1 one of each set is left, and its weight is 1.
    """
    h_NT = np.array([[3.0, 9.0], [1.0, 0.0], [2.0, 5.0], [6.0, 0.0]])
    mask_NT = np.array([[1, 1], [1, 0], [1, 1], [1, 0]], bool)
    advantages_N = np.array([0.5, 0.5, -0.5, -0.5])
    found = gtpo_paper_weights(advantages_N, h_NT, mask_NT, group_size=4, beta=0.5)
    np.testing.assert_allclose(found, [[1.25, 1.0], [0.75, 0.0], [1.25, 1.0], [0.75, 0.0]])


@given(batches(), st.sampled_from([0.0, 0.1, 1.0]))
def test_gtpo_of_the_paper_equals_the_loop(batch: Batch, beta: float) -> None:
    found, group = weights(batch, beta), batch.group_size
    for n, t in np.ndindex(*batch.mask_NT.shape):
        sign = np.sign(batch.advantages_N[n])
        if not batch.mask_NT[n, t]:
            assert found[n, t] == 0
            continue
        if sign == 0:
            assert found[n, t] == 1
            continue
        peers = [
            k
            for k in range(n // group * group, (n // group + 1) * group)
            if batch.mask_NT[k, t] and np.sign(batch.advantages_N[k]) == sign
        ]
        shares = {k: batch.h_NT[k, t] ** sign for k in peers}
        expected = (1 - beta) + beta * len(peers) * shares[n] / sum(shares.values())
        assert found[n, t] == pytest.approx(expected, rel=1e-9)


@given(batches(), st.floats(0, 1))
def test_every_position_keeps_the_credit_of_its_set(batch: Batch, beta: float) -> None:
    found = weights(batch, beta).reshape(-1, batch.group_size, batch.mask_NT.shape[1])
    alive = batch.mask_NT.reshape(found.shape)
    signs = np.sign(batch.advantages_N).reshape(found.shape[:2])
    for sign in (1, -1):
        in_set = alive & (signs == sign)[..., None]
        np.testing.assert_allclose(
            np.where(in_set, found, 0).sum(axis=1), in_set.sum(axis=1), rtol=1e-9, atol=1e-12
        )


def test_a_surer_token_of_a_failure_gets_more_blame_and_of_a_success_less_credit() -> None:
    h_NT = np.array([[0.1], [2.0], [0.1], [2.0]])
    found = gtpo_paper_weights(
        np.array([1.0, 1.0, -1.0, -1.0]), h_NT, np.ones((4, 1), bool), group_size=4, beta=0.3
    )[:, 0]
    assert found[0] < 1 < found[1]
    assert found[2] > 1 > found[3]


def test_tokens_without_any_entropy_are_weighed_alike() -> None:
    mask_NT = np.ones((3, 2), bool)
    for advantage in (1.0, -1.0):
        found = gtpo_paper_weights(
            np.full(3, advantage), np.zeros((3, 2)), mask_NT, group_size=3, beta=0.5
        )
        np.testing.assert_allclose(found, 1.0)


def test_the_papers_own_normalisation_by_hand() -> None:
    """Eq. 6 on the example above: successes 1.25, 1, 0.75 have mean 1 and deviation 1/sqrt(24)."""
    mask_NT = np.array([[1, 1], [1, 0], [1, 1], [1, 0]], bool)
    advantages_N = np.array([0.5, 0.5, -0.5, -0.5])
    shaped = np.array([[1.25, 1.0], [0.75, 0.0], [1.25, 1.0], [0.75, 0.0]])
    found = standardised_by_outcome(advantages_N, shaped, mask_NT, group_size=4)
    high = 1.5**0.5
    np.testing.assert_allclose(
        found, [[high, 0.0], [-high, 0.0], [-high, 0.0], [high, 0.0]], atol=1e-12
    )


@given(batches())
def test_the_papers_own_normalisation_sums_to_zero_in_each_set(batch: Batch) -> None:
    found = standardised_by_outcome(
        batch.advantages_N, weights(batch, 0.5), batch.mask_NT, group_size=batch.group_size
    )
    assert not found[batch.advantages_N == 0].any()
    assert not found[~batch.mask_NT].any()
    signs = np.sign(batch.advantages_N)
    for start in range(0, len(signs), batch.group_size):
        rows = np.arange(start, start + batch.group_size)
        for sign in (1, -1):
            assert abs(found[rows[signs[rows] == sign]].sum()) < 1e-8


def test_the_entropy_mask_keeps_the_pinned_tokens() -> None:
    """Values of TRL 1.16.0's `get_high_entropy_mask` at top_entropy_quantile 0.4, computed once."""
    h_NT = np.array([[0.314, 0.267, 0.06, 0.012], [0.246, 2.971, 9, 9], [0.232, 0.173, 0.056, 9]])
    mask_NT = np.arange(4) < np.array([4, 2, 3])[:, None]
    threshold = entropy_threshold(h_NT, mask_NT, top_share=0.4)
    found = entropy_masked(np.array([1.1, -0.7, 0.4]), h_NT, mask_NT, threshold=threshold)
    assert found.tolist() == [[1.1, 1.1, 0, 0], [-0.7, -0.7, 0, 0], [0, 0, 0, 0]]


@given(batches(), st.floats(0.01, 1))
def test_the_mask_keeps_about_its_share(batch: Batch, share: float) -> None:
    threshold = entropy_threshold(batch.h_NT, batch.mask_NT, top_share=share)
    kept = entropy_masked(
        np.ones(len(batch.mask_NT)), batch.h_NT, batch.mask_NT, threshold=threshold
    )
    tokens = batch.mask_NT.sum()
    assert share * (tokens - 1) - 1e-9 <= kept.sum() <= share * (tokens - 1) + 1 + 1e-9
    assert not kept[~batch.mask_NT].any()


def test_a_share_of_one_is_no_mask() -> None:
    h_NT, mask_NT = np.array([[0.0, 1.0, 5.0]]), np.array([[True, True, False]])
    threshold = entropy_threshold(h_NT, mask_NT, top_share=1.0)
    assert entropy_masked(np.array([2.0]), h_NT, mask_NT, threshold=threshold).tolist() == [
        [2.0, 2.0, 0.0]
    ]


def test_without_tokens_there_is_no_threshold_and_no_credit() -> None:
    nothing = np.zeros((2, 3), bool)
    assert entropy_threshold(np.ones((2, 3)), nothing, top_share=0.2) is None
    assert not entropy_masked(np.ones(2), np.ones((2, 3)), nothing, threshold=None).any()


def test_what_makes_no_credit_is_refused() -> None:
    ones, mask = np.ones((4, 2)), np.ones((4, 2), bool)
    with pytest.raises(DataError, match="no whole groups of 3"):
        gtpo_paper_weights(np.ones(4), ones, mask, group_size=3, beta=0.1)
    with pytest.raises(DataError, match="values have shape"):
        gtpo_paper_weights(np.ones(3), ones, mask, group_size=4, beta=0.1)
    with pytest.raises(ConfigError, match=r"gtpo_beta = 1\.5"):
        gtpo_paper_weights(np.ones(4), ones, mask, group_size=4, beta=1.5)
    with pytest.raises(ConfigError, match="entropy_top_share = 0"):
        entropy_threshold(ones, mask, top_share=0.0)
