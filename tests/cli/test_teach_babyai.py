"""BabyAI from failures to evaluated models, the package's bot as expert and teacher."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cupel.teach.labelling.files import read_labels
from tests.cli.conftest import Invoke
from tests.teach.small_language import BABYAI, small_model

pytest.importorskip("minigrid", reason="the extra 'teach' (minigrid) is not installed")

PLACE = ("--environment", "babyai", "--level", "GoToLocal")
LABELS = "phase1/labeled_snapshots.jsonl"


def run(cupel: Invoke, *words: str, allowed: tuple[int, ...] = (0,)) -> None:
    result = cupel("teach", *words)
    assert result.exit_code in allowed, result.output


@pytest.mark.slow
def test_from_failures_to_evaluated_models(cupel: Invoke) -> None:
    small_model(Path("base"), more=BABYAI)
    student = ("--set", "student.backend=torch", "--set", "student.model=base")
    run(cupel, "expert", "--n-tasks", "30", "--max-steps", "15", "--output-dir", "expert", *PLACE)
    (file,) = Path("expert").glob("all_trajectories_*.json")
    told = json.loads(file.read_bytes())["statistics"]
    assert told["n_successes"] >= 0.95 * told["n_rollouts"]

    run(cupel, "rollouts", "--n-tasks", "60", "--max-steps", "15", "--output",
        "phase0/rollouts.json", *PLACE, *student)  # fmt: skip
    run(cupel, "mine", "--rollouts", "phase0/rollouts.json", "--output",
        "phase0/failure_snapshots.json", "--max-snapshots", "60")  # fmt: skip
    run(cupel, "label", "--snapshots", "phase0/failure_snapshots.json", "--output-dir", "phase1",
        "--max-steps", "15", "--skip-api", "--assign-quadrants", "--estimate", "monte_carlo",
        "--threshold-method", "manual", "--U-threshold", "1.0", "--L-threshold", "0.05",
        "--min-per-quadrant", "1", *PLACE, *student, allowed=(0, 1))  # fmt: skip
    labels = read_labels(Path(LABELS))
    levers = [label.leverage for label in labels if label.leverage is not None]
    assert len(levers) > 20
    assert sum(lever.p_expert.value for lever in levers) > 0.9 * len(levers)
    assert all(label.hint is not None and "expert" in label.hint.teacher for label in labels)

    run(cupel, "train", "--labeled-snapshots", LABELS, "--base-model", "base", "--output-dir",
        "phase2", "--run-ids", "B1_uniform,B2_all", "--seeds", "1", "--max-steps", "15",
        "--n-tasks", "6", "--n-snapshots-per-quadrant", "2", "--set", "sft.lora_rank=0",
        "--set", "sft.epochs=2", "--set", "sft.learning_rate=1e-3", "--executor", "inline",
        "--no-figures", *PLACE)  # fmt: skip
    run(cupel, "evaluate", "--training-summary", "phase2/training_summary.json",
        "--labeled-snapshots", LABELS, "--output-dir", "phase3", "--n-tasks", "8",
        "--n-snapshots-per-quadrant", "2", "--max-steps", "15", *PLACE)  # fmt: skip
    with Path("phase3/overall_task_results.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["model"] for row in rows] == ["BASE", "B1_uniform", "B2_all"]
    assert all(int(row["n"]) == 8 and 0 <= float(row["success_rate"]) <= 1 for row in rows)
