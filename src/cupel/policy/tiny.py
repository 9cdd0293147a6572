"""The tiny model: a 134,784-parameter decoder over a closed vocabulary of words and digits.

Knows its shape and its tokenizer; where a built one lies, `built` knows. Refuses text outside its
vocabulary only by reading it as <unk>, so it must not be pointed at another task. The shape and
the vocabulary are ordinary transformers classes: the code that runs it is the code that runs every
other model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from cupel.errors import DataError
from cupel.policy.built import BUILD_RECORD, SHIPPED
from cupel.policy.config import PolicyConfig
from cupel.policy.load import load_torch_policy
from cupel.policy.torch_policy import TorchPolicy


def load_tiny(config: PolicyConfig, *, device: str, threads: int) -> TorchPolicy:
    """Load a built tiny model: `config.model`, or the shipped start.

    Raises:
        DataError: the folder is missing or holds no built model.
    """
    folder = Path(config.model) if config.model is not None else SHIPPED
    if not (folder / BUILD_RECORD).is_file():
        raise DataError(
            f"policy.model: {folder} holds no built tiny model ({BUILD_RECORD} missing)"
        )
    found = config.model_copy(update={"model": str(folder)})
    return load_torch_policy(found, device=device, threads=threads)


def tiny_tokenizer(specials: Sequence[str], words: Sequence[str], *, spaced: bool = False) -> Any:
    """Make the tokenizer: ids are positions in specials + words; a prompt opens with <bos>.

    A leading space belongs to its word, so that joining pieces gives the text back.

    Args:
        spaced: every piece ends where the next space or line break begins, so that a word that is
            not known is one <unk>; without it, pieces are found anywhere, the longest first.
    """
    pad, bos, eos, unknown = specials
    vocabulary = {piece: index for index, piece in enumerate([*specials, *words])}
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    pattern = r"\s?\S+" if spaced else "|".join(re.escape(word) for word in longest_first)
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unknown,
        clean_up_tokenization_spaces=False,
    )


def tiny_model(
    vocabulary: int, *, seed: int, layers: int = 2, heads: int = 2, inner: int = 256
) -> Any:
    """Make the untrained model, 64 wide; the caller's random state is left as it was."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=64 // heads,
        intermediate_size=inner,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=0.04,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        # What other programs look up in a saved folder.
        architectures=[Qwen3ForCausalLM.__name__],
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
