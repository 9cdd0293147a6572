"""A small language model and word problems in GSM8K's shape, made on the spot from a seed.

For tests and benchmarks that need a real model folder of the transformers library and a JSONL file
with `question` and `answer` (steps, then `#### number`), without a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.utils import logging as library_logging

Kind = Literal["qwen2", "llama", "gpt2"]

SOURCE = {
    "source": "jsonl",
    "prompt_field": "question",
    "answer_field": "answer",
    "answer_pattern": r"####\s*(.+)",
    "grading": "numeric",
}
"""`[problems]` of a run on these files, without its path."""

_NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana")
_THINGS = ("pens", "apples", "cards", "eggs", "coins", "books")
_HOLDERS = ("boxes", "bags", "baskets", "drawers")


def gsm8k_rows(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Return distinct problems of two steps: a product, then a difference or a sum."""
    rng = np.random.default_rng(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        name, thing, holder = (str(rng.choice(words)) for words in (_NAMES, _THINGS, _HOLDERS))
        boxes, each = (int(value) for value in rng.integers(2, 13, 2))
        total = boxes * each
        more = bool(rng.integers(2))
        change = int(rng.integers(1, total))
        end = total + change if more else total - change
        sign = "+" if more else "-"
        does = "buys" if more else "gives away"
        question = (
            f"{name} has {boxes} {holder} with {each} {thing} each and {does} {change} {thing}. "
            f"How many {thing} does {name} have now?"
        )
        rows[question] = (
            f"{name} has {boxes} * {each} = <<{boxes}*{each}={total}>>{total} {thing}.\n"
            f"After that, {total} {sign} {change} = <<{total}{sign}{change}={end}>>{end} {thing}.\n"
            f"#### {end}"
        )
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


def write_gsm8k(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write the problems as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in gsm8k_rows(count, seed=seed)))
    return path


def save_model(
    folder: Path,
    *,
    kind: Kind = "qwen2",
    width: int = 128,
    layers: int = 4,
    vocabulary: int = 512,
    seed: int = 0,
    spread: float = 0.02,
    ends: float = 1.0,
    inner: int | None = None,
) -> Path:
    """Write an untrained model (about 1 M parameters as it stands) and its byte-level tokenizer.

    Args:
        spread: standard deviation of the first weights; a larger one makes the logits differ more.
        ends: factor on the end token's row of the head; a larger one makes its logit differ more,
            so that an untrained model's completions have different lengths.
        inner: width inside an MLP of llama and qwen2; None: three times the width.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = bpe_tokenizer(vocabulary)
    tokenizer.save_pretrained(str(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = _config(kind, width, layers, vocabulary, spread, inner or 3 * width)
        model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.get_output_embeddings().weight[1] *= ends
    bars = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    model.save_pretrained(str(folder))
    if bars:
        library_logging.enable_progress_bar()
    return folder


def bpe_tokenizer(vocabulary: int = 512) -> Any:
    """Train a byte-level BPE tokenizer on problems; every text can be read."""
    texts = [f"{row['question']}\n{row['answer']}" for row in gsm8k_rows(200)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")


def _config(kind: Kind, width: int, layers: int, vocabulary: int, spread: float, inner: int) -> Any:
    shared: dict[str, Any] = {
        "vocab_size": vocabulary,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "bos_token_id": None,
        "initializer_range": spread,
    }
    if kind == "gpt2":
        return GPT2Config(
            n_embd=width, n_layer=layers, n_head=4, n_positions=512, **shared,
            attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
        )  # fmt: skip
    shape: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": inner,
        "max_position_embeddings": 1024,
    }
    if kind == "llama":
        return LlamaConfig(**shape, **shared, tie_word_embeddings=False)
    return Qwen2Config(**shape, **shared, tie_word_embeddings=True)
