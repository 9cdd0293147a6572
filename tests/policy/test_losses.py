"""Losses against an independent torch reference: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cupel.errors import ConfigError
from cupel.policy import LossConfig
from cupel.policy.losses import check_loss, token_loss, token_weights


def batch(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    lengths_N = np.array([5, 3, 1, 4])
    return {
        "logprobs": rng.normal(-1.5, 0.6, (4, 6)),
        "old": rng.normal(-1.5, 0.6, (4, 6)),
        "advantages": rng.normal(0.0, 1.5, (4, 6)),
        "mask": np.arange(6) < lengths_N[:, None],
        "trained": np.array([True, True, False, True]),
        "lengths": lengths_N,
    }


def reference_loss(data: dict[str, Any], logprobs: torch.Tensor, config: LossConfig) -> Any:
    """The losses as their papers write them, row by row."""
    total = torch.zeros((), dtype=torch.float64)
    rows = np.flatnonzero(data["trained"])
    for n in rows:
        row = torch.zeros((), dtype=torch.float64)
        for t in range(data["lengths"][n]):
            ratio = torch.exp(logprobs[n, t] - data["old"][n, t])
            advantage = float(data["advantages"][n, t])
            objective = ratio * advantage
            if config.kind == "ppo":
                high = config.clip_eps_high if config.clip_eps_high else config.clip_eps
                clipped = torch.clamp(ratio, 1 - config.clip_eps, 1 + high) * advantage
                objective = torch.minimum(objective, clipped)
                if config.dual_clip is not None and advantage < 0:
                    floor = torch.tensor(config.dual_clip * advantage, dtype=torch.float64)
                    objective = torch.maximum(objective, floor)
            row = row - objective
        match config.normaliser:
            case "token":
                total = total + row / data["lengths"][rows].sum()
            case "sequence":
                total = total + row / data["lengths"][n] / len(rows)
            case "constant":
                total = total + row / (len(rows) * data["mask"].shape[1])
    return total


CONFIGS = [
    LossConfig(kind="importance_sampling"),
    LossConfig(kind="ppo"),
    LossConfig(kind="ppo", clip_eps=0.1, clip_eps_high=0.4),
    LossConfig(kind="ppo", dual_clip=1.5),
]


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
@pytest.mark.parametrize("config", CONFIGS, ids=["is", "ppo", "clip_higher", "dual_clip"])
def test_value_and_gradient_equal_the_reference(config: LossConfig, normaliser: str) -> None:
    config = LossConfig.model_validate({**config.model_dump(), "normaliser": normaliser})
    data = batch()
    logprobs = torch.tensor(data["logprobs"], requires_grad=True)
    want = reference_loss(data, logprobs, config)
    want.backward()
    weights = token_weights(data["mask"], data["trained"], normaliser=normaliser)
    found = token_loss(data["logprobs"], data["old"], data["advantages"], weights, config)
    assert found.loss == pytest.approx(float(want.detach()), rel=1e-12)
    assert logprobs.grad is not None
    np.testing.assert_allclose(found.gradient_BT, logprobs.grad.numpy(), rtol=1e-12, atol=1e-15)
    if config.kind == "ppo":
        assert found.clipped_BT.any()


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
def test_splitting_the_batch_never_changes_the_sum(normaliser: str) -> None:
    data = batch(seed=3)
    config = LossConfig(kind="ppo")
    weights = token_weights(data["mask"], data["trained"], normaliser=normaliser)
    parts = [
        token_loss(
            data["logprobs"][n : n + 1],
            data["old"][n : n + 1],
            data["advantages"][n : n + 1],
            weights[n : n + 1],
            config,
        )
        for n in range(4)
    ]
    whole = token_loss(data["logprobs"], data["old"], data["advantages"], weights, config)
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-12)
    np.testing.assert_array_equal(
        np.concatenate([part.gradient_BT for part in parts]), whole.gradient_BT
    )


def test_padding_and_untrained_rows_weigh_nothing_whatever_they_hold() -> None:
    data = batch()
    weights = token_weights(data["mask"], data["trained"], normaliser="token")
    clean = token_loss(data["logprobs"], data["old"], data["advantages"], weights, LossConfig())
    outside = weights == 0
    assert outside[2].all()
    assert outside[0, 5]
    for key in ("logprobs", "old", "advantages"):
        data[key] = np.where(outside, np.inf, data[key])
    dirty = token_loss(data["logprobs"], data["old"], data["advantages"], weights, LossConfig())
    assert dirty.loss == clean.loss
    np.testing.assert_array_equal(dirty.gradient_BT, clean.gradient_BT)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "ppo", "clip_eps": 1.2}, "clip_eps"),
        ({"kind": "ppo", "clip_eps_high": -0.1}, "clip_eps_high"),
        ({"kind": "ppo", "dual_clip": 0.9}, "dual_clip"),
        ({"kind": "importance_sampling", "dual_clip": 3.0}, "dual_clip"),
    ],
)
def test_a_range_that_makes_no_loss_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_loss(LossConfig(**settings))
