"""Low-rank adapters from the `peft` library: put into a model, trained, merged, written.

Knows how to ask `peft` for them with a seed of their own. Refuses to be imported without need:
only a training with `lora_rank` > 0 comes here.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import torch

from cupel.errors import ConfigError, MissingExtraError
from cupel.teach.sft_config import SftSettings


def add_adapters(model: Any, settings: SftSettings, *, seed: int) -> Any:
    """Put adapters into `model`, in place, freeze the rest, and return peft's handle.

    A is drawn by `seed`, B is 0: the model computes what it did before. Adapters are float32
    whatever the model's format.

    Raises:
        MissingExtraError: `peft` is not installed.
        ConfigError: no matrix has one of `lora_targets`' names.

    Source: Hu et al. 2021, arXiv:2106.09685.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError(f"lora_rank = {settings.lora_rank}", "lora")
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if not names & set(settings.lora_targets):
        raise ConfigError(
            f"lora_targets {', '.join(settings.lora_targets)}: this {type(model).__name__} has no "
            "such matrix; name those of its attention, e.g. c_attn, or set lora_rank = 0"
        )
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=sorted(names & set(settings.lora_targets)),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers under a name that transformers has since replaced
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(seed)
        handle = get_peft_model(model, config, autocast_adapter_dtype=True)
    return handle.eval()
