"""Low-rank adapters from the `peft` library: put into a model, switched off, merged, on disk.

Knows how to ask `peft` for them with a seed of their own, and what a folder of them holds: the
adapters, their settings, and the hash of the base model they were trained on, never the base
itself. Refuses a base with other weights, and adapters on the head, which the scored passes apply
by themselves.

Source: Hu et al. 2021, arXiv:2106.09685; rank-stabilised scale: arXiv:2312.03732.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cupel.errors import ConfigError, DataError, MissingExtraError

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"
_NAME = "default"
_NOISE = ("`is_gradient_checkpointing`", "fan_in_fan_out is set to False")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFolder:
    """What a folder of adapters says of itself.

    Attributes:
        base: the base model's folder or hub id.
        base_sha256, dtype: hash of the base's weights in that format; None in folders that other
            programs wrote.
    """

    folder: Path
    base: str
    rank: int
    alpha: float
    rslora: bool
    targets: tuple[str, ...] | str
    base_sha256: str | None
    dtype: str | None

    def check_base(self, sha256: str, dtype: str) -> None:
        """Refuse other base weights than those the adapters were trained on.

        Raises:
            ConfigError: the base is loaded in another number format, so nothing can be compared.
            DataError: the base's weights differ.
        """
        if self.base_sha256 is None:
            return
        if dtype != self.dtype:
            raise ConfigError(
                f"{self.folder}: these adapters were trained on {self.base} in {self.dtype}, not "
                f"{dtype}; set policy.dtype = '{self.dtype}'"
            )
        if sha256 != self.base_sha256:
            raise DataError(
                f"{self.folder}: the base {self.base} has other weights (sha256 {sha256[:16]}) "
                f"than these adapters were trained on ({self.base_sha256[:16]}); give back the "
                "base they belong to"
            )


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds adapters instead of a whole model."""
    return (folder / SETTINGS).is_file()


def read_adapter_folder(folder: Path) -> AdapterFolder:
    """Read what a folder of adapters says of itself; `peft` is not needed for that.

    Raises:
        DataError: the files are damaged, no LoRA, or name no base.
    """
    try:
        found = json.loads((folder / SETTINGS).read_text())
        record = folder / BASE
        base = json.loads(record.read_text()) if record.is_file() else {}
        kind, name = found["peft_type"], found["base_model_name_or_path"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder}: not an adapter folder ({error!r})") from None
    if kind != "LORA" or not name:
        raise DataError(
            f"{folder / SETTINGS}: peft_type {kind}, base_model_name_or_path {name!r}; only LORA "
            "adapters that name their base can be loaded"
        )
    targets = found.get("target_modules")
    return AdapterFolder(
        folder=folder,
        base=str(name),
        rank=int(found["r"]),
        alpha=float(found["lora_alpha"]),
        rslora=bool(found.get("use_rslora", False)),
        targets=targets if isinstance(targets, str) else tuple(sorted(targets or ())),
        base_sha256=base.get("sha256"),
        dtype=base.get("dtype"),
    )


