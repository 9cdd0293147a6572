"""The settings of an rlvr run as flags, with the defaults a reader will really get.

Knows which short names the documented commands use. Refuses to hold a default of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cupel.cli.app import Stop
from cupel.cli.flags import FieldOption, attach, config_flags, passed

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

SHORT_NAMES: Mapping[str, Sequence[str]] = {
    "evaluation.every": ["--eval-every"],
    "evaluation.problems": ["--eval-problems"],
    "problems.max_examples": ["--max-examples"],
    "problems.subjects": ["--subjects"],
    "policy.lora.rank": ["--lora-rank"],
}
"""Flat names of nested settings, as in the documented commands."""

BASE_URL = "base_url"
"""What `--base-url` is called until the backend says whose address it is."""

SERVED = ("openai", "tinker")
"""Backends that a server stands behind."""

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
    settings = config_flags(TrainConfig, without=without, also=SHORT_NAMES, defaults=texts)

    def decorate(command: CommandT) -> CommandT:
        return _with_base_url(settings(command))

    return decorate


def _with_base_url(command: CommandT) -> CommandT:
    option = FieldOption(
        ["--base-url", "field_base_url"],
        type=str,
        expose_value=False,
        help="Address of the server (backends openai and tinker)  "
        "[default: the hosted service (tinker), none (openai)]",
    )
    option.path = (BASE_URL,)
    return attach(command, option)


def default_texts(defaults: Mapping[str, Any]) -> dict[str, str]:
    """Say for each setting whose default depends on the backend what each backend gets.

    Args:
        defaults: of the command, for the backends of a real language model.
    """
    from cupel.rlvr.config import BACKEND_DEFAULTS, TrainConfig

    of_command = dict(_flat(defaults))
    laid = {name: dict(_flat(BACKEND_DEFAULTS[name])) for name in ("tinker", "tiny", "toy")}
    texts = {}
    for path in {*of_command, *(path for given in laid.values() for path in given)}:
        torch = of_command.get(path, _field_default(TrainConfig, path))
        values = {"torch": torch, "tinker": of_command.get(path, laid["tinker"].get(path, torch))}
        values |= {name: laid[name][path] for name in ("tiny", "toy") if path in laid[name]}
        texts[path] = _joined(values)
    return texts


def shared_settings(
    ctx: click.Context, config_file: Path | None, overrides: Sequence[str]
) -> dict[str, Any]:
    """Lay flags over `--set`, and both over the file; hold nothing that was not passed.

    Raises:
        Stop: `--base-url` with a backend that needs no server.
    """
    from cupel.config import apply_overrides, load_toml, merge

    data = load_toml(config_file) if config_file is not None else {}
    flags = passed(ctx)
    address = flags.pop(BASE_URL, None)
    shared = merge(apply_overrides(data, overrides), flags)
    if address is None:
        return shared
    backend = str(shared.get("backend", "tiny"))
    if backend not in SERVED:
        raise Stop(
            f"--base-url {address} with backend '{backend}', which needs no server; use --backend "
            "tinker or --backend openai, or leave it out"
        )
    return merge(shared, {"policy": {backend: {BASE_URL: address}}})


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
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(_word(value), []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return ", ".join(f"{word} ({', '.join(owners)})" for word, owners in names.items())


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)
