"""A small untrained decoder that reads the corridor: a real model, made in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cupel.policy.config import PolicyConfig
from cupel.policy.torch_policy import TorchPolicy

TEXT = """task state actions action note reach cell corridor of go left right leap wait pit too soon
the floor is weak in a case like this do not here b c d e f : ; . 0 1 2 3 4 5 6"""
WORDS = TEXT.split()
BABYAI = """turn forward pick up drop toggle door key ball box red green blue purple yellow grey
open closed locked wall ahead you see carry nothing step steps and"""


def small_tokenizer(more: str = "") -> Any:
    words = ["<pad>", "<eos>", "<unk>", *WORDS, *more.split()]
    vocabulary = {word: at for at, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>"
    )


def small_policy(seed: int = 0, more: str = "") -> TorchPolicy:
    torch.set_num_threads(1)
    config = Qwen3Config(
        vocab_size=len(WORDS) + 3 + len(more.split()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=48,
        tie_word_embeddings=True,
        initializer_range=0.15,
        eos_token_id=1,
        pad_token_id=0,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    return TorchPolicy(model, small_tokenizer(more), PolicyConfig(backend="torch"), threads=1)


def small_model(folder: Path, seed: int = 0, more: str = "") -> Path:
    """Write a model folder and return it; `more` words enter its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    small_policy(seed, more).save_model(folder)
    return folder
