"""Judge two sets of run folders that hold nothing but the documented log files."""

import json
import tempfile
from pathlib import Path

import numpy as np

import cupel


def write_run(folder: Path, rate: float, rng: np.random.Generator) -> str:
    """Write one run of 20 steps x 64 completions in the documented format."""
    (folder / "emergence").mkdir(parents=True)
    with (
        (folder / "metrics.jsonl").open("w") as metrics,
        (folder / "emergence" / "generations.jsonl").open("w") as generations,
    ):
        for step in range(20):
            correct = (rng.random(64) < rate).tolist()
            metrics.write(json.dumps({"step": step, "correct_rate": sum(correct) / 64}) + "\n")
            for right in correct:
                row = {"step": step, "reward": float(right), "metadata": {"correctness": right}}
                generations.write(json.dumps(row) + "\n")
    return str(folder)


rng = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as root:
    run_noise = rng.normal(0, 0.02, size=(2, 8))
    baseline, candidate = (
        [
            write_run(Path(root) / f"{arm}_{i}", 0.30 + lift + noise, rng)
            for i, noise in enumerate(row)
        ]
        for arm, lift, row in (("baseline", 0.0, run_noise[0]), ("candidate", 0.06, run_noise[1]))
    )
    report = cupel.evaluate_significance(
        baseline_run_dirs=baseline,
        candidate_run_dirs=candidate,
        alpha=0.05,
        num_resamples=2_000,
        seed=0,
    )
print(cupel.significance_markdown(report))