def need_peft(what: str) -> None:
    """Check that `peft` is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtraError(what, "lora")


def add_adapters(
    model: Any,
    *,
    rank: int,
    alpha: float,
    targets: str | Sequence[str],
    seed: int,
    dropout: float = 0.0,
    rslora: bool = False,
) -> Any:
    """Put adapters into `model`, in place, freeze the rest, and return peft's handle.

    A is drawn by a function of `seed` alone, B is 0: the model computes what it did before.
    Adapters are float32 whatever the model's format.

    Args:
        targets: names of matrices, or `all-linear`: all linear ones but the head.

    Raises:
        MissingExtraError: `peft` is not installed.
        ConfigError: no matrix has a target's name, or one is the head.
    """
    need_peft(f"adapters of rank {rank}")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=_names_of(model, targets),
        use_rslora=rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with _own_randomness(seed):
        handle = get_peft_model(model, config, autocast_adapter_dtype=True)
    return _checked(handle, model)


def continue_adapters(model: Any, found: AdapterFolder) -> Any:
    """Put a folder's adapters into its base model, in place, to be trained on; return the handle.

    Raises:
        MissingExtraError: `peft` is not installed.
        ConfigError: an adapter sits on the head.
        DataError: the folder does not fit the model.
    """
    need_peft(f"the adapters of {found.folder}")
    from peft import PeftModel

    try:
        with _own_randomness(0):
            handle = PeftModel.from_pretrained(
                model, str(found.folder), is_trainable=True, autocast_adapter_dtype=True
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise DataError(f"{found.folder}: does not fit {found.base}: {first}") from None
    return _checked(handle, model)


def adapter_seed(seed: int) -> int:
    """Return the seed of a run's adapters: a stream of its own, named for its purpose."""
    digest = hashlib.blake2b(f"cupel/{seed}/lora_init".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def switched_off(handle: Any) -> Iterator[None]:
    """Compute as the base model inside the block."""
    with handle.disable_adapter():
        yield


def merged_weights(handle: Any) -> dict[str, Tensor]:
    """Return the base model's weights under its own names with the adapters added in.

    Nothing is changed in place, so that base and adapters keep their bits.
    """
    from peft.tuners.lora import LoraLayer

    model = handle.get_base_model()
    added = {
        f"{name}.base_layer.weight": module.get_delta_weight(_NAME)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    weights: dict[str, Tensor] = {}
    for name, value in model.named_parameters():
        if ".lora_" in name:
            continue
        delta = added.get(name)
        whole = value if delta is None else (value.float() + delta.float()).to(value.dtype)
        weights[name.replace(".base_layer.", ".")] = whole.detach()
    return weights


def save_adapters(folder: Path, handle: Any, *, base: str, base_sha256: str, dtype: str) -> None:
    """Write a folder that `peft` and Cupel load; `base` is remembered, not copied."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(handle, save_embedding_layers=False)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    settings = copy.copy(handle.peft_config[_NAME])
    name = str(Path(base).resolve()) if Path(base).is_dir() else base
    settings.base_model_name_or_path, settings.inference_mode = name, True
    if not isinstance(settings.target_modules, str):
        settings.target_modules = sorted(settings.target_modules)
    settings.save_pretrained(str(folder))
    record = {"model": name, "sha256": base_sha256, "dtype": dtype}
    (folder / BASE).write_text(json.dumps(record, indent=2) + "\n")


def load_adapters(folder: Path, handle: Any) -> None:
    """Restore the adapters that `save_adapters` wrote, bit for bit.

    Raises:
        DataError: a file is missing, damaged, or of other adapters.
    """
    from peft import get_peft_model_state_dict

    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder}: not saved adapters ({error})") from None
    own = get_peft_model_state_dict(handle, save_embedding_layers=False)
    have = {name: tuple(value.shape) for name, value in tensors.items()}
    want = {name: tuple(value.shape) for name, value in own.items()}
    if have != want:
        odd = sorted(have.items() ^ want.items())[0]
        raise DataError(f"{folder / WEIGHTS}: other adapters; first difference: {odd}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def target_names(handle: Any) -> list[str]:
    """Return the last names of the matrices that have an adapter."""
    from peft.tuners.lora import LoraLayer

    named = handle.get_base_model().named_modules()
    return sorted({n.rpartition(".")[2] for n, m in named if isinstance(m, LoraLayer)})


def _names_of(model: Any, targets: str | Sequence[str]) -> list[str]:
    """Return the names of the matrices that get an adapter."""
    head = model.get_output_embeddings()
    kinds = {
        name.rpartition(".")[2]: type(part).__name__
        for name, part in model.named_modules()
        if part is not head
    }
    linear = sorted(name for name, kind in kinds.items() if kind in ("Linear", "Conv1D"))
    if targets == "all-linear":
        return linear
    missing = [target for target in targets if target not in kinds]
    if missing or not targets:
        raise ConfigError(
            f"adapters on {', '.join(missing) or 'nothing'}: this {type(model).__name__} has no "
            f"such matrix besides its head; it has {', '.join(linear)}"
        )
    return sorted(targets)


def _checked(handle: Any, model: Any) -> Any:
    head = model.get_output_embeddings()
    if hasattr(head, "base_layer") or hasattr(head, "modules_to_save"):
        raise ConfigError(
            "adapters on the head are not supported: the scored passes apply the head a chunk at "
            "a time; leave it out of the targets, or merge the adapters (rank 0)"
        )
    return handle.eval()


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and give the caller's random state back after it.

    `peft` draws on the CPU, whatever device the model is on.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message)
        torch.default_generator.manual_seed(seed)
        yield
