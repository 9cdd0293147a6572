"""Losses against an independent torch reference: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cupel.errors import ConfigError
from cupel.policy import LossConfig
from cupel.policy.losses import (
    TokenLoss,
    check_loss,
    sampler_weights,
    token_loss,
    token_weights,
)


def batch(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    lengths_N = np.array([5, 3, 1, 4])
    return {
        "logprobs": rng.normal(-1.5, 0.6, (4, 6)),
        "old": rng.normal(-1.5, 0.6, (4, 6)),
        "reference": rng.normal(-1.5, 0.6, (4, 6)),
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
        length = data["lengths"][n]
        mean_log_ratio = (logprobs[n, :length] - torch.tensor(data["old"][n, :length])).mean()
        for t in range(length):
            ratio = torch.exp(logprobs[n, t] - data["old"][n, t])
            if config.kind == "gspo":  # GSPO-token: the row's ratio, the token's gradient
                own = torch.exp(logprobs[n, t] - logprobs[n, t].detach())
                ratio = torch.exp(mean_log_ratio.detach()) * own
            advantage = float(data["advantages"][n, t])
            objective = ratio * advantage
            if config.kind == "cispo":
                weight = ratio.detach().clamp(max=1 + (config.clip_eps_high or 0.0))
                objective = weight * advantage * logprobs[n, t]
            if config.kind in ("ppo", "gspo"):
                high = config.clip_eps_high if config.clip_eps_high else config.clip_eps
                clipped = torch.clamp(ratio, 1 - config.clip_eps, 1 + high) * advantage
                objective = torch.minimum(objective, clipped)
                if config.dual_clip is not None and advantage < 0:
                    floor = torch.tensor(config.dual_clip * advantage, dtype=torch.float64)
                    objective = torch.maximum(objective, floor)
            gap = data["reference"][n, t] - logprobs[n, t]
            row = row - objective + config.kl_coef * (torch.exp(gap) - gap - 1)
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
    LossConfig(kind="gspo", clip_eps=0.05, clip_eps_high=0.1),
    LossConfig(kind="cispo", clip_eps_high=0.5),
    LossConfig(kind="importance_sampling", kl_coef=0.7),
    LossConfig(kind="ppo", kl_coef=0.1),
]
IDS = ["is", "ppo", "clip_higher", "dual_clip", "gspo", "cispo", "kl", "ppo_kl"]


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_value_and_gradient_equal_the_reference(config: LossConfig, normaliser: str) -> None:
    config = LossConfig.model_validate({**config.model_dump(), "normaliser": normaliser})
    data = batch()
    logprobs = torch.tensor(data["logprobs"], requires_grad=True)
    want = reference_loss(data, logprobs, config)
    want.backward()
    weights = token_weights(data["mask"], data["trained"], normaliser=normaliser)
    found = token_loss(
        data["logprobs"], data["old"], data["advantages"], weights, config, data["reference"]
    )
    assert found.loss == pytest.approx(float(want.detach()), rel=1e-12)
    assert logprobs.grad is not None
    np.testing.assert_allclose(found.gradient_BT, logprobs.grad.numpy(), rtol=1e-12, atol=1e-15)
    if config.kind != "importance_sampling":
        assert found.clipped_BT.any()


@pytest.mark.parametrize("normaliser", ["token", "sequence", "constant"])
@pytest.mark.parametrize("kind", ["ppo", "gspo"])
def test_splitting_the_batch_never_changes_the_sum(kind: Any, normaliser: str) -> None:
    data = batch(seed=3)
    config = LossConfig(kind=kind)
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


@pytest.mark.parametrize("kind", ["importance_sampling", "gspo"])
def test_padding_and_untrained_rows_weigh_nothing_whatever_they_hold(kind: Any) -> None:
    data = batch()
    weights = token_weights(data["mask"], data["trained"], normaliser="token")
    config = LossConfig(kind=kind, kl_coef=0.2)

    def loss() -> TokenLoss:
        names = ("logprobs", "old", "advantages")
        return token_loss(*(data[name] for name in names), weights, config, data["reference"])

    clean = loss()
    outside = weights == 0
    assert outside[2].all()
    assert outside[0, 5]
    for key in ("logprobs", "old", "advantages", "reference"):
        data[key] = np.where(outside, np.inf, data[key])
    dirty = loss()
    assert dirty.loss == clean.loss
    np.testing.assert_array_equal(dirty.gradient_BT, clean.gradient_BT)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "ppo", "clip_eps": 1.2}, "clip_eps"),
        ({"kind": "ppo", "clip_eps_high": -0.1}, "clip_eps_high"),
        ({"kind": "ppo", "dual_clip": 0.9}, "dual_clip"),
        ({"kind": "importance_sampling", "dual_clip": 3.0}, "dual_clip"),
        ({"kind": "importance_sampling", "clip_eps": 0.1}, "no lower clip"),
        ({"kind": "cispo", "clip_eps": 0.1, "clip_eps_high": 4.0}, "no lower clip"),
        ({"kind": "cispo"}, "caps the ratio at 1 \\+ loss.clip_eps_high"),
        ({"kind": "gspo", "dual_clip": 3.0}, "no dual clip"),
        ({"kl_coef": -0.1}, "kl_coef"),
        ({"sampler_cap": 0.0}, "sampler_cap"),
    ],
)
def test_a_range_that_makes_no_loss_is_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_loss(LossConfig(**settings))


def test_gspo_in_its_token_form_is_the_sequence_form_when_a_rows_advantages_are_equal() -> None:
    """arXiv:2507.18071 eq. 5: mean over rows of min(s A, clip(s) A), s differentiated as it is."""
    data, config = batch(), LossConfig(kind="gspo", clip_eps=0.05, normaliser="sequence")
    advantages_N = data["advantages"][:, 0]
    logprobs = torch.tensor(data["logprobs"], requires_grad=True)
    rows = np.flatnonzero(data["trained"])
    want = torch.zeros((), dtype=torch.float64)
    for n in rows:
        length = data["lengths"][n]
        log_ratio = logprobs[n, :length] - torch.tensor(data["old"][n, :length])
        ratio = torch.exp(log_ratio.mean())
        clipped = ratio.clamp(0.95, 1.05)
        want = want - torch.minimum(ratio * advantages_N[n], clipped * advantages_N[n]) / len(rows)
    want.backward()
    weights = token_weights(data["mask"], data["trained"], normaliser="sequence")
    spread = np.repeat(advantages_N[:, None], 6, axis=1)
    found = token_loss(data["logprobs"], data["old"], spread, weights, config)
    assert found.loss == pytest.approx(float(want.detach()), rel=1e-12)
    assert logprobs.grad is not None
    np.testing.assert_allclose(found.gradient_BT, logprobs.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_on_policy_every_kind_has_the_gradient_of_importance_sampling() -> None:
    data = batch()
    weights = token_weights(data["mask"], data["trained"], normaliser="token")
    arguments = (data["logprobs"], data["logprobs"], data["advantages"], weights)
    plain = token_loss(*arguments, LossConfig())
    for config in CONFIGS[1:6]:
        found = token_loss(*arguments, config)
        np.testing.assert_allclose(found.gradient_BT, plain.gradient_BT, rtol=1e-12)
        assert not found.clipped_BT.any()


def test_the_penalty_vanishes_at_the_reference_and_is_never_negative() -> None:
    data, config = batch(), LossConfig(kl_coef=1.0)
    weights = token_weights(data["mask"], data["trained"], normaliser="token")
    zero = np.zeros_like(weights)
    at = token_loss(data["logprobs"], data["old"], zero, weights, config, data["logprobs"])
    assert at.loss == 0.0
    assert not at.gradient_BT.any()
    off = token_loss(data["logprobs"], data["old"], zero, weights, config, data["reference"])
    assert off.kl_BT is not None
    assert (off.kl_BT >= 0).all()
    assert off.loss > 0


def test_a_penalty_without_a_reference_is_refused() -> None:
    data = batch()
    weights = token_weights(data["mask"], data["trained"], normaliser="token")
    with pytest.raises(ConfigError, match="this backend gave none"):
        token_loss(data["logprobs"], data["old"], weights, weights, LossConfig(kl_coef=0.1))


def test_the_sampler_correction_is_one_on_policy_and_never_above_its_cap() -> None:
    data = batch()
    mask, old = data["mask"], data["old"]
    np.testing.assert_array_equal(sampler_weights(old, old, mask, cap=2.0), np.ones_like(old))
    found = sampler_weights(old, data["reference"], mask, cap=1.5)
    plain = np.exp(old - data["reference"])
    assert (plain[mask] > 1.5).any()
    np.testing.assert_allclose(found[mask], np.minimum(plain, 1.5)[mask])
    assert (found[~mask] == 1).all()
