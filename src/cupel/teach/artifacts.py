"""The documented files of the pipeline, and what must stand in each of them.

Knows names, columns and keys. Refuses to judge a value: a file is there with its columns, or it
is named with what it lacks.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.errors import DataError
from cupel.teach.labelling.files import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A documented file: its path under the results, and the keys or first columns it has."""

    path: str
    names: Sequence[str]
    what: str


def _documented(path: str, names: str, what: str) -> Artifact:
    return Artifact(path=path, names=tuple(names.split()), what=what)


ARTIFACTS: Sequence[Artifact] = (
    _documented("phase0/rollouts.json", "config statistics results failures", "object"),
    _documented(
        "phase0/failure_snapshots.json",
        "id task_id step_idx trajectory_id env_state_b64 observation valid_actions agent_prefix "
        "last_action action_type teacher_hint trajectory_outcome timestamp",
        "rows",
    ),
    _documented("phase0/snapshots_expert.json", "id task_id env_state_b64", "rows"),
    *(
        _documented(
            f"phase1_labeling/labeled_snapshots.{ending}",
            "snapshot_id snapshot U uncertainty_features leverage cpt depth quadrant held_out "
            "split",
            "rows",
        )
        for ending in ("jsonl", "json")
    ),
    _documented(
        "phase1_labeling/labeling_metadata.json",
        "input policy env teacher labeling quadrants seed",
        "object",
    ),
    _documented(
        "phase1_labeling/quadrant_thresholds_auto.json", "U_threshold L_threshold method", "object"
    ),
    _documented("phase1b_micro/micro_training_results.json", "timestamp config results", "object"),
    _documented(
        "phase1b_micro/cpt_correlation.json",
        "pearson_r pearson_p n data_points spearman_rho",
        "object",
    ),
    _documented(
        "phase2_training/training_summary.json", "n_runs n_completed model_paths", "object"
    ),
    _documented("phase2_training/training_matrix.json", "run_id quadrant supervision", "rows"),
    _documented("phase2_training/training_meta.json", "base_model labeled_snapshots", "object"),
    _documented(
        "phase3_eval/overall_task_results.csv",
        "model n success_rate mean_reward mean_steps",
        "table",
    ),
    _documented(
        "phase3_eval/per_quadrant_results.csv",
        "model quadrant n success_rate mean_reward mean_steps",
        "table",
    ),
    _documented(
        "phase3_eval/transfer_matrix.csv",
        "model train_quadrant supervision eval_quadrant success_rate base_success delta_success",
        "table",
    ),
    _documented(
        "phase3_eval/retention_results.csv",
        "model n retention_success_rate base_retention_success_rate retention_drop",
        "table",
    ),
    _documented(
        "phase3_eval/stuckness_results.csv",
        "model dataset n mean_repeat_rate mean_loop_rate mean_steps",
        "table",
    ),
    _documented("phase3_eval/task_ids.json", "", "rows"),
    _documented("phase3_eval/snapshot_panel.json", "snapshot_id quadrant task_id step_idx", "rows"),
    _documented("phase3_eval/eval_config.json", "", "object"),
    _documented(
        "phase4_predictor/training_result.json",
        "best_epoch best_val_loss train_losses val_losses task_metrics",
        "object",
    ),
    _documented("phase4_predictor/evaluation_metrics.json", "regression_metrics", "object"),
    _documented("phase4_predictor/error_analysis.json", "", "object"),
    _documented("phase4_predictor/predictor/config.json", "", "object"),
    _documented("phase5_selection/selection_config.json", "", "object"),
    _documented(
        "phase5_selection/selection_comparison.csv",
        "method n_selected n_examples uncertainty_mean elp_mean training_summary_path",
        "table",
    ),
    _documented(
        "phase5_selection/selection_summary.json", "config n_input_records methods", "object"
    ),
    *(
        _documented(
            f"phase5_selection/{method}/training_summary.json", "model_paths base_model", "object"
        )
        for method in ("random", "entropy", "predictor", "oracle")
    ),
)
"""What a pilot leaves behind. An object has these keys, each row of a list has them, and a
table's first columns are these in this order."""


def lacking(root: Path, artifact: Artifact) -> str:
    """Return what is wrong with a documented file, or nothing.

    >>> lacking(Path("/nowhere"), ARTIFACTS[0])
    'missing'
    """
    path = root / artifact.path
    if not path.is_file():
        return "missing"
    try:
        match artifact.what:
            case "table":
                return _table(path, artifact.names)
            case "rows":
                return _rows(path, artifact.names)
            case _:
                return _keys(json.loads(path.read_bytes()), artifact.names)
    except (ValueError, DataError) as error:
        return str(error)


def _table(path: Path, names: Sequence[str]) -> str:
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2:
        return "no rows"
    first = rows[0][: len(names)]
    return "" if first == list(names) else f"first columns are {', '.join(first)}"


def _rows(path: Path, names: Sequence[str]) -> str:
    if not names:
        return "" if json.loads(path.read_bytes()) else "empty"
    rows: list[dict[str, Any]] = read_rows(path)
    if not rows:
        return "no rows"
    return next((problem for row in rows if (problem := _keys(row, names))), "")


def _keys(value: Any, names: Sequence[str]) -> str:
    if not isinstance(value, Mapping):
        return "no object"
    missing = [name for name in names if name not in value]
    return f"no {', '.join(missing)}" if missing else ""
