"""Settings of supervised fine-tuning, and what they default to for a small and for a large model.

Knows numbers and schedules. Refuses to import torch, so that a plan can be read and checked on a
machine that has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from cupel.config import Config


class SftSettings(Config):
    """How a model is fine-tuned. Defaults are those of a large model with adapters; for backend
    `tiny`, `TINY_DEFAULTS` take their place."""

    epochs: Annotated[int, Field(ge=1)] = 3
    """Passes over the examples."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer steps instead of epochs: as many passes as it takes; None: `epochs` decides."""
    batch_size: Annotated[int, Field(ge=1)] = 8
    """Examples of one forward and backward pass, at most."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """An optimizer step sees `batch_size` times as many examples; equal to a larger batch."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    """Peak rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """What the rate does after the warm-up: falls to 0 as a cosine or a line, or stays."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in which the rate rises from 0 to its peak."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's decoupled weight decay."""
    grad_clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest global gradient norm; a longer gradient is scaled down to it."""
    max_length: Annotated[int, Field(ge=16)] = 2048
    """Tokens an example may have; a longer one stops the run, for nothing is cut off silently."""
    microbatch_tokens: Annotated[int, Field(ge=1)] = 16384
    """Token budget of one pass, padding included. Never changes the result."""
    preference: Literal["logistic", "dpo"] = "logistic"
    """Loss of two-candidate examples. logistic: -log pi(better) / (pi(better) + pi(worse));
    dpo: against the starting model, scaled by `beta` (arXiv:2305.18290)."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """DPO's strength of the pull towards the starting model."""
    lora_rank: Annotated[int, Field(ge=0)] = 16
    """Rank of the adapters (LoRA, arXiv:2106.09685; needs the extra `lora`); 0: all weights."""
    lora_alpha: Annotated[int, Field(ge=1)] = 32
    """Adapters are scaled by lora_alpha / lora_rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout in front of the adapters, while training."""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Names of the matrices that get an adapter."""


TINY_DEFAULTS: Mapping[str, Any] = {
    "learning_rate": 1e-3,
    "lora_rank": 0,
    "weight_decay": 0.0,
    "max_length": 512,
}
"""What a tiny model is fine-tuned with unless told otherwise: all weights, a rate of its size."""


def steps_per_epoch(n_examples: int, settings: SftSettings) -> int:
    """Return the optimizer steps of one pass over the examples."""
    return math.ceil(n_examples / (settings.batch_size * settings.gradient_accumulation_steps))


def total_steps(n_examples: int, settings: SftSettings) -> int:
    """Return the optimizer steps of a whole training."""
    if settings.max_steps is not None:
        return settings.max_steps
    return settings.epochs * steps_per_epoch(n_examples, settings)


def rate_at(step: int, steps: int, settings: SftSettings) -> float:
    """Return the learning rate of step 0 .. steps - 1: linear warm-up, then the schedule.

    >>> sharp = SftSettings(learning_rate=1.0, warmup_ratio=0.5, schedule="linear")
    >>> [rate_at(step, 4, sharp) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = math.floor(settings.warmup_ratio * steps)
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    done = (step - warm) / (steps - warm)
    match settings.schedule:
        case "cosine":
            return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
        case "linear":
            return settings.learning_rate * (1.0 - done)
        case "constant":
            return settings.learning_rate
