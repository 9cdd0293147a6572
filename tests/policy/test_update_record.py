"""The record of an update: what is known of its slope before any score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.policy import Completions, KnownCredit, LossConfig
from cupel.policy.update_record import UpdateRecord

LOSSES = [
    LossConfig(normaliser="sequence"),
    LossConfig(kind="ppo", dual_clip=3.0),
    LossConfig(kind="gspo", clip_eps=3e-4, normaliser="constant"),
    LossConfig(kind="cispo", clip_eps_high=0.1),
]
SHAPE = (6, 5)


def completions() -> Completions:
    blank = np.zeros(SHAPE, dtype=np.float32)
    return Completions(
        prompts=((4,), (5,)),
        group_size=3,
        tokens_NT=np.zeros(SHAPE, dtype=np.int32),
        lengths_N=np.array([5, 1, 2, 3, 4, 5], dtype=np.int32),
        finished_N=np.ones(6, dtype=np.bool_),
        sampler_logprobs_NT=blank,
        policy_logprobs_NT=blank,
    )


def record(loss: LossConfig, *, known: bool = True, **changes: Any) -> UpdateRecord:
    credit = KnownCredit(advantages_NT=np.random.default_rng(1).normal(size=SHAPE))
    trained_N = np.array([True, True, False, True, True, True])
    given_credit = (
        credit if known else lambda rows, logprobs, entropies: credit(rows, logprobs, None)
    )
    settings: dict[str, Any] = {"old_logprobs_NT": None, **changes}
    return UpdateRecord(completions(), trained_N, given_credit, loss, **settings)


@given(seed=st.integers(0, 2**32 - 1), loss=st.sampled_from(LOSSES))
def test_the_known_slope_is_the_one_found_from_scores_bit_for_bit(
    seed: int, loss: LossConfig
) -> None:
    logprobs_BT = -np.random.default_rng(seed).exponential(9.0, size=(3, SHAPE[1]))
    rows_B = np.array([4, 0, 2])
    made = record(loss)
    known_BT = made.known_slope(rows_B, SHAPE[1])
    assert known_BT is not None
    assert np.abs(known_BT).max() > 0
    np.testing.assert_array_equal(known_BT, made.add(rows_B, logprobs_BT, None).gradient_BT)


@pytest.mark.parametrize(
    "made",
    [
        record(LossConfig(), known=False),
        record(LossConfig(), old_logprobs_NT=np.zeros(SHAPE, dtype=np.float32)),
        record(LossConfig(kl_coef=0.1)),
        record(LossConfig(sampler_correction="truncate")),
    ],
    ids=["credit", "off-policy", "KL", "sampler"],
)
def test_a_slope_that_looks_at_scores_is_not_known_before(made: UpdateRecord) -> None:
    assert made.known_slope(np.array([0, 1]), SHAPE[1]) is None
