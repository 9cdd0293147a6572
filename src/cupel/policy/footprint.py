"""How much memory a model needs to be trained or sampled, by a stated formula.

Pure arithmetic over parameters and bytes. Refuses to know activations, caches and logits, which
depend on lengths and batches: a share of the memory is left to them.
"""

from __future__ import annotations

from typing import Literal

Use = Literal["full", "lora", "sampling"]
Dtype = Literal["float32", "bfloat16"]

LORA_SHARE = 0.01
"""Adapter parameters over the model's, rank 16 to 64 on all linear layers of a 1-7 B model."""
LEFT_OVER = 0.2
"""Share of the memory left for activations, the KV cache and logits."""

FORMULA = (
    "parameters = 0.8 x memory / bytes a parameter; full fine-tuning with AdamW: weights, "
    "gradients and two moments in float32 (16 B), in bfloat16 a 2 B copy to compute with beside "
    "them (18 B); LoRA: the weights, and full training of 1 % more; sampling: the weights. The "
    "other 20 % holds activations, KV cache and logits: long contexts want more"
)


def bytes_per_parameter(use: Use, dtype: Dtype) -> float:
    """Return the bytes that one parameter of the model occupies.

    >>> bytes_per_parameter("full", "float32"), bytes_per_parameter("sampling", "bfloat16")
    (16.0, 2.0)
    """
    weight = 4.0 if dtype == "float32" else 2.0
    trained = 16.0 if dtype == "float32" else 18.0
    match use:
        case "full":
            return trained
        case "lora":
            return weight + LORA_SHARE * trained
        case "sampling":
            return weight


def largest_model(memory_bytes: float, use: Use, dtype: Dtype) -> int:
    """Return the parameters of the largest model that fits.

    >>> largest_model(80e9, "sampling", "bfloat16")
    32000000000
    """
    return int((1 - LEFT_OVER) * memory_bytes / bytes_per_parameter(use, dtype))
