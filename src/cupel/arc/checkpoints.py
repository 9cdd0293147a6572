"""What a checkpoint of a run holds, and taking a decoder out of one.

Knows two files: `weights.pt` (raw and averaged weights, the config and the architecture's hash)
and `training.pt` (optimizer, slots, item streams). Refuses to load weights into another
architecture, and to guess which weights a file holds.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cupel.arc.ema import Ema
from cupel.arc.model import ARCModel
from cupel.arc.model_config import CoreConfig, architecture, architecture_hash, model_architecture
from cupel.arc.slots import SlotPool
from cupel.config import Config, to_dict
from cupel.errors import DataError

WEIGHTS, TRAINING = "weights.pt", "training.pt"
_FORMAT = 1
Which = Literal["ema", "raw"]
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, OSError),
    *(LookupError, ValueError, TypeError, AttributeError),
)
"""What torch.load raises on bytes that are no checkpoint."""

_TRM_NAMES = {
    r"embed_tokens\.embedding_weight": "embed_tokens",
    r"lm_head\.weight": "lm_head",
    r"q_head\.(weight|bias)": r"q_head.\1",
    r"(H_init|L_init)": r"\1",
    r"L_level\.layers\.(\d+)\.self_attn\.qkv_proj\.weight": r"layers.\1.qkv",
    r"L_level\.layers\.(\d+)\.self_attn\.o_proj\.weight": r"layers.\1.out",
    r"L_level\.layers\.(\d+)\.mlp\.gate_up_proj\.weight": r"layers.\1.gate_up",
    r"L_level\.layers\.(\d+)\.mlp\.down_proj\.weight": r"layers.\1.down",
}
"""Names of TinyRecursiveModels' tensors, inside its inner model, and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLoad:
    """What was taken out of a checkpoint.

    Attributes:
        which: averaged ("ema") or raw weights; "unknown" for a file that does not say.
        loaded: names of the decoder's tensors that were set: all of them.
        dropped: names in the file that were left alone, such as encoders and puzzle embeddings.
    """

    which: str
    loaded: tuple[str, ...]
    dropped: tuple[str, ...]


def write_checkpoint(
    folder: Path,
    *,
    model: ARCModel,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    pools: Mapping[int, SlotPool],
    streams: Any,
    config: Config,
) -> None:
    """Write both files into a folder.

    Args:
        pools: by canvas side.
        streams: the item streams' state: plain data and tensors.
        config: the whole run's config, kept beside the weights.
    """
    weights = {
        "format": _FORMAT,
        "architecture": architecture(model.config.core),
        "architecture_hash": architecture_hash(model.config.core),
        "model": model_architecture(model.config),
        "config": to_dict(config),
        "raw": model.state_dict(),
        "ema": None if ema is None else ema.state(),
    }
    training = {
        "format": _FORMAT,
        "optimizer": optimizer.state_dict(),
        "pools": {side: pool.state() for side, pool in pools.items()},
        "streams": streams,
    }
    torch.save(weights, folder / WEIGHTS)
    torch.save(training, folder / TRAINING)


def restore_checkpoint(
    folder: Path,
    *,
    model: ARCModel,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    pools: Mapping[int, SlotPool],
) -> Any:
    """Go back to a checkpoint, exactly.

    Returns:
        The item streams' state, as given to `write_checkpoint`.

    Raises:
        DataError: the checkpoint is of another model, of other slots, or lacks an average that
            this run keeps.
    """
    weights, training = _read(folder / WEIGHTS), _read(folder / TRAINING)
    _refuse_difference(folder, weights["model"], model_architecture(model.config))
    if (weights["ema"] is None) != (ema is None):
        has = "no moving average" if weights["ema"] is None else "a moving average"
        raise DataError(f"{folder}: holds {has}; resume with the same 'ema' setting")
    if set(training["pools"]) != set(pools):
        sides = (sorted(training["pools"]), sorted(pools))
        raise DataError(f"{folder}: holds slots of sides {sides[0]}, this run has {sides[1]}")
    model.load_state_dict(weights["raw"])
    if ema is not None:
        ema.restore(weights["ema"])
    optimizer.load_state_dict(training["optimizer"])
    for side, pool in pools.items():
        pool.restore(training["pools"][side])
    return training["streams"]


