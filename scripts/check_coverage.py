"""Hold the pure modules to their coverage; print the rest for information."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

PURE = (
    "src/cupel/stats/",
    "src/cupel/rlvr/advantages.py",
    "src/cupel/rlvr/algorithms.py",
    "src/cupel/rlvr/batch_credit.py",
    "src/cupel/rlvr/backpressure.py",
    "src/cupel/rlvr/credit.py",
    "src/cupel/rlvr/planning.py",
    "src/cupel/rlvr/scaling_law.py",
    "src/cupel/rlvr/schedules.py",
    "src/cupel/rlvr/grading.py",
    "src/cupel/rlvr/perturbation.py",
    "src/cupel/rlvr/evaluation_rates.py",
    "src/cupel/policy/footprint.py",
    "src/cupel/policy/openai/wire.py",
    "src/cupel/policy/tinker/wire.py",
    "src/cupel/lab/estimate.py",
    "src/cupel/lab/plan.py",
    "src/cupel/lab/design.py",
    "src/cupel/lab/prospects.py",
    "src/cupel/lab/metrics.py",
    "src/cupel/config.py",
    "src/cupel/teach/labelling/uncertainty.py",
    "src/cupel/teach/labelling/leverage.py",
    "src/cupel/teach/labelling/patch_test.py",
    "src/cupel/teach/labelling/quadrants.py",
    "src/cupel/teach/labelling/depth.py",
    "src/cupel/teach/branches/allocation.py",
    "src/cupel/teach/branches/arms.py",
    "src/cupel/teach/mining/stuckness.py",
    "src/cupel/teach/evaluation/transfer.py",
    "src/cupel/teach/splits.py",
    "src/cupel/teach/students/prompts.py",
    "src/cupel/teach/labelling/labels.py",
    "src/cupel/teach/training/supervision.py",
    "src/cupel/teach/validation/correlation.py",
    "src/cupel/teach/prediction/noise_ceiling.py",
    "src/cupel/teach/selection/ranking.py",
    "src/cupel/teach/prediction/metrics.py",
    "src/cupel/teach/prediction/features.py",
    "src/cupel/teach/labelling/patching.py",
    "src/cupel/teach/evaluation/gates.py",
    "src/cupel/teach/mining/failures.py",
    "src/cupel/teach/mining/anchors.py",
    "src/cupel/teach/students/student.py",
    "src/cupel/arc/augmentations.py",
    "src/cupel/arc/tokens.py",
    "src/cupel/arc/grids.py",
    "src/cupel/arc/voting.py",
    "src/cupel/arc/schedules.py",
    "src/cupel/arc/pictures.py",
    "src/cupel/arc/gates.py",
    "src/cupel/arc/health.py",
    "src/cupel/report/viewer/selection.py",
)
LEAST = 0.90


def main() -> int:
    """Return 1 when the pure modules fall under the least coverage."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        subprocess.run(
            [sys.executable, "-m", "coverage", "json", "-q", "-o", str(path)], check=True
        )
        files = json.loads(path.read_text())["files"]
    pure = {name: data["summary"] for name, data in files.items() if name.startswith(PURE)}
    covered = sum(summary["covered_lines"] for summary in pure.values())
    lines = sum(summary["num_statements"] for summary in pure.values())
    total = sum(data["summary"]["covered_lines"] for data in files.values())
    statements = sum(data["summary"]["num_statements"] for data in files.values())
    print(
        f"pure modules: {covered}/{lines} lines covered = {covered / lines:.1%} (least {LEAST:.0%})"
    )
    print(f"whole package: {total / statements:.1%}")
    return 0 if covered / lines >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
