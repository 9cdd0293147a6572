"""Settings of a policy that a Tinker server holds, and which other settings such a server ignores.

Knows names, numbers and what cannot go together. Refuses to contact a server: what one honours is
found out by `cupel.policy.tinker.probe` when a run starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from cupel.config import Config
from cupel.errors import ConfigError
from cupel.policy.api_calls import plain_address
from cupel.policy.protocol import LossConfig

Reduction = Literal["sum", "seq_mean"]
"""How a server adds up the losses of a batch's tokens: all of them, or the mean over rows of each
row's mean over its weighted tokens."""

LOSSES = ("importance_sampling", "ppo", "cispo")
"""Losses with the same formula on a Tinker server as here."""

_HERE_ONLY = (
    *("dtype", "attention", "matmul_precision", "microbatch_tokens", "logprob_chunk"),
    *("sample_rows", "activation_checkpointing", "compile", "shard"),
)
_LORA_HERE_ONLY = ("alpha", "dropout", "targets", "rslora")


class TinkerSettings(Config):
    """The server that samples and trains; backend tinker only."""

    base_url: str | None = None
    """Address of a self-hosted server, such as http://gpu-1:8000; None: the hosted service."""
    api_key_variable: str | None = "TINKER_API_KEY"
    """Environment variable that holds the key. The hosted service needs one; a self-hosted server
    gets it where the variable is set. None: no key is sent."""
    tokenizer: str | None = None
    """Folder or hub id of the tokenizer; None: as `model`."""
    max_in_flight: Annotated[int, Field(ge=1)] = 32
    """Most requests for samples in flight, over all runs of this machine that use the server; each
    asks for a whole group."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for one answer."""
    deadline_s: Annotated[float, Field(gt=0)] = 1800.0
    """Longest time for one request with all its repetitions; after it the run fails."""
    retries: Annotated[int, Field(ge=0)] = 4
    """Times a request is repeated after a failure that may pass: no answer, 429, 5xx."""
    backoff_s: Annotated[float, Field(gt=0)] = 0.5
    """Wait before the first repetition; doubled each time, with jitter, up to a minute."""
    server_reduction: Literal["auto", "sum", "seq_mean"] = "auto"
    """How the server adds up token losses; auto: found out at the start, with two requests. Given,
    it is checked by the same requests. Advantages are scaled so that either kind of server takes
    the step that loss.normaliser says."""

    @field_validator("base_url")
    @classmethod
    def _address_is_plain(cls, value: str | None) -> str | None:
        return None if value is None else plain_address(value, example="http://host:port")


def missing_key(settings: TinkerSettings) -> str | None:
    """Return what is wrong with the key, None where nothing is."""
    if settings.base_url is not None:
        return None
    if settings.api_key_variable is None:
        return (
            "the hosted Tinker service needs a key: name its environment variable in "
            "policy.tinker.api_key_variable, or give the address of a server of your own "
            "(policy.tinker.base_url)"
        )
    if os.environ.get(settings.api_key_variable):
        return None
    return (
        f"the environment variable {settings.api_key_variable} holds no key for the hosted Tinker "
        "service; export one, or give the address of a server of your own (policy.tinker.base_url, "
        "--base-url)"
    )


def check_tinker(settings: Any, *, defaults: Mapping[str, Any], lora: Mapping[str, Any]) -> None:
    """Refuse settings of a local model beside a server that would not look at them.

    Args:
        settings: a `PolicySettings`.
        defaults: of its fields.
        lora: the defaults of `LoraSettings`.

    Raises:
        ConfigError: names the setting.
    """
    for name in _HERE_ONLY:
        _refuse(f"policy.{name}", getattr(settings, name), defaults[name])
    for name in _LORA_HERE_ONLY:
        _refuse(f"policy.lora.{name}", getattr(settings.lora, name), lora[name])
    if not settings.lora.rank:
        raise ConfigError(
            "backend 'tinker' trains adapters; set policy.lora.rank (--lora-rank), such as 64"
        )


def check_method(loss: LossConfig, *, uncertainty_kind: str) -> None:
    """Refuse what a Tinker server can neither tell nor take.

    Raises:
        ConfigError: names the setting.
    """
    if uncertainty_kind == "entropy":
        raise ConfigError(
            "uncertainty_kind = 'entropy' with backend 'tinker', whose server tells the "
            "probability of the sampled token only; use 'surprisal', the default there"
        )
    if loss.kind not in LOSSES:
        raise ConfigError(
            f"loss.kind = '{loss.kind}' with backend 'tinker'; its losses are {', '.join(LOSSES)}"
        )
    if loss.dual_clip is not None or loss.kl_coef > 0:
        name = "dual_clip" if loss.dual_clip is not None else "kl_coef"
        raise ConfigError(
            f"loss.{name} = {getattr(loss, name):g} with backend 'tinker', whose losses have no "
            "such term; leave it out"
        )


def _refuse(name: str, given: object, default: object) -> None:
    if given != default:
        raise ConfigError(
            f"{name} = {given!r} with backend 'tinker', whose server decides that by itself; leave "
            "it out"
        )