def load_model_weights(folder: Path, model: ARCModel, *, which: Which) -> None:
    """Load a whole model's averaged or raw weights, for evaluation.

    Raises:
        DataError: the checkpoint is of another model, or has no average.
    """
    weights = _read(folder / WEIGHTS)
    _refuse_difference(folder, weights["model"], model_architecture(model.config))
    state = dict(weights["raw"])
    if which == "ema":
        state.update(_averaged(weights, folder))
    model.load_state_dict(state)


def load_decoder(
    path: Path,
    model: ARCModel,
    *,
    which: Which = "ema",
    architecture_of_file: CoreConfig | None = None,
) -> DecoderLoad:
    """Set the model's core to a trained one; the encoder and its gain stay as they are.

    Args:
        path: a `weights.pt`, a folder with one, or a bare state dict, whose names may be those of
            TinyRecursiveModels and carry the prefixes `_orig_mod.` and `module.`.
        which: averaged or raw weights, where the file holds both.
        architecture_of_file: what a bare state dict was trained as; it cannot say so itself.

    Raises:
        DataError: the file is of another architecture (the differing keys are named), does not
            say what it is, or lacks a tensor of the decoder.
    """
    path = path / WEIGHTS if path.is_dir() else path
    data = _read(path)
    if "architecture" in data:
        theirs, found = data["architecture"], str(which)
        state = dict(data["raw"])
        if which == "ema":
            state.update(_averaged(data, path))
    elif architecture_of_file is None:
        raise DataError(
            f"{path}: a bare state dict does not say its architecture (cycles, heads, positions); "
            "state it, or use a weights.pt written by Cupel"
        )
    else:
        theirs, found, state = architecture(architecture_of_file), "unknown", data
    _refuse_difference(path, theirs, architecture(model.config.core))
    return _set_core(path, model, state, found)


def _set_core(path: Path, model: ARCModel, state: Mapping[str, Tensor], which: str) -> DecoderLoad:
    ours = model.core.state_dict()
    taken, dropped = {}, []
    for name, value in state.items():
        target = _core_name(name)
        if target in ours:
            taken[target] = value
        else:
            dropped.append(name)
    missing = sorted(ours.keys() - taken.keys())
    shapes = [n for n, v in taken.items() if v.shape != ours[n].shape]
    if missing or shapes:
        wrong = [f"{n} is missing" for n in missing]
        wrong += [f"{n} is {tuple(taken[n].shape)}, not {tuple(ours[n].shape)}" for n in shapes]
        raise DataError(f"{path}: not a decoder of this architecture: {'; '.join(wrong[:5])}")
    model.core.load_state_dict({name: value.float() for name, value in taken.items()})
    return DecoderLoad(which=which, loaded=tuple(sorted(taken)), dropped=tuple(sorted(dropped)))


def _core_name(name: str) -> str | None:
    """Return our name, within the core, of a tensor in a state dict; None if it is no core's."""
    name = re.sub(r"(_orig_mod|module)\.", "", name)
    if name.startswith("core."):
        return name.removeprefix("core.")
    inner = re.fullmatch(r"(?:model\.)?inner\.(.+)", name)
    if inner is None:
        return None
    for pattern, ours in _TRM_NAMES.items():
        if re.fullmatch(pattern, inner[1]):
            return re.sub(pattern, ours, inner[1])
    return None


def _averaged(weights: Mapping[str, Any], where: Path) -> dict[str, Tensor]:
    if weights["ema"] is None:
        raise DataError(f"{where}: holds no averaged weights; ask for the raw ones ('raw')")
    average: dict[str, Tensor] = weights["ema"]
    return average


def _refuse_difference(where: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    given, wanted = _flat(theirs), _flat(ours)
    names = sorted(n for n in given.keys() | wanted.keys() if given.get(n) != wanted.get(n))
    if names:
        parts = [f"{n} = {given.get(n)} (this model: {wanted.get(n)})" for n in names]
        raise DataError(f"{where}: another architecture: {', '.join(parts)}; set these alike")


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a checkpoint folder holds {WEIGHTS}")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise DataError(f"{path}: not a checkpoint of plain tensors ({error})") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: holds a {type(data).__name__}, not a dictionary of tensors")
    return data
