"""From a config to a language-model policy in memory.

Knows the order: threads, model, policy. Refuses to divide a model over one process.
"""

from __future__ import annotations

import torch

from cupel.errors import ConfigError
from cupel.policy.config import PolicyConfig
from cupel.policy.model_files import load_model
from cupel.policy.ranks import current_ranks
from cupel.policy.torch_policy import TorchPolicy


def load_torch_policy(
    config: PolicyConfig, *, device: str, threads: int, seed: int = 0
) -> TorchPolicy:
    """Load model and tokenizer from `config.model`: a model folder, adapter folder or hub id.

    Args:
        seed: of the run; new adapters are drawn by it, loaded weights ignore it.

    Raises:
        DataError: no such folder or model, or adapters whose base is missing or another.
        ConfigError: an unknown device, contradictory adapter settings, a model that cannot be
            scored correctly, or one that is to be divided over processes when there is only one.
        MissingExtraError: adapters without `peft`.
    """
    if config.shard != "none" and current_ranks() is None:
        raise ConfigError(
            f"policy.shard = '{config.shard}' in one process: there is nobody to share the model "
            "with; start several (cupel run STUDY --executor torchrun --ranks N), or set 'none'"
        )
    torch.set_num_threads(threads)
    loaded = load_model(config, device=device, seed=seed)
    return TorchPolicy(
        loaded.model,
        loaded.tokenizer,
        config,
        threads=threads,
        adapters=loaded.adapters,
        load_start=lambda: load_model(config, device=device, seed=seed).model,
    )
