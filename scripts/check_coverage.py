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
    "src/cupel/policy/openai_wire.py",
    "src/cupel/lab/estimate.py",
    "src/cupel/lab/plan.py",
    "src/cupel/lab/design.py",
    "src/cupel/lab/prospects.py",
    "src/cupel/lab/metrics.py",
    "src/cupel/config.py",
    "src/cupel/teach/uncertainty.py",
    "src/cupel/teach/leverage.py",
    "src/cupel/teach/patch_test.py",
    "src/cupel/teach/quadrants.py",
    "src/cupel/teach/depth.py",
    "src/cupel/teach/allocation.py",
    "src/cupel/teach/arms.py",
    "src/cupel/teach/stuckness.py",
    "src/cupel/teach/transfer.py",
    "src/cupel/teach/splits.py",
    "src/cupel/teach/prompts.py",
    "src/cupel/teach/labels.py",
    "src/cupel/teach/supervision.py",
    "src/cupel/teach/correlation.py",
    "src/cupel/teach/noise_ceiling.py",
    "src/cupel/teach/selection.py",
    "src/cupel/teach/prediction_metrics.py",
    "src/cupel/teach/features.py",
    "src/cupel/teach/patching.py",
    "src/cupel/teach/evaluation_gates.py",
    "src/cupel/teach/failures.py",
    "src/cupel/teach/anchors.py",
    "src/cupel/teach/student.py",
    "src/cupel/arc/augmentations.py",
    "src/cupel/arc/tokens.py",
    "src/cupel/arc/grids.py",
    "src/cupel/arc/voting.py",
    "src/cupel/arc/schedules.py",
    "src/cupel/arc/pictures.py",
    "src/cupel/arc/gates.py",
    "src/cupel/arc/health.py",
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
