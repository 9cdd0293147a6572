"""Other architectures: scored and sampled like their own forward pass, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from cupel.errors import ConfigError
from cupel.policy import LossConfig, PolicyConfig
from cupel.policy.gate import check_ratio_gate, gated_credit
from cupel.policy.torch_policy import TorchPolicy

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.15,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "max_position_embeddings": 256,
}


def build(small: Any, config: Any, **settings: Any) -> TorchPolicy:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    return TorchPolicy(
        model, small.tokenizer(), PolicyConfig(backend="torch", **settings), threads=1
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["Llama", "Qwen2", "GPT2", "OPT"])
def test_an_architecture_passes_the_gate(small: Any, name: str, attention: str) -> None:
    sizes = dict(SIZES)
    if name == "GPT2":
        sizes = {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "eos_token_id": 2}
        sizes["initializer_range"] = 0.15
    if name == "OPT":
        sizes = {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.15}
        for key in ("num_key_value_heads", "intermediate_size", "initializer_range"):
            del sizes[key]
    policy = build(small, getattr(transformers, f"{name}Config")(**sizes), attention=attention)
    completions = small.sample(policy, small.prompts([5, 9, 60]))
    scores = policy.score(completions)
    check_ratio_gate(completions, scores)
    result = policy.update(
        completions,
        trained_N=np.arange(12) % 3 != 0,
        credit=gated_credit(
            lambda rows, logprobs, entropies: np.ones_like(logprobs), completions, scores
        ),
        loss=LossConfig(),
        lr=1e-3,
    )
    assert result.grad_norm > 0.01


def test_bfloat16_agrees_with_itself_to_its_precision(small: Any) -> None:
    model = small.model().to(torch.bfloat16)
    config = PolicyConfig(backend="torch", dtype="bfloat16")
    policy = TorchPolicy(model, small.tokenizer(), config, threads=1)
    completions = small.sample(policy, small.prompts([5, 9, 60]))
    check_ratio_gate(completions, policy.score(completions), tolerance=0.05)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (transformers.GraniteConfig(**SIZES, logits_scaling=4.0), "plain linear head"),
        (transformers.MistralConfig(**SIZES, sliding_window=16), "sliding window 16"),
        (transformers.Gemma2Config(**SIZES, head_dim=16), "sliding_attention"),
    ],
    ids=["scaled logits", "sliding window", "mixed windows"],
)
def test_what_would_be_scored_wrongly_is_refused(small: Any, config: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(small, config)
