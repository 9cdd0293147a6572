"""Weights and optimizer state on disk and as a hash, without pickles.

Knows parameter names and AdamW's three tensors a parameter. A saved folder is also a model
folder that the transformers library loads. Refuses a folder whose names or shapes differ from
the model's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cupel.errors import DataError

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"


def named_tensors(model: Any) -> dict[str, Tensor]:
    """Return parameters (tied ones once) by name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def weights_sha256(model: Any) -> str:
    """Hash names, dtypes, shapes and bytes of all parameters, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named_tensors(model).items()):
        flat = tensor.cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        digest.update(flat.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_model(folder: Path, model: Any) -> None:
    """Write weights and the model's config."""
    weights = {name: value.cpu().contiguous() for name, value in named_tensors(model).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(str(folder))


def save_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Write weights, the model's config, and the optimizer's moments."""
    save_model(folder, model)
    moments: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{name}|{key}"] = torch.as_tensor(value).cpu().contiguous()
    save_file(moments, folder / OPTIMIZER)


def load_state(folder: Path, model: Any, optimizer: torch.optim.Optimizer) -> None:
    """Restore what `save_state` wrote, bit for bit.

    Raises:
        DataError: a file is missing, damaged, or of another model.
    """
    try:
        weights = load_file(folder / WEIGHTS)
        moments = load_file(folder / OPTIMIZER)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder}: not a saved policy ({error})") from None
    parameters = dict(model.named_parameters())
    have = {name: tuple(value.shape) for name, value in weights.items()}
    want = {name: tuple(value.shape) for name, value in parameters.items()}
    if have != want:
        odd = sorted(have.items() ^ want.items())[0]
        raise DataError(f"{folder / WEIGHTS}: weights of another model; first difference: {odd}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    optimizer.state.clear()
    for key, value in moments.items():
        name, _, field = key.rpartition("|")
        parameter = parameters[name]
        kept = value if field == "step" and value.dim() == 0 else value.to(parameter.device)
        optimizer.state[parameter][field] = kept
