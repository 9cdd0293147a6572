"""A small untrained decoder and its word tokenizer, shared by the policy tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cupel.policy import Completions, Policy, PolicyConfig
from cupel.policy.torch_policy import TorchPolicy

VOCABULARY = 61


def small_tokenizer() -> Any:
    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3}
    words |= {f" w{index}": index for index in range(4, VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def small_model(*, seed: int = 0, tied: bool = True, vocabulary: int = VOCABULARY) -> Any:
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=48,
        tie_word_embeddings=tied,
        initializer_range=0.15,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


class Small:
    """Builds small policies, prompts and samples."""

    model = staticmethod(small_model)
    tokenizer = staticmethod(small_tokenizer)

    @staticmethod
    def policy(*, seed: int = 0, tied: bool = True, **settings: Any) -> TorchPolicy:
        torch.set_num_threads(1)
        config = PolicyConfig(backend="torch", **settings)
        return TorchPolicy(small_model(seed=seed, tied=tied), small_tokenizer(), config, threads=1)

    @staticmethod
    def prompts(lengths: list[int], *, seed: int = 0) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [rng.integers(4, VOCABULARY, length).tolist() for length in lengths]

    @staticmethod
    def sample(
        policy: Policy,
        prompts: list[list[int]],
        *,
        group_size: int = 4,
        max_tokens: int = 12,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 1,
    ) -> Completions:
        rng = np.random.default_rng(seed)
        return policy.sample(
            prompts,
            group_size=group_size,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            uniforms_NT=rng.random((len(prompts) * group_size, max_tokens)),
        )


@pytest.fixture
def small() -> Small:
    return Small()
