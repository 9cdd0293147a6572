"""What `cupel arc train` and `cupel arc overfit` share: settings, run folder, execution.

Knows where settings come from and which wins: `key=value`, then `--config`, then a preset.
Refuses to know what a setting does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from cupel.cli.source import device_option, json_option, threads_option

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

ROOT = Path("logs/arc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and with which seed a training runs, as passed."""

    log_dir: Path | None
    seed: int
    device: str
    threads: int


def training_options(command: CommandT) -> CommandT:
    """Decorate a command that trains with its words and options."""
    for option in (
        json_option,
        threads_option,
        device_option,
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of everything random; seed=N says the same.",
        ),
        click.option(
            "--log-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help=f"Run folder [default: {ROOT}/<project_name>/<run_name>].",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="TOML file of settings; key=value wins over it.",
        ),
        click.argument("words", nargs=-1, metavar="[KEY=VALUE]..."),
    ):
        command = option(command)
    return command


def train_run(
    base: Mapping[str, Any],
    config_file: Path | None,
    words: Sequence[str],
    machine: Machine,
    *,
    default_name: str,
) -> tuple[Path, Mapping[str, Any]]:
    """Train, or continue or skip what is in the run folder; return the folder and the result.

    Args:
        base: settings of a preset, which everything else wins over.
        default_name: name of the run folder where `run_name` is not given.

    Started by torchrun, it is one of the processes that train together.

    Raises:
        UsageError: bad settings, or a folder that holds another run.
        RunError: the run failed.
    """
    from cupel.arc.config import ArcTrainConfig
    from cupel.cli.arc.overrides import read_overrides
    from cupel.cli.teach.phase import run_phase
    from cupel.config import load_toml, merge

    given = read_overrides(words, ArcTrainConfig)
    settings = merge(base, load_toml(config_file) if config_file is not None else {})
    settings = merge(settings, given.settings)
    folder = machine.log_dir or ROOT.joinpath(
        *([given.project] if given.project else []), given.run or default_name
    )
    seed = machine.seed if given.seed is None else given.seed
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return folder, _train_as_one_of_many(settings, folder, seed, machine)
    values = run_phase(
        "arc.train",
        settings,
        folder=folder,
        seed=seed,
        device=machine.device,
        threads=machine.threads,
    )
    return folder, values


def _train_as_one_of_many(
    settings: Mapping[str, Any], folder: Path, seed: int, machine: Machine
) -> Mapping[str, Any]:
    """Train with the processes that torchrun started; all but the first leave here.

    Raises:
        RunError: the run failed.
    """
    from cupel.arc.launch import launch
    from cupel.errors import RunError
    from cupel.lab.store import read_run

    status = launch(
        settings, folder=folder, seed=seed, device=machine.device, threads=machine.threads
    )
    if status == "failed":
        raise RunError(f"{folder}: the run failed; run.json in it says why")
    if os.environ.get("RANK", "0") != "0":
        raise click.exceptions.Exit(0)
    values: Mapping[str, Any] = (read_run(folder).result or {}).get("values", {})
    return values
