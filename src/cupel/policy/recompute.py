"""Activation checkpointing of decoder layers, next to a cache.

Knows that a layer of the transformers library is one object with one forward. The library's own
switch drops the cache that prompts are shared through, so the layers are wrapped here instead.
Refuses models whose layers it cannot find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from cupel.errors import ConfigError


def recompute_layers(decoder: Any) -> None:
    """Make every layer keep its input only, and compute the rest again in the backward pass.

    Passes without gradient are as before. What a layer hands to a cache stays alive.

    Source: Chen et al. 2016, arXiv:1604.06174.

    Raises:
        ConfigError: the decoder has no layers of the library's kind.
    """
    for layer in decoder_layers(decoder, "policy.activation_checkpointing"):
        layer.forward = _again(layer.forward)


def decoder_layers(decoder: Any, setting: str) -> list[Any]:
    """Return the decoder's layers, first to last.

    Raises:
        ConfigError: there are none of the library's kind; names the setting that needs them.
    """
    layers = [m for m in decoder.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"{setting}: {type(decoder).__name__} has no layers of the transformers library's "
            "kind; switch it off"
        )
    return layers


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
