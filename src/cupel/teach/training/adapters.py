"""Adapters as a training of the matrix asks for them.

Knows the names of `SftSettings`. Refuses to be imported without need: only a training with
`lora_rank` > 0 comes here. What an adapter is stands in `cupel.policy.lora`.
"""

from __future__ import annotations

from typing import Any

from cupel.errors import ConfigError
from cupel.policy import lora
from cupel.teach.training.sft_config import SftSettings


def add_adapters(model: Any, settings: SftSettings, *, seed: int) -> Any:
    """Put adapters into `model`, in place, freeze the rest, and return peft's handle.

    Raises:
        MissingExtraError: `peft` is not installed.
        ConfigError: no matrix has one of `lora_targets`' names.
    """
    lora.need_peft(f"lora_rank = {settings.lora_rank}")
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = sorted(names & set(settings.lora_targets))
    if not targets:
        raise ConfigError(
            f"lora_targets {', '.join(settings.lora_targets)}: this {type(model).__name__} has no "
            "such matrix; name those of its attention, e.g. c_attn, or set lora_rank = 0"
        )
    return lora.add_adapters(
        model,
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        dropout=settings.lora_dropout,
        targets=targets,
        seed=seed,
    )
