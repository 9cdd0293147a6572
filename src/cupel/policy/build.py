"""From a policy's settings to a policy: the one place where backends are chosen.

Knows which extra each backend needs and imports it only then. Refuses to guess: a model that is
not there is an error that names it.
"""

from __future__ import annotations

import importlib.util
import math

from cupel.errors import ConfigError, MissingExtraError
from cupel.policy.config import PolicyConfig
from cupel.policy.protocol import Policy


def build_policy(config: PolicyConfig, *, device: str, threads: int, seed: int) -> Policy:
    """Build the policy that `config` describes.

    Args:
        device: a torch device such as `cpu` or `cuda:0`; the toy policy accepts `cpu` only.
        threads: torch threads of this process (set here and nowhere else).
        seed: seeds what a backend initialises by itself (toy logits, adapters); loaded weights
            ignore it.

    Raises:
        ConfigError: settings that contradict each other, or an unknown device.
        DataError: the model folder is missing or not a model.
        MissingExtraError: torch, transformers or tinker is not installed.
    """
    if threads < 1:
        raise ConfigError(f"build_policy: threads = {threads}; at least 1 is needed")
    match config.backend:
        case "toy":
            from cupel.policy.toy_policy import ToyPolicy

            if device != "cpu" or config.model is not None:
                raise ConfigError(
                    f"policy.backend 'toy' runs on device 'cpu' without a model; given device "
                    f"'{device}', model {config.model!r}"
                )
            return ToyPolicy(seed=seed, grad_clip=config.grad_clip or math.inf)
        case "tiny":
            need_torch("policy.backend 'tiny'")
            from cupel.policy.tiny import load_tiny

            return load_tiny(config, device=device, threads=threads)
        case "torch":
            need_torch("policy.backend 'torch'")
            from cupel.policy.load import load_torch_policy

            if config.model is None:
                raise ConfigError("policy.backend 'torch' needs policy.model: a folder or a hub id")
            return load_torch_policy(config, device=device, threads=threads, seed=seed)
        case "openai":
            need_torch("policy.backend 'openai'")
            from cupel.policy.openai.policy import load_openai_policy

            if config.model is None:
                raise ConfigError(
                    "policy.backend 'openai' needs policy.model: what the server serves and the "
                    "trainer trains, a folder or a hub id"
                )
            return load_openai_policy(config, device=device, threads=threads, seed=seed)
        case "tinker":
            need_tinker("policy.backend 'tinker'")
            from cupel.policy.tinker.policy import load_tinker_policy

            if config.model is None:
                raise ConfigError(
                    "policy.backend 'tinker' needs policy.model: the model's name on the server"
                )
            return load_tinker_policy(config, seed=seed)


def need_torch(what: str) -> None:
    """Check that what language models need is installed.

    Raises:
        MissingExtraError: it is not.
    """
    for module in ("torch", "transformers", "tokenizers", "safetensors"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(what, "torch")


def need_tinker(what: str) -> None:
    """Check that the Tinker SDK is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("tinker") is None:
        raise MissingExtraError(what, "tinker")
