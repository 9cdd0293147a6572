"""Options that the phases' commands share.

Knows their names and help. Refuses to know what a phase does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cupel.cli import console
from cupel.cli.app import Stop
from cupel.cli.source import device_option, threads_option

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def environment_options(command: CommandT) -> CommandT:
    """Decorate a command with where its tasks live."""
    for option in (
        click.option(
            "--mock-env",
            is_flag=True,
            help="The built-in shop, as --environment shop: no data and no download needed.",
        ),
        click.option("--level", help="Level of the environment [default: its own]."),
        click.option("--environment", help="shop, babyai, textworld, webshop  [default: shop]."),
    ):
        command = option(command)
    return command


def machine_options(command: CommandT) -> CommandT:
    """Decorate a command with seed and machine."""
    for option in (
        threads_option,
        device_option,
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=42,
            show_default=True,
            help="Seed of everything random.",
        ),
    ):
        command = option(command)
    return command


def environment_settings(
    environment: str | None, level: str | None, mock_env: bool, **more: Any
) -> dict[str, Any]:
    """Return the environment's settings as they were passed; `--mock-env` is said aloud.

    Raises:
        Stop: `--mock-env` beside another environment.
    """
    if mock_env:
        if environment not in (None, "shop"):
            raise Stop(
                f"--mock-env is the built-in shop; it contradicts --environment {environment}"
            )
        environment = "shop"
        console.note(
            "--mock-env: the built-in shop, a real environment with real dead ends; nothing is "
            "faked"
        )
    given = {"name": environment, "level": level, **more}
    return {key: value for key, value in given.items() if value is not None}


def run_folder_of(output: Path) -> Path:
    """Return the run folder that stands beside a file: results/rollouts.json, results/rollouts/.

    Raises:
        Stop: the file has no ending, so it could not stand beside its folder.
    """
    if not output.suffix:
        raise Stop(f"--output {output}: give a file, e.g. {output}.json; its folder is {output}/")
    return output.with_suffix("")


def student_settings(model_path: str | None) -> dict[str, Any]:
    """Return the student that `--model-path` names: tiny, uniform, a model folder or a hub id."""
    if model_path is None:
        return {}
    if model_path in ("tiny", "uniform"):
        return {"backend": model_path}
    return {"backend": "torch", "model": model_path}


def task_seeds(text: str) -> list[int]:
    """Read `--task-ids`: seeds or task names, comma-separated, or a file with a JSON list.

    Raises:
        Stop: names the entry that is neither.
    """
    import json

    path = Path(text)
    entries: Sequence[Any] = [part.strip() for part in text.split(",")]
    if path.suffix == ".json":
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Stop(f"--task-ids {text}: cannot be read: {error}") from None
        entries = content.get("task_ids", []) if isinstance(content, dict) else content
    seeds = []
    for entry in entries:
        number = str(entry).rpartition("-")[2]
        if not number.isascii() or not number.isdigit():
            raise Stop(
                f"--task-ids: '{entry}' is no task; give seeds or names, e.g. 3,5 or shop-000003"
            )
        seeds.append(int(number))
    return seeds


def environment_of(labels: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment asked for, with that of the first labelled snapshot beneath it.

    Raises:
        Stop: nothing is labelled, and no environment was asked for.
    """
    from cupel.teach.labelling.files import read_labels

    given = {name: value for name, value in asked.items() if value is not None}
    if "name" in given:
        return given
    rows = read_labels(labels)
    if not rows:
        raise Stop(f"{labels}: no labelled snapshots; label some with cupel teach label")
    snapshot = rows[0].moment.snapshot
    return {"name": snapshot.environment, "level": snapshot.level} | given
