"""AdamW on float32 masters: small steps are not lost, gradients are clipped or not, all is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cupel.errors import DataError
from cupel.policy import LossConfig, PolicyConfig
from cupel.policy.config import PolicySettings
from cupel.policy.optimizer import MasterAdamW
from cupel.policy.torch_policy import TorchPolicy


def half_policy(small: Any, **settings: Any) -> TorchPolicy:
    config = PolicyConfig(backend="torch", dtype="bfloat16", **settings)
    model = small.model().to(torch.bfloat16)
    return TorchPolicy(model, small.tokenizer(), config, threads=1)


def advance(policy: TorchPolicy, small: Any, steps: int, lr: float = 1e-3) -> list[float]:
    norms = []
    for number in range(steps):
        completions = small.sample(policy, small.prompts([5, 9], seed=number), seed=number)
        values = np.random.default_rng(number).normal(size=completions.tokens_NT.shape)
        found = policy.update(
            completions,
            trained_N=np.ones(8, dtype=np.bool_),
            credit=lambda rows, logs, h, values=values: values[rows],
            loss=LossConfig(),
            lr=lr,
        )
        norms.append(found.grad_norm)
    return norms


def test_steps_smaller_than_half_precision_add_up() -> None:
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = MasterAdamW({"w": weight}, PolicySettings())
    for _ in range(10):  # 1e-3 a step: a bfloat16 of 1 moves in steps of 4e-3
        (weight.sum() * 1.0).backward()
        assert weight.grad is None
        optimizer.step(1e-3)
        optimizer.zero_grad()
    assert optimizer.masters["w"][0].item() == pytest.approx(0.99, abs=1e-4)
    assert weight[0].item() == pytest.approx(0.99, abs=3e-3)


def test_half_precision_gradients_are_summed_in_float32() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    optimizer = MasterAdamW({"w": weight}, PolicySettings(grad_clip=0.0))
    for part in (256.0, 1.0):  # bfloat16 reads 257 as 256
        (weight * part).sum().backward()
    assert optimizer.step(0.0) == 257.0


@pytest.mark.parametrize(("clip", "scale"), [(0.5, 0.1), (0.0, 1.0), (10.0, 1.0)])
def test_a_long_gradient_is_scaled_to_the_clip_and_zero_switches_it_off(
    clip: float, scale: float
) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = MasterAdamW({"w": weight}, PolicySettings(grad_clip=clip))
    (weight * torch.tensor([3.0, 4.0])).sum().backward()
    assert optimizer.step(1e-3) == pytest.approx(5.0)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, scale * torch.tensor([3.0, 4.0]), rtol=1e-5, atol=0)


def test_a_half_precision_policy_resumes_to_the_same_bits(small: Any, tmp_path: Path) -> None:
    unbroken, again = half_policy(small), half_policy(small)
    norms = advance(unbroken, small, 4, lr=1e-4)
    advance(again, small, 4, lr=1e-4)
    again.save(tmp_path)
    resumed = half_policy(small)
    resumed.load(tmp_path)
    assert advance(resumed, small, 2) == advance(unbroken, small, 2)
    assert resumed.weights_sha256() == unbroken.weights_sha256()
    assert norms[0] > 0


def test_a_state_of_another_precision_is_refused(small: Any, tmp_path: Path) -> None:
    policy = half_policy(small)
    advance(policy, small, 1)
    policy.save(tmp_path)
    with pytest.raises(DataError, match=r"torch\.bfloat16"):
        small.policy().load(tmp_path)
    single = MasterAdamW({"w": torch.nn.Parameter(torch.zeros(1))}, PolicySettings())
    with pytest.raises(DataError, match="float32 copies"):
        single.restore(policy._optimizer.tensors(), where="there")


def test_who_only_samples_holds_no_copies(small: Any) -> None:
    policy = half_policy(small)
    completions = small.sample(policy, small.prompts([4]))
    policy.score(completions)
    assert policy._made_optimizer is None
