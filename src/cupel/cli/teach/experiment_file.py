"""The experiment's file of settings: TOML, JSON or YAML, in our words or in the documented ones.

Knows how the documented names of training settings map to ours. Refuses a section it does not
know; the teacher's section belongs to labelling and is passed over aloud.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupel.cli import console
from cupel.cli.app import Stop, suggestion

_SECTIONS = ("student", "sft", "training", "lora", "evaluation", "contrast_as", "hint_as")
_ELSEWHERE = ("teacher", "labeling", "leverage", "cpt", "uncertainty", "quadrants", "predictor")
"""Sections of other phases."""
_TRAINING = {
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "epochs": "epochs",
    "learning_rate": "learning_rate",
    "lr": "learning_rate",
    "batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "warmup_ratio": "warmup_ratio",
    "weight_decay": "weight_decay",
    "max_seq_length": "max_length",
    "max_length": "max_length",
    "lr_scheduler_type": "schedule",
    "schedule": "schedule",
}
_LORA = {
    "r": "lora_rank",
    "rank": "lora_rank",
    "alpha": "lora_alpha",
    "lora_alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_targets",
}


def read_experiment(path: Path) -> dict[str, Any]:
    """Return the settings of teach.finetune that a file holds.

    Raises:
        Stop: an unknown kind of file, section or key, or YAML without PyYAML.
    """
    data = _read(path)
    for name in data:
        if name not in (*_SECTIONS, *_ELSEWHERE):
            raise Stop(f"{path}: unknown section '{name}'; {suggestion(name, _SECTIONS)}")
    for name in _ELSEWHERE:
        if name in data:
            console.note(f"{path}: section '{name}' belongs to another phase; not used here")
    found = {
        name: data[name]
        for name in ("student", "evaluation", "contrast_as", "hint_as")
        if name in data
    }
    sft = dict(data.get("sft", {}))
    sft |= _renamed(path, "training", data.get("training", {}), _TRAINING)
    sft |= _renamed(path, "lora", data.get("lora", {}), _LORA)
    return found | ({"sft": sft} if sft else {})


def _read(path: Path) -> dict[str, Any]:
    from cupel.config import load_toml
    from cupel.lab.files import read_json

    match path.suffix:
        case ".toml":
            return load_toml(path)
        case ".json":
            return read_json(path)
        case ".yaml" | ".yml":
            return _read_yaml(path)
    raise Stop(f"{path}: settings are read from .toml, .json, .yaml or .yml")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError:
        raise Stop(
            f"{path}: reading YAML needs the package PyYAML; install it, or write the same "
            "settings as TOML"
        ) from None
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise Stop(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise Stop(f"{path}: expected sections such as training and lora")
    return found


def _renamed(path: Path, section: str, given: Any, names: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Stop(f"{path}: section '{section}' must hold settings, not a value")
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in names:
            raise Stop(f"{path}: unknown key '{section}.{key}'; {suggestion(key, list(names))}")
        found[names[key]] = value
    return found
