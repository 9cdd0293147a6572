"""The settings of an rlvr run as flags, with the defaults a reader will really get.

Knows which short names the documented commands use. Refuses to hold a default of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cupel.cli.flags import config_flags, passed

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

SHORT_NAMES: Mapping[str, Sequence[str]] = {
    "evaluation.every": ["--eval-every"],
    "evaluation.problems": ["--eval-problems"],
    "problems.max_examples": ["--max-examples"],
    "problems.subjects": ["--subjects"],
    "policy.lora.rank": ["--lora-rank"],
    "policy.openai.base_url": ["--base-url"],
}
"""Flat names of nested settings, as in the documented commands."""

ARM_SETTINGS = ("algorithm", "advantage_mode", "transform_mode", "hicra_after_sepa")
"""What a condition's label stands for; the study commands take labels instead."""


def train_flags(
    *,
    without: Sequence[str] = (),
    of_torch: Mapping[str, Any] | None = None,
    of_all: Mapping[str, Any] | None = None,
) -> Callable[[CommandT], CommandT]:
    """Decorate a command with one option for every setting of a run.

    Args:
        without: settings that get no option.
        of_torch: the command's own defaults for a real language model (backend torch).
        of_all: the command's own defaults whatever the backend.
    """
    from cupel.rlvr.config import TrainConfig

    texts = default_texts(of_torch or {}) | {k: _word(v) for k, v in (of_all or {}).items()}
    return config_flags(TrainConfig, without=without, also=SHORT_NAMES, defaults=texts)


def default_texts(defaults: Mapping[str, Any]) -> dict[str, str]:
    """Say for each setting whose default depends on the backend what each backend gets."""
    from cupel.rlvr.config import BACKEND_DEFAULTS, TrainConfig

    by_backend = {backend: dict(_flat(BACKEND_DEFAULTS[backend])) for backend in ("tiny", "toy")}
    texts = {}
    for path in {*dict(_flat(defaults)), *by_backend["tiny"], *by_backend["toy"]}:
        torch = dict(_flat(defaults)).get(path, _field_default(TrainConfig, path))
        values = {"torch": torch}
        values |= {name: given[path] for name, given in by_backend.items() if path in given}
        texts[path] = _joined(values)
    return texts


def shared_settings(
    ctx: click.Context, config_file: Path | None, overrides: Sequence[str]
) -> dict[str, Any]:
    """Lay flags over `--set`, and both over the file; hold nothing that was not passed."""
    from cupel.config import apply_overrides, load_toml, merge

    data = load_toml(config_file) if config_file is not None else {}
    return merge(apply_overrides(data, overrides), passed(ctx))


def _flat(table: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    entries: list[tuple[str, Any]] = []
    for key, value in table.items():
        here = f"{path}.{key}" if path else key
        entries += _flat(value, here) if isinstance(value, Mapping) else [(here, value)]
    return entries


def _field_default(config_type: Any, path: str) -> Any:
    name, _, rest = path.partition(".")
    default = config_type.model_fields[name].get_default(call_default_factory=True)
    return _field_default(type(default), rest) if rest else default


def _joined(values: Mapping[str, Any]) -> str:
    words = {name: _word(value) for name, value in values.items()}
    if len(set(words.values())) == 1:
        return words["torch"]
    return ", ".join(f"{word} ({name})" for name, word in words.items())


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
