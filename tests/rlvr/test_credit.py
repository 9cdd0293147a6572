"""Credit: GTPO, HICRA and SEPA against a per-token loop, and the identities they promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cupel.errors import AlgorithmicFailure, ConfigError, DataError
from cupel.rlvr.credit import (
    TRANSFORM_MODES,
    gtpo_weights,
    hicra,
    moments,
    sepa_pool,
    token_advantages,
    uncertainty,
)

Float = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A random batch; `junk` fills the padding."""

    h_NT: Float
    mask_NT: NDArray[np.bool_]
    planning_NT: NDArray[np.bool_]
    advantages_N: Float


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, width = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    lengths_N = rng.integers(1, width + 1, rows)
    mask_NT = np.arange(width) < lengths_N[:, None]
    h_NT = rng.gamma(0.7, 1.0, (rows, width)) * draw(st.sampled_from([1.0, 1e-9, 40.0]))
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Batch(
        h_NT=np.where(mask_NT, h_NT, rng.choice([np.nan, 1e9, 0.0], (rows, width))),
        mask_NT=mask_NT,
        planning_NT=rng.random((rows, width)) < share,
        advantages_N=rng.normal(size=rows) * rng.integers(0, 2, rows),
    )


def shaped(batch: Batch, mode: str, **constants: Any) -> Float:
    settings = {"beta": 0.1, "alpha": 0.2, "sepa_lambda": 0.5} | constants
    return token_advantages(
        mode,  # type: ignore[arg-type]
        batch.advantages_N,
        batch.h_NT,
        batch.mask_NT,
        batch.planning_NT,
        **settings,
    )


def loop(batch: Batch, mode: str, beta: float, alpha: float, lam: float) -> Float:
    """The formulas, token by token."""
    out = np.zeros(batch.mask_NT.shape)
    for n in range(len(out)):
        tokens = np.flatnonzero(batch.mask_NT[n])
        h = {t: batch.h_NT[n, t] for t in tokens}
        execution = [t for t in tokens if not batch.planning_NT[n, t]]
        if mode == "gtpo_sepa" and execution:
            mean = sum(h[t] for t in execution) / len(execution)
            for t in execution:
                h[t] = lam * mean + (1 - lam) * h[t]
        average = sum(h.values()) / len(h)
        for t in tokens:
            weight = 1.0
            if mode != "none" and average >= 1e-7:
                weight = max(0.0, 1 + beta * (h[t] / average - 1))
            value = batch.advantages_N[n] * weight
            if mode == "gtpo_hicra" and batch.planning_NT[n, t]:
                value += alpha * abs(value)
            out[n, t] = value
    return out


@given(
    batches(),
    st.sampled_from(TRANSFORM_MODES),
    st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    st.sampled_from([0.0, 0.2, 0.99]),
    st.floats(0, 1),
)
def test_every_transform_equals_the_per_token_loop(
    batch: Batch, mode: str, beta: float, alpha: float, lam: float
) -> None:
    found = shaped(batch, mode, beta=beta, alpha=alpha, sepa_lambda=lam)
    np.testing.assert_allclose(found, loop(batch, mode, beta, alpha, lam), rtol=1e-9, atol=1e-12)


