"""training_summary.json: which models a training left behind, by run id and seed.

Knows the documented keys, the raw map of paths that is accepted too, and our keys beside them.
Refuses to guess a base model, and to take a path that leads nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.config import validate
from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.teach.students.student import StudentConfig

SUMMARY = "training_summary.json"
META = "training_meta.json"
MATRIX = "training_matrix.json"
TINY_RECORD = "build.json"
"""What marks the folder of a built tiny model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """One trained model; `path` None for a run that left none."""

    run_id: str
    seed: int | None
    path: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What a training left behind.

    Attributes:
        models: seed by seed, in the file's order of run ids.
        student: what was trained, as its settings; None where no file says it.
        trained: task by id of every snapshot some run was trained on; None where no file says it.
    """

    models: tuple[TrainedModel, ...]
    student: StudentConfig | None
    trained: Mapping[str, str] | None

    @property
    def complete(self) -> tuple[TrainedModel, ...]:
        """The models that are there."""
        return tuple(model for model in self.models if model.path is not None)


def read_training_summary(path: Path) -> TrainingSummary:
    """Read training_summary.json, or a raw map from run ids to paths.

    Raises:
        DataError: the file is damaged, names no model, or a path that does not exist.
    """
    data = read_json(path)
    meta_path = path.with_name(META)
    meta = read_json(meta_path) if meta_path.is_file() else {}
    by_seed = data.get("model_paths_by_seed")
    if not isinstance(by_seed, dict):
        paths = data.get("model_paths", data)
        if not isinstance(paths, dict) or not all(isinstance(p, str) for p in paths.values()):
            raise DataError(
                f"{path}: expected 'model_paths' with a folder (or \"\") by run id; found "
                f"{', '.join(list(data)[:8]) or 'nothing'}"
            )
        by_seed = {"": paths}
    models = tuple(
        TrainedModel(
            run_id=run_id,
            seed=int(seed) if seed else None,
            path=_found(path, run_id, text) if text else None,
        )
        for seed, paths in by_seed.items()
        for run_id, text in paths.items()
    )
    if not models:
        raise DataError(f"{path}: no run in model_paths; nothing to evaluate")
    return TrainingSummary(
        models=models,
        student=_student(path, {**meta, **data}),
        trained=_trained(path, data),
    )


def base_student(model: str) -> StudentConfig:
    """Return the student that a base model's name means.

    `tiny` or "": the shipped one; a folder of a built tiny model: that one; any other folder or
    hub id: a Hugging Face model.
    """
    if model in ("", "tiny"):
        return StudentConfig()
    if (Path(model) / TINY_RECORD).is_file():
        return StudentConfig(model=model)
    return StudentConfig(backend="torch", model=model)


def _student(path: Path, data: Mapping[str, Any]) -> StudentConfig | None:
    if isinstance(data.get("student"), dict):
        return validate(StudentConfig, data["student"], where=f"{path}: student")
    model = data.get("base_model")
    return base_student(model) if isinstance(model, str) else None


def _trained(path: Path, data: Mapping[str, Any]) -> dict[str, str] | None:
    rows = data.get("trained_snapshots")
    if rows is None:
        return None
    if not isinstance(rows, dict) or not all(isinstance(task, str) for task in rows.values()):
        raise DataError(f"{path}: 'trained_snapshots' must give the task of each snapshot id")
    return rows


def _found(summary: Path, run_id: str, text: str) -> Path:
    """Return a model's folder: as written, or beside the summary when it was moved with it."""
    for candidate in (Path(text), summary.parent / text):
        if candidate.exists():
            return candidate
    raise DataError(
        f"{summary}: run {run_id}: no model at {text}, nor beside the summary; train it again, or "
        'give "" to leave it out'
    )
