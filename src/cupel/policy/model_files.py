"""From a name to a model in memory: a model folder, a folder of adapters, or a hub id.

Knows the transformers library's loaders, what becomes of adapters that lie in the folder, and
which hash the base had. Refuses a base that is not there, or not the one adapters belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cupel.errors import ConfigError, DataError
from cupel.policy.config import LoraSettings, PolicyConfig
from cupel.policy.lora import (
    AdapterFolder,
    adapter_seed,
    add_adapters,
    continue_adapters,
    is_adapter_folder,
    read_adapter_folder,
)
from cupel.policy.torch_state import weights_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Adapters in a model.

    Attributes:
        handle: peft's, around the model.
        base: folder or hub id of the frozen model; `base_sha256`: hash of its weights.
        continued: whether they come from a folder; new ones compute nothing yet.
    """

    handle: Any
    base: str
    base_sha256: str
    continued: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model on its device, with its tokenizer and its adapters, if it has some."""

    model: Any
    tokenizer: Any
    adapters: Adapters | None


def load_model(config: PolicyConfig, *, device: str, seed: int) -> Loaded:
    """Load what `config.model` names; put adapters in where `config.lora` asks for them.

    A folder of adapters is continued where `lora.rank` is its rank; with rank 0 its adapters are
    merged into the base, which is then an ordinary model.

    Raises:
        DataError: no such folder or model, or adapters of another base.
        ConfigError: an unknown device, or other adapter settings than the folder's.
        MissingExtraError: adapters without `peft`.
    """
    name = str(config.model)
    found = read_adapter_folder(Path(name)) if is_adapter_folder(Path(name)) else None
    if found is not None and config.lora.rank:
        _check_continued(config.lora, found)
    base = name if found is None else found.base
    where = "policy.model" if found is None else f"{found.folder}: its base"
    model, tokenizer = _from_pretrained(base, config.dtype, where=where)
    try:
        model = model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}': {str(error).splitlines()[0]}") from None
    if found is None and not config.lora.rank:
        return Loaded(model=model, tokenizer=tokenizer, adapters=None)
    sha256 = weights_sha256(model)
    if found is not None:
        found.check_base(sha256, config.dtype)
        handle = continue_adapters(model, found)
        if not config.lora.rank:
            merged = handle.merge_and_unload().requires_grad_(True)
            return Loaded(model=merged, tokenizer=tokenizer, adapters=None)
    else:
        lora = config.lora
        handle = add_adapters(
            model,
            rank=lora.rank,
            alpha=lora.scale_alpha,
            targets=lora.targets if isinstance(lora.targets, str) else sorted(lora.targets),
            rslora=lora.rslora,
            seed=adapter_seed(seed),
        )
    adapters = Adapters(handle=handle, base=base, base_sha256=sha256, continued=found is not None)
    return Loaded(model=model, tokenizer=tokenizer, adapters=adapters)


def _from_pretrained(name: str, dtype: str, *, where: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as library_logging

    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not Path(name).is_dir():
        raise DataError(f"{where}: no such folder: {name}")
    bars = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=getattr(torch, dtype))
        return model, AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(f"{where}: '{name}' cannot be loaded: {first}") from None
    finally:
        if bars:
            library_logging.enable_progress_bar()


def _check_continued(lora: LoraSettings, found: AdapterFolder) -> None:
    """Refuse settings that contradict a folder's; what was left at its default follows it."""
    asked: dict[str, Any] = {"rank": lora.rank}
    asked |= {} if lora.alpha is None else {"alpha": lora.alpha}
    asked |= {"rslora": True} if lora.rslora else {}
    asked |= {} if lora.targets == "all-linear" else {"targets": tuple(sorted(lora.targets))}
    for name, value in asked.items():
        theirs = getattr(found, name)
        if value != theirs:
            raise ConfigError(
                f"policy.lora.{name} = {value!r}, but the adapters in {found.folder} have "
                f"{theirs!r}; take theirs, or merge them first (rank 0, then save the model)"
            )