@given(batches(), st.floats(0, 1), st.sampled_from([0.1, 2.0]))
def test_the_dispatch_is_the_composition_of_its_parts(
    batch: Batch, lam: float, beta: float
) -> None:
    pooled_NT = sepa_pool(batch.h_NT, batch.mask_NT, batch.planning_NT, sepa_lambda=lam)
    weights_NT = gtpo_weights(pooled_NT, batch.mask_NT, beta=beta)
    sepa_NT = batch.advantages_N[:, None] * weights_NT
    np.testing.assert_allclose(
        shaped(batch, "gtpo_sepa", sepa_lambda=lam, beta=beta), sepa_NT, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(
        shaped(batch, "gtpo_sepa", sepa_lambda=lam, beta=beta, hicra_after_sepa=True),
        hicra(sepa_NT, batch.planning_NT, alpha=0.2),
        rtol=1e-9,
        atol=1e-12,
    )


@given(batches())
def test_beta_alpha_and_lambda_zero_are_identities(batch: Batch) -> None:
    none_NT = np.where(batch.mask_NT, batch.advantages_N[:, None], 0.0)
    gtpo_NT = shaped(batch, "gtpo")
    np.testing.assert_array_equal(shaped(batch, "none"), none_NT)
    np.testing.assert_array_equal(shaped(batch, "gtpo", beta=0.0), none_NT)
    np.testing.assert_array_equal(shaped(batch, "gtpo_sepa", beta=0.0, sepa_lambda=0.0), none_NT)
    np.testing.assert_array_equal(shaped(batch, "gtpo_hicra", alpha=0.0), gtpo_NT)
    np.testing.assert_array_equal(shaped(batch, "gtpo_sepa", sepa_lambda=0.0), gtpo_NT)
    kept_NT = np.where(batch.mask_NT, batch.h_NT, 0.0)
    np.testing.assert_array_equal(
        sepa_pool(batch.h_NT, batch.mask_NT, batch.planning_NT, sepa_lambda=0.0), kept_NT
    )
    np.testing.assert_array_equal(hicra(gtpo_NT, batch.planning_NT, alpha=0.0), gtpo_NT)


@given(batches())
def test_gtpo_weights_have_mean_one_unless_clamped(batch: Batch) -> None:
    weights_NT = gtpo_weights(batch.h_NT, batch.mask_NT, beta=0.9)
    np.testing.assert_allclose(weights_NT.sum(1) / batch.mask_NT.sum(1), 1.0, rtol=1e-9)
    assert (weights_NT >= 0).all()


def test_the_clamp_bites_only_beyond_beta_one() -> None:
    h_NT, mask_NT = np.array([[0.0, 0.0, 0.0, 4.0]]), np.ones((1, 4), dtype=bool)
    assert gtpo_weights(h_NT, mask_NT, beta=5.0).tolist() == [[0.0, 0.0, 0.0, 16.0]]
    found = token_advantages(
        "gtpo", np.array([-1.0]), h_NT, mask_NT, ~mask_NT, beta=5.0, alpha=0.0, sepa_lambda=0.0
    )
    assert found.tolist() == [[0.0, 0.0, 0.0, -16.0]]


def test_a_flat_completion_gets_uniform_weights() -> None:
    h_NT, mask_NT = np.array([[0.0, 1e-8, 0.0]]), np.ones((1, 3), dtype=bool)
    assert gtpo_weights(h_NT, mask_NT, beta=0.5).tolist() == [[1.0, 1.0, 1.0]]


@given(batches(), st.floats(0, 1))
def test_sepa_keeps_the_mean_and_scales_the_execution_variance(batch: Batch, lam: float) -> None:
    pooled_NT = sepa_pool(batch.h_NT, batch.mask_NT, batch.planning_NT, sepa_lambda=lam)
    for n in range(len(pooled_NT)):
        mask_T, planning_T = batch.mask_NT[n], batch.planning_NT[n]
        before_T, after_T = batch.h_NT[n], pooled_NT[n]
        execution_T = mask_T & ~planning_T
        np.testing.assert_allclose(after_T[mask_T].mean(), before_T[mask_T].mean(), rtol=1e-9)
        np.testing.assert_array_equal(after_T[mask_T & planning_T], before_T[mask_T & planning_T])
        if execution_T.any():
            variance = before_T[execution_T].var()
            np.testing.assert_allclose(
                after_T[execution_T].var(), (1 - lam) ** 2 * variance, rtol=1e-6, atol=1e-9
            )


def test_full_pooling_without_planning_tokens_is_no_transform_at_all() -> None:
    rng = np.random.default_rng(0)
    mask_NT = np.ones((4, 30), dtype=bool)
    batch = Batch(
        h_NT=rng.gamma(1.0, 1.0, (4, 30)),
        mask_NT=mask_NT,
        planning_NT=~mask_NT,
        advantages_N=rng.normal(size=4),
    )
    np.testing.assert_allclose(
        shaped(batch, "gtpo_sepa", sepa_lambda=1.0), shaped(batch, "none"), rtol=1e-12
    )
    np.testing.assert_array_equal(shaped(batch, "gtpo_hicra"), shaped(batch, "gtpo"))


def test_hicra_gives_more_credit_and_less_blame() -> None:
    planning_NT = np.array([[True, False], [True, False]])
    found = hicra(np.array([[1.0, 1.0], [-1.0, -1.0]]), planning_NT, alpha=0.2)
    assert found.tolist() == [[1.2, 1.0], [-0.8, -1.0]]


@given(batches(), st.sampled_from(TRANSFORM_MODES), st.integers(1, 5), st.integers(0, 99))
def test_neither_padding_nor_the_order_of_rows_changes_anything(
    batch: Batch, mode: str, extra: int, seed: int
) -> None:
    rows = len(batch.h_NT)
    order = np.random.default_rng(seed).permutation(rows)
    wider = Batch(
        h_NT=np.hstack([batch.h_NT, np.full((rows, extra), np.inf)])[order],
        mask_NT=np.pad(batch.mask_NT, ((0, 0), (0, extra)))[order],
        planning_NT=np.pad(batch.planning_NT, ((0, 0), (0, extra)), constant_values=True)[order],
        advantages_N=batch.advantages_N[order],
    )
    found = shaped(wider, mode)
    assert not found[:, batch.h_NT.shape[1] :].any()
    np.testing.assert_allclose(
        found[:, : batch.h_NT.shape[1]], shaped(batch, mode)[order], rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("mode", TRANSFORM_MODES)
def test_many_blocks_equal_one_row_at_a_time(mode: str) -> None:
    rng = np.random.default_rng(3)
    mask_NT = np.arange(700) < rng.integers(1, 701, 200)[:, None]
    batch = Batch(
        h_NT=rng.gamma(1.0, 1.0, mask_NT.shape),
        mask_NT=mask_NT,
        planning_NT=rng.random(mask_NT.shape) < 0.2,
        advantages_N=rng.normal(size=200),
    )
    whole = shaped(batch, mode)
    for n in range(0, 200, 17):
        row = slice(n, n + 1)
        alone = Batch(
            h_NT=batch.h_NT[row],
            mask_NT=batch.mask_NT[row],
            planning_NT=batch.planning_NT[row],
            advantages_N=batch.advantages_N[row],
        )
        np.testing.assert_array_equal(whole[row], shaped(alone, mode))


def test_float32_scores_are_shaped_in_float64() -> None:
    mask_NT = np.ones((1, 3), dtype=bool)
    h_NT = np.array([[0.1, 0.2, 0.3]], dtype=np.float32)
    found = gtpo_weights(h_NT, mask_NT, beta=0.1)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, gtpo_weights(h_NT.astype(np.float64), mask_NT, beta=0.1))


@pytest.mark.parametrize("mode", ["gtpo", "gtpo_hicra", "gtpo_sepa"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_stops_the_step(mode: str, bad: float) -> None:
    """A NaN must never drop a completion out of training unseen."""
    mask_NT = np.ones((3, 4), dtype=bool)
    h_NT = np.ones((3, 4))
    h_NT[1, 2] = bad
    batch = Batch(h_NT=h_NT, mask_NT=mask_NT, planning_NT=~mask_NT, advantages_N=np.ones(3))
    with pytest.raises(AlgorithmicFailure, match="row 1"):
        shaped(batch, mode)
    with pytest.raises(AlgorithmicFailure, match="row 1"):
        gtpo_weights(h_NT, mask_NT, beta=0.1)
    with pytest.raises(AlgorithmicFailure, match="row 1"):
        sepa_pool(h_NT, mask_NT, ~mask_NT, sepa_lambda=0.5)
    with pytest.raises(AlgorithmicFailure, match="moments"):
        moments(h_NT, mask_NT)


def test_an_advantage_that_is_not_finite_stops_the_step() -> None:
    mask_NT = np.ones((1, 2), dtype=bool)
    batch = Batch(
        h_NT=np.ones((1, 2)), mask_NT=mask_NT, planning_NT=mask_NT, advantages_N=np.array([np.nan])
    )
    with pytest.raises(AlgorithmicFailure, match="advantages: row 0"):
        shaped(batch, "none")


@pytest.mark.parametrize(
    ("mode", "constants", "message"),
    [
        ("gtpo", {"beta": -0.1}, "gtpo_beta"),
        ("gtpo_hicra", {"alpha": 1.0}, "loses its sign"),
        ("gtpo_hicra", {"alpha": -0.1}, "hicra_alpha"),
        ("gtpo_sepa", {"sepa_lambda": 1.01}, "sepa_lambda"),
        ("gtpo_sepa", {"sepa_lambda": float("nan")}, "sepa_lambda"),
        ("gtpo_seppa", {}, "did you mean 'gtpo_sepa'"),
    ],
)
def test_constants_out_of_range_are_refused(
    mode: str, constants: dict[str, float], message: str
) -> None:
    mask_NT = np.ones((1, 2), dtype=bool)
    batch = Batch(
        h_NT=np.ones((1, 2)), mask_NT=mask_NT, planning_NT=mask_NT, advantages_N=np.ones(1)
    )
    with pytest.raises(ConfigError, match=message):
        shaped(batch, mode, **constants)


def test_shapes_that_do_not_fit_are_named() -> None:
    mask_NT = np.ones((2, 3), dtype=bool)
    with pytest.raises(DataError, match=r"planning has shape \(2, 2\), the mask \(2, 3\)"):
        sepa_pool(np.ones((2, 3)), mask_NT, mask_NT[:, :2], sepa_lambda=0.1)


def test_the_three_kinds_of_uncertainty() -> None:
    mask_NT = np.array([[True, True, False]])
    logprobs_NT = np.log(np.array([[0.5, 0.25, 1e-9]]))
    entropies_NT = np.array([[0.7, 0.1, np.nan]])
    for kind, expected in (
        ("entropy", [0.7, 0.1, 0.0]),
        ("surprisal", [np.log(2), np.log(4), 0.0]),
        ("predictive_variance", [0.25, 0.1875, 0.0]),
    ):
        found = uncertainty(kind, logprobs_NT, entropies_NT, mask_NT)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, [expected])


def test_entropy_is_never_replaced_by_surprisal() -> None:
    mask_NT = np.ones((1, 2), dtype=bool)
    with pytest.raises(ConfigError, match="needs the full next-token distribution"):
        uncertainty("entropy", -np.ones((1, 2)), None, mask_NT)
    with pytest.raises(ConfigError, match="did you mean 'entropy'"):
        uncertainty("entropie", -np.ones((1, 2)), None, mask_NT)  # type: ignore[arg-type]
    with pytest.raises(AlgorithmicFailure, match="row 0"):
        uncertainty("surprisal", np.array([[-1.0, np.nan]]), None, mask_NT)


def test_moments_pool_all_rows_by_token() -> None:
    values_NT = np.array([[1.0, 2.0, 99.0], [4.0, 99.0, 99.0]])
    where_NT = values_NT < 50
    found = moments(values_NT, where_NT)
    assert found.count == 3
    assert found.mean == pytest.approx(7 / 3)
    assert found.variance == pytest.approx(np.var([1.0, 2.0, 4.0]))


def test_moments_of_nothing_are_missing_not_zero() -> None:
    found = moments(np.ones((2, 2)), np.zeros((2, 2), dtype=bool))
    assert (found.count, found.mean, found.variance) == (0, None, None)
