"""A training as others find it: its run folder, its settings, and the checkpoints it kept.

Knows where `rlvr.train` leaves things. Refuses a checkpoint whose files are not those that were
written, and a folder that is no training. Needs no torch: nothing is loaded here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cupel.config import validate
from cupel.errors import DataError
from cupel.lab.checkpoint import Checkpoints, read_checkpoint
from cupel.lab.files import read_json
from cupel.rlvr.config import TrainConfig

RECIPE_NAME = "rlvr.train"
_STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The run folder of a training: what was trained, and with which seed."""

    folder: Path
    seed: int
    config: TrainConfig


def is_checkpoint(path: Path) -> bool:
    """Say whether a folder is one checkpoint of a run."""
    return (path / _STATE).is_file()


def recipe_of(path: Path) -> str | None:
    """Return the recipe of a run folder; None where the folder is no run of Cupel."""
    if not (path / "config.json").is_file() or not (path / "run.json").is_file():
        return None
    return str(read_json(path / "config.json").get("recipe"))


def open_training(folder: Path) -> Training:
    """Read the settings of a training.

    Raises:
        DataError: the folder holds no run, or one of another recipe.
    """
    recipe = recipe_of(folder)
    if recipe != RECIPE_NAME:
        what = "no run folder" if recipe is None else f"a run of {recipe}"
        raise DataError(
            f"{folder}: {what}; name the folder of an {RECIPE_NAME} run, or a step_N folder in "
            "its checkpoints"
        )
    made = read_json(folder / "config.json")
    where = str(folder / "config.json")
    return Training(
        folder=folder,
        seed=int(made["seed"]),
        config=validate(TrainConfig, made["resolved"], where=where),
    )


def training_of(checkpoint: Path) -> Training:
    """Read the settings of the training that a checkpoint folder lies in; raises as above."""
    return open_training(checkpoint.parent.parent)


def kept_checkpoints(training: Training) -> dict[int, Path]:
    """Return the checkpoints on disk by step, oldest first.

    Raises:
        DataError: there is none, and why.
    """
    kept = Checkpoints(training.folder / "checkpoints").kept()
    if kept:
        return {int(folder.name.removeprefix("step_")): folder for folder in kept}
    every = training.config.save_every
    why = (
        "it was trained with save_every = 0; train again with save_every > 0"
        if every == 0
        else f"none is written yet (save_every = {every}, max_steps = {training.config.max_steps})"
    )
    raise DataError(
        f"{training.folder} kept no checkpoint: {why}, or evaluate its start with --checkpoint 0"
    )


def find_checkpoint(path: Path, step: int | None = None) -> Path:
    """Return the folder of a checkpoint, given itself or its run folder.

    Args:
        step: updates it must have had; None: the newest.

    Raises:
        DataError: there is none, or none of that step (names those there are).
    """
    if is_checkpoint(path):
        return path
    kept = kept_checkpoints(open_training(path))
    if step is None:
        return list(kept.values())[-1]
    if step not in kept:
        there = ", ".join(str(known) for known in kept)
        raise DataError(
            f"{path}: no checkpoint of step {step}; it kept those of {there} (the newest two stay)"
        )
    return kept[step]


def seal_of(checkpoint: Path) -> str:
    """Verify a checkpoint and return the hash under which all its files are sealed.

    Raises:
        DataError: a file is missing, or was changed or damaged.
    """
    read_checkpoint(checkpoint)
    return str(read_json(checkpoint / _STATE)["sha256"])
