"""What a training matrix leaves behind: training_matrix, training_summary and training_meta.

Knows run folders. Refuses to write anything that is not in them: a run that failed, or had nothing
to train on, is an empty path and no omission.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from cupel.lab.files import read_json, write_atomically, write_json
from cupel.lab.store import RunRecord, StudyRecord, read_study
from cupel.teach.evaluation.tables import BASE
from cupel.teach.training.matrix import run_settings
from cupel.teach.training.summary import MATRIX, META, SUMMARY

RECORD = "teach_matrix"
"""Key of the study's manifest under which the command's own facts are kept."""
MODEL = "model"

_SELECTION = {
    "quadrant": "quadrant_specific",
    "uniform": "uniform_random",
    "all": "all_quadrants",
}


def write_matrix_files(folder: Path) -> dict[str, Any]:
    """Write the three files into a study folder and return the summary.

    `model_paths` holds the models of the first seed, for readers that know one seed;
    `model_paths_by_seed` all of them. Paths are relative to the folder of the summary.

    Raises:
        DataError: the folder holds no study, or is damaged.
    """
    study = read_study(folder)
    record = dict(study.manifest.get(RECORD, {}))
    left_out: dict[str, str] = dict(record.get("left_out", {}))
    matrix = write_matrix(folder)
    by_seed = {
        str(seed): {row["run_id"]: _path_of(study, row["run_id"], seed) for row in matrix}
        for seed in study.study.seeds
    }
    first = by_seed[str(study.study.seeds[0])]
    settings = _settings(study)
    summary = {
        "n_runs": len(first),
        "n_completed": sum(bool(path) for path in first.values()),
        "model_paths": first,
        "base_model": settings["base_model"],
        "student": settings["student"],
        "seeds": list(study.study.seeds),
        "model_paths_by_seed": by_seed,
        "n_completed_by_seed": {
            seed: sum(bool(path) for path in paths.values()) for seed, paths in by_seed.items()
        },
        "failures": _failures(study, left_out),
        "trained_snapshots": _trained(study),
    }
    write_json(folder / SUMMARY, summary)
    write_json(
        folder / META,
        {
            "base_model": settings["base_model"],
            "labeled_snapshots": settings["labels"],
            "config_yaml": record.get("config_yaml"),
            "max_train_samples": record.get("max_train_samples"),
            "baseline_n_samples": record.get("baseline_n_samples"),
            "run_filter": record.get("run_filter"),
            "controls": record.get("controls", []),
            "student": settings["student"],
            "sft": settings["sft"],
        },
    )
    return summary


def write_matrix(folder: Path) -> list[dict[str, Any]]:
    """Write training_matrix.json of a planned study and return its rows: what each run is."""
    study = read_study(folder)
    left_out = dict(study.manifest.get(RECORD, {}).get("left_out", {}))
    matrix = [_matrix_row(study, label) for label in study.study.labels if label != BASE]
    matrix += [_left_out_row(name, reason) for name, reason in left_out.items()]
    rows = orjson.dumps(matrix, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(folder / MATRIX, rows)
    return matrix


def _left_out_row(name: str, reason: str) -> dict[str, Any]:
    config = run_settings(name, episodes="")
    rule = config["selection"]
    return {
        "run_id": name,
        "quadrant": rule.get("quadrant", "all"),
        "supervision": config["format"],
        "selection": _SELECTION.get(rule["rule"], rule["rule"]),
        "left_out": reason,
    }


def _matrix_row(study: StudyRecord, label: str) -> dict[str, Any]:
    config = _config(study, label)
    rule = config["selection"]
    return {
        "run_id": label,
        "quadrant": rule["quadrant"] or "all",
        "supervision": config["format"],
        "selection": _SELECTION.get(rule["rule"], rule["rule"]),
    }


def _path_of(study: StudyRecord, label: str, seed: int) -> str:
    if label not in study.study.labels:
        return ""
    run = study.run(label, seed)
    model = run.folder / MODEL
    return model.relative_to(study.folder).as_posix() if _is_complete(run, model) else ""


def _is_complete(run: RunRecord, model: Path) -> bool:
    return run.status == "done" and model.is_dir()


def _failures(study: StudyRecord, left_out: Mapping[str, str]) -> dict[str, str]:
    """Return why runs left no model, by run id and seed."""
    reasons = dict(left_out)
    for run in study.runs:
        if run.failure is not None and run.condition is not None:
            kind, message = run.failure.get("kind"), run.failure.get("message")
            reasons[f"{run.condition}_s{run.seed}"] = f"{kind}: {message}"
    return reasons


def _trained(study: StudyRecord) -> dict[str, str]:
    """Return the task of every snapshot that some complete run was trained on."""
    trained: dict[str, str] = {}
    for run in study.runs:
        path = run.folder / "run_config.json"
        if path.is_file():
            trained |= read_json(path).get("trained_snapshots", {})
    return dict(sorted(trained.items()))


def _settings(study: StudyRecord) -> dict[str, Any]:
    resolved = _config(study, study.study.labels[0])
    student = resolved["student"]
    return {
        "base_model": student["model"] or student["backend"],
        "student": student,
        "labels": resolved["labels"],
        "sft": resolved["sft"],
    }


def _config(study: StudyRecord, label: str) -> dict[str, Any]:
    """Return the resolved config of a condition, from the first run's own config.json."""
    run = study.run(label, study.study.seeds[0])
    resolved: dict[str, Any] = dict(run.config["resolved"])
    return resolved
