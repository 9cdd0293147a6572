"""Recomputed and compiled passes: the same gradients, bit for bit and to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cupel.errors import ConfigError
from cupel.policy import Completions, LossConfig, UpdateResult
from cupel.policy.recompute import recompute_layers
from cupel.policy.torch_policy import TorchPolicy


def step(policy: TorchPolicy, completions: Completions) -> UpdateResult:
    values = np.random.default_rng(3).normal(size=completions.tokens_NT.shape)
    return policy.update(
        completions,
        trained_N=np.arange(len(values)) % 5 != 0,
        credit=lambda rows, logprobs, entropies: values[rows],
        loss=LossConfig(),
        lr=1e-3,
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_recomputed_layers_give_the_same_bits(small: Any, attention: str) -> None:
    kept = small.policy(attention=attention)
    again = small.policy(attention=attention, activation_checkpointing=True)
    for number in range(2):
        completions = small.sample(kept, small.prompts([6, 3, 55], seed=number), seed=number)
        assert step(kept, completions).grad_norm == step(again, completions).grad_norm
    assert kept.weights_sha256() == again.weights_sha256()


def test_recomputed_layers_keep_less(small: Any) -> None:
    """Tensors that the graph of a scored pass holds for its backward pass, in bytes."""
    held = {}
    for switch in (False, True):
        policy = small.policy(activation_checkpointing=switch)
        completions = small.sample(policy, small.prompts([40]), max_tokens=30)
        seen: dict[int, int] = {}

        def pack(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            prompt = policy.lm.prefill(completions.prompts)
            policy.lm.extend(prompt, completions.tokens_NT, np.zeros(4, dtype=np.intp))
        held[switch] = sum(seen.values())
    assert held[True] < held[False] / 3


def test_a_model_without_layers_of_the_library_is_refused() -> None:
    with pytest.raises(ConfigError, match="activation_checkpointing: Linear has no layers"):
        recompute_layers(torch.nn.Linear(2, 2))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own, none of them about results
def test_compiled_passes_agree_over_changing_shapes(small: Any) -> None:
    from torch._dynamo.utils import counters

    plain, fast = small.policy(), small.policy(compile=True)
    graphs = []
    for number, lengths in enumerate(([6, 3, 55], [7, 9], [6, 30])):
        completions = small.sample(
            plain, small.prompts(lengths, seed=number), seed=number, max_tokens=8 + 5 * number
        )
        got, want = fast.score(completions), plain.score(completions)
        np.testing.assert_allclose(got.logprobs_NT, want.logprobs_NT, atol=1e-4)
        norm = step(plain, completions).grad_norm
        assert step(fast, completions).grad_norm == pytest.approx(norm, rel=1e-3)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[0]
    assert not counters["graph_break"]
