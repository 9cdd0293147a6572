"""Weights and optimizer state on disk and as a hash, without pickles.

Knows parameter names and AdamW's three tensors a parameter. A saved folder is also a model
folder that the transformers library loads. Refuses a folder whose names or shapes differ from
the model's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cupel.errors import DataError
from cupel.policy.layout import REPLICATED, Layout
from cupel.policy.optimizer import moments, restore_moments

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


def weights_sha256(model: Any, layout: Layout = REPLICATED) -> str:
    """Hash names, dtypes, shapes and bytes of all parameters, in name order."""
    return tensors_sha256(dict(model.named_parameters()), layout=layout)


def tensors_sha256(
    tensors: Mapping[str, Tensor], *, over: str = "", layout: Layout = REPLICATED
) -> str:
    """Hash tensors as `weights_sha256` does, behind the text `over`."""
    digest = hashlib.sha256(over.encode())
    for name, tensor in sorted(tensors.items()):
        flat = layout.weight(tensor).cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        digest.update(flat.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_model(
    folder: Path,
    model: Any,
    weights: Mapping[str, Tensor] | None = None,
    layout: Layout = REPLICATED,
) -> None:
    """Write weights and the model's config.

    Args:
        weights: in place of the model's own, under the same names.
    """
    found = dict(model.named_parameters()) if weights is None else weights
    held = {name: layout.weight(value).cpu().contiguous() for name, value in found.items()}
    save_file(held, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(str(folder))
    generation: Any = getattr(model, "generation_config", None)
    if getattr(generation, "eos_token_id", None) not in (None, model.config.eos_token_id):
        generation.save_pretrained(str(folder))  # the ids that end a completion


def save_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write weights, the model's config, and the optimizer's moments."""
    save_model(folder, model)
    save_file(moments(dict(model.named_parameters()), optimizer), folder / OPTIMIZER)


def load_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Restore what `save_state` wrote, bit for bit.

    Raises:
        DataError: a file is missing, damaged, or of another model.
    """
    tensors = read_optimizer(folder)
    load_weights(folder, model)
    parameters = dict(model.named_parameters())
    restore_moments(parameters, optimizer, tensors, where=str(folder / OPTIMIZER))


def read_optimizer(folder: Path) -> dict[str, Tensor]:
    """Read an optimizer's tensors.

    Raises:
        DataError: the file is missing or damaged.
    """
    return _read(folder / OPTIMIZER)


def load_weights(folder: Path, model: Any, layout: Layout = REPLICATED) -> None:
    """Copy saved weights into the model; of divided ones, the own part.

    Raises:
        DataError: the file is missing, damaged, or of another model.
    """
    weights = _read(folder / WEIGHTS)
    parameters = dict(model.named_parameters())
    have = {name: (value.dtype, tuple(value.shape)) for name, value in weights.items()}
    want = {
        name: (layout.dtype if layout.divides(value) else value.dtype, tuple(value.shape))
        for name, value in parameters.items()
    }
    if have != want:
        odd = sorted(have.items() ^ want.items(), key=str)[0]
        raise DataError(f"{folder / WEIGHTS}: weights of another model; first difference: {odd}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            layout.own(parameter).copy_(layout.part(parameter, weights[name]))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path.parent}: not a saved policy ({error})") from None
    return found
