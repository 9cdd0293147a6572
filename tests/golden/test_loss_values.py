"""Losses against values of another implementation, computed once and pinned.

Source of every expected loss and gradient: `GRPOTrainer._compute_loss` of TRL 1.16.0 in float64
(loss_type dapo, dr_grpo, grpo with sequence-level ratios, cispo) on the arrays below; gradients by
torch's autograd, rounded to 8 digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cupel.policy import LossConfig
from cupel.policy.losses import sampler_weights, token_loss, token_weights

MASK = np.arange(4) < np.array([4, 2, 3])[:, None]
LOGPROBS = np.array(
    [
        [-1.183, -0.52, -0.588, -1.455],
        [-1.349, -1.464, -0.915, -1.228],
        [-0.827, -2.124, -0.417, -1.248],
    ]
)
OLD = np.array(
    [
        [-1.353, -0.486, -0.493, -1.571],
        [-1.555, -1.413, -0.877, -1.399],
        [-0.609, -1.745, -0.516, -1.08],
    ]
)
REFERENCE = np.array(
    [
        [-1.759, -0.764, -0.728, -1.813],
        [-1.797, -1.453, -0.646, -1.298],
        [-1.05, -2.009, -0.202, -1.338],
    ]
)
WEIGHTS_OF_THE_SAMPLER = np.array(
    [[1.313, 1.684, 0.902, 0.666], [1.19, 1.132, 1.732, 0.526], [0.718, 0.658, 0.42, 1.065]]
)
ADVANTAGES = np.repeat(np.array([[1.1], [-0.7], [0.4]]), 4, axis=1)
DAPO = {"kind": "ppo", "clip_eps": 0.1, "clip_eps_high": 0.12}

CASES: dict[str, tuple[dict[str, Any], float, list[list[float]]]] = {
    "dapo": (
        DAPO,
        -0.4488123902670648,
        [
            [0.0, -0.11813652, -0.11114558, 0.0],
            [0.09556969, 0.07391056, 0.0, 0.0],
            [-0.03573891, -0.03042425, -0.04906961, 0.0],
        ],
    ),
    "dr_grpo": (
        {**DAPO, "normaliser": "constant"},
        -0.3366092927002986,
        [
            [0.0, -0.08860239, -0.08335919, 0.0],
            [0.07167727, 0.05543292, 0.0, 0.0],
            [-0.02680418, -0.02281819, -0.03680221, 0.0],
        ],
    ),
    "gspo": (
        {"kind": "gspo", "clip_eps": 0.02, "clip_eps_high": 0.03, "normaliser": "sequence"},
        -0.23847031031825608,
        [
            [0.0, 0.0, 0.0, 0.0],
            [0.12606793, 0.12606793, 0.0, 0.0],
            [-0.0376465, -0.0376465, -0.0376465, 0.0],
        ],
    ),
    "cispo": (
        {"kind": "cispo", "clip_eps_high": 0.15},
        0.3785415037605932,
        [
            [-0.14055556, -0.11813652, -0.11114558, -0.13725505],
            [0.08944444, 0.07391056, 0.0, 0.0],
            [-0.03573891, -0.03042425, -0.04906961, 0.0],
        ],
    ),
    "kl": (
        {**DAPO, "kl_coef": 0.3},
        -0.43634982426125796,
        [
            [0.01459525, -0.11091944, -0.10679086, 0.0100309],
            [0.1076062, 0.07354187, 0.0, 0.0],
            [-0.02907607, -0.0344867, -0.05706501, 0.0],
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_loss_equals_the_pinned_values(name: str) -> None:
    settings, loss, gradient = CASES[name]
    config = LossConfig(**settings)
    weights = token_weights(MASK, np.ones(3, dtype=bool), normaliser=config.normaliser)
    found = token_loss(LOGPROBS, OLD, ADVANTAGES, weights, config, REFERENCE)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(found.gradient_BT, gradient, atol=6e-9)


def test_the_sampler_correction_equals_the_pinned_values() -> None:
    """The same, each token's term times the weight of its sampler."""
    config = LossConfig(**DAPO)
    sampler = OLD - np.log(WEIGHTS_OF_THE_SAMPLER)
    corrected = sampler_weights(OLD, sampler, MASK, cap=2.0)
    weights = token_weights(MASK, np.ones(3, dtype=bool), normaliser="token")
    found = token_loss(LOGPROBS, OLD, ADVANTAGES * corrected, weights, config)
    assert found.loss == pytest.approx(-0.4389925570820221, rel=1e-12)
    expected = [
        [0.0, -0.1989419, -0.10025331, 0.0],
        [0.11372794, 0.08366676, 0.0, 0.0],
        [-0.02566054, -0.02001916, -0.02060924, 0.0],
    ]
    np.testing.assert_allclose(found.gradient_BT, expected, atol=6e-9)
