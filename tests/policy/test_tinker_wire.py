"""Rows of a Tinker server: shifted by one, masked, and scaled so that its gradient is our own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import InfrastructureFailure
from cupel.policy.losses import token_loss, token_weights
from cupel.policy.protocol import LossConfig
from cupel.policy.tinker.wire import (
    SEEDS,
    Drawn,
    checked_group,
    completion_part,
    inputs_of,
    loss_settings,
    padded,
    parts_of,
    seed_of,
    sent_advantages,
    shifted_row,
)

IDS = st.lists(st.integers(0, 99), min_size=1, max_size=6)


@given(prompt=IDS, completion=IDS)
def test_position_i_predicts_token_i_plus_1(prompt: list[int], completion: list[int]) -> None:
    row, tokens = shifted_row(prompt, completion), [*prompt, *completion]
    assert row.input_K.tolist() == tokens[:-1]
    assert row.target_K.tolist() == tokens[1:]
    assert row.start == len(prompt) - 1
    assert row.target_K[row.start :].tolist() == completion
    assert row.weights_K.tolist() == [0.0] * (len(prompt) - 1) + [1.0] * len(completion)


@given(prompt=IDS, completion=IDS)
def test_values_of_tokens_stand_where_the_tokens_are_predicted(
    prompt: list[int], completion: list[int]
) -> None:
    row = shifted_row(prompt, completion)
    values_T = np.arange(1.0, len(completion) + 1)
    laid_K = row.laid_out(values_T)
    assert (laid_K[: row.start] == 0).all()
    assert completion_part(row, laid_K, what="values").tolist() == values_T.tolist()


def test_weights_are_sent_only_where_they_mask() -> None:
    row = shifted_row([1, 2, 3], [4, 5])
    old_T, sent_T = np.array([-1.0, -2.0, 0.0]), np.array([0.5, 0.25, 0.0])
    masked = inputs_of(row, old_T, sent_T, weights=True)
    plain = inputs_of(row, old_T, sent_T, weights=False)
    assert masked["weights"].tolist() == [0, 0, 1, 1]
    assert set(plain) == {"logprobs", "advantages"}
    assert plain["advantages"].tolist() == [0, 0, 0.5, 0.25]
    assert plain["logprobs"].tolist() == [0, 0, -1, -2]


def server_gradient(
    reduction: str, lengths_B: Any, slope_BT: Any, sent_BT: Any, weighted: bool
) -> Any:
    """d loss / d logprob on a server: `slope_BT` is that of a token with an advantage of 1."""
    gradient_BT = slope_BT * sent_BT
    if reduction == "sum":
        assert not weighted
        return gradient_BT
    assert weighted
    return gradient_BT / lengths_B[:, None] / len(lengths_B)


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
@pytest.mark.parametrize("reduction", ["sum", "seq_mean"])
@pytest.mark.parametrize("kind", ["importance_sampling", "ppo", "cispo"])
def test_the_servers_gradient_is_that_of_our_own_loss(
    normaliser: Any, reduction: Any, kind: Any
) -> None:
    rng = np.random.default_rng(0)
    lengths_N = np.array([3, 7, 1, 5, 7])
    mask_NT = np.arange(7) < lengths_N[:, None]
    trained_N = np.array([True, True, False, True, True])
    high = 4.0 if kind == "cispo" else None
    loss = LossConfig(kind=kind, normaliser=normaliser, clip_eps_high=high)
    weights_NT = token_weights(mask_NT, trained_N, normaliser=normaliser)
    old_NT = rng.normal(-1, 0.3, mask_NT.shape)
    new_NT = old_NT + rng.normal(0, 0.3, mask_NT.shape)
    advantages_NT = rng.normal(0, 1, mask_NT.shape)

    ours_NT = token_loss(new_NT, old_NT, advantages_NT, weights_NT, loss).gradient_BT
    sent_BT, weighted = sent_advantages(
        advantages_NT[trained_N], weights_NT[trained_N], reduction=reduction
    )
    # a token's own derivative, as the server computes it from what is sent
    sign_NT = np.sign(advantages_NT)
    unit_NT = np.where(mask_NT & trained_N[:, None], 1.0, 0.0)
    slope_NT = token_loss(new_NT, old_NT, sign_NT, unit_NT, loss).gradient_BT
    theirs_BT = server_gradient(
        reduction, lengths_N[trained_N], (slope_NT * sign_NT)[trained_N], sent_BT, weighted
    )
    np.testing.assert_allclose(theirs_BT, ours_NT[trained_N], rtol=1e-12, atol=1e-15)


def test_thresholds_are_of_the_ratio() -> None:
    assert loss_settings(LossConfig()) is None
    assert loss_settings(LossConfig(kind="ppo", clip_eps=0.1, clip_eps_high=0.3)) == {
        "clip_low_threshold": pytest.approx(0.9),
        "clip_high_threshold": pytest.approx(1.3),
    }
    assert loss_settings(LossConfig(kind="cispo", clip_eps_high=4.0)) == {
        "clip_low_threshold": 0.0,
        "clip_high_threshold": 5.0,
    }


@given(st.floats(0, 1, exclude_max=True))
def test_a_seed_leaves_room_for_its_group(uniform: float) -> None:
    assert 0 <= seed_of(uniform) < SEEDS
    assert SEEDS + 2**15 < 2**31


GOOD = Drawn(tokens=(4, 5), logprobs=(-0.5, 0.0), finished=True)


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ([GOOD], "1 completions came back, 2"),
        ([GOOD, Drawn(tokens=(), logprobs=(), finished=True)], "2 of 2 has 0 tokens"),
        ([GOOD, Drawn(tokens=(1,) * 5, logprobs=(0.0,) * 5, finished=False)], "has 5 tokens"),
        ([Drawn(tokens=(1, 2), logprobs=(), finished=True), GOOD], "0 log-probabilities for 2"),
        ([GOOD, Drawn(tokens=(1,), logprobs=(float("nan"),), finished=True)], "that are none"),
        ([GOOD, Drawn(tokens=(1,), logprobs=(0.7,), finished=True)], "that are none"),
        ([GOOD, Drawn(tokens=(10,), logprobs=(-1.0,), finished=True)], "vocabulary of 10"),
    ],
)
def test_a_group_with_a_hole_is_refused(drawn: list[Drawn], said: str) -> None:
    with pytest.raises(InfrastructureFailure, match=said):
        checked_group(drawn, group_size=2, max_tokens=4, vocabulary=10)


def test_outputs_of_another_shape_or_not_finite_are_refused() -> None:
    row = shifted_row([1, 2], [3])
    with pytest.raises(InfrastructureFailure, match="shape"):
        parts_of([row], [np.zeros(3)])
    with pytest.raises(InfrastructureFailure, match="not finite"):
        parts_of([row], [np.array([0.0, np.inf])])
    # what a server says of the prompt's own positions is not looked at
    assert parts_of([row], [np.array([np.nan, -1.0])])[0].tolist() == [-1.0]


def test_padding_is_zero() -> None:
    assert padded([np.array([1.0]), np.array([2.0, 3.0])], 3).tolist() == [[1, 0, 0], [2, 3, 0]]
