"""A training as others find it: its run folder, its settings, and one checkpoint in it.

Knows where `arc.train` leaves things. Refuses a checkpoint whose files are not those that were
written, and a folder that is no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cupel.arc.config import ArcTrainConfig
from cupel.config import validate
from cupel.errors import DataError
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.files import file_sha256, read_json

RECIPE_NAME = "arc.train"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """One checkpoint of a training.

    Attributes:
        run_folder: the training's run folder.
        folder: the checkpoint's folder in it.
        step: updates its weights had.
        config: what was trained.
    """

    run_folder: Path
    folder: Path
    step: int
    config: ArcTrainConfig


def find_checkpoint(path: Path) -> Path:
    """Return the folder of a checkpoint, given itself or the run folder (the newest whole one).

    Raises:
        DataError: there is none.
    """
    if (path / "state.json").is_file():
        return path
    if not (path / "config.json").is_file():
        raise DataError(
            f"{path}: no checkpoint and no run folder; name the folder of an arc.train run, or a "
            "step_N folder in its checkpoints"
        )
    checkpoints = Checkpoints(path / "checkpoints")
    newest = checkpoints.latest()
    if newest is None:
        why = "; ".join(checkpoints.damaged) or "it has none yet"
        raise DataError(f"{path}: no usable checkpoint ({why})")
    return newest.folder


def open_trained(path: Path) -> Trained:
    """Read the settings of a training and verify one checkpoint of it.

    Raises:
        DataError: no checkpoint, a damaged one, or one of another recipe.
    """
    folder = find_checkpoint(path)
    state = read_json(folder / "state.json")
    for name, digest in state["files"].items():
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise DataError(f"{folder}: {name} is missing, or was changed or damaged")
    run_folder = folder.parent.parent
    made = read_json(run_folder / "config.json")
    if made.get("recipe") != RECIPE_NAME:
        raise DataError(f"{run_folder}: a run of {made.get('recipe')}, not of {RECIPE_NAME}")
    return Trained(
        run_folder=run_folder,
        folder=folder,
        step=state["step"],
        config=validate(ArcTrainConfig, made["resolved"], where=str(run_folder / "config.json")),
    )
