"""The worked example of two conditions, as run folders: documented numbers in the legacy block."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.analysis import evaluate_significance, significance_markdown


def write_arm(root: Path, name: str, right: list[int], total: int) -> list[Path]:
    """Write one run a count with nothing but completions, as earlier systems did."""
    folders = []
    for index, count in enumerate(right):
        folder = root / f"{name}_s{101 + index}"
        (folder / "emergence").mkdir(parents=True)
        rows = [
            {
                "step": sample // 8,
                "prompt": f"problem {sample // 8}",
                "completion": "",
                "reward": float(sample < count),
                "num_tokens": 1,
                "metadata": {"correctness": sample < count},
            }
            for sample in range(total)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "emergence" / "generations.jsonl").write_text(text)
        folders.append(folder)
    return folders


def test_eight_seeds_of_128_completions(tmp_path: Path) -> None:
    baseline = write_arm(tmp_path, "hicra", [40, 35, 37, 38, 36, 39, 37, 36], 128)
    candidate = write_arm(tmp_path, "sepa", [30, 56, 31, 58, 33, 55, 25, 54], 128)
    report = evaluate_significance(baseline, candidate)
    block = report["metrics"]["correct_rate"]
    legacy = block["legacy"]
    assert legacy["counts"] == [[298, 1024], [342, 1024]]
    assert legacy["fisher_p"] == pytest.approx(0.04033, abs=5e-6)
    assert legacy["permutation_p"] == pytest.approx(0.0403, abs=5e-5)
    assert legacy["bootstrap_ci95"] == pytest.approx([0.003, 0.083], abs=2e-3)
    assert legacy["cohens_d"] == pytest.approx(0.0928, abs=1e-4)
    assert legacy["n_per_arm_80"] == pytest.approx(1825, abs=1)
    assert legacy["power_at_observed"] == pytest.approx(0.555, abs=5e-4)
    assert legacy["recommendation"] == "statistically_significant_improvement"
    assert report["recommendation"] == "insufficient_statistical_evidence"
    assert legacy["agreement"] is False
    assert block["design_effect"] > 2
    assert "(Fisher p = .0403) disagrees" in significance_markdown(report)


def test_sixteen_seeds_of_160_completions(tmp_path: Path) -> None:
    baseline = write_arm(tmp_path, "a", [1] * 12 + [0] * 4, 160)
    candidate = write_arm(tmp_path, "b", [0] * 3 + [2] * 5 + [1] * 7 + [0], 160)
    legacy = evaluate_significance(baseline, candidate)["metrics"]["correct_rate"]["legacy"]
    assert legacy["counts"] == [[12, 2560], [17, 2560]]
    assert legacy["fisher_p"] == pytest.approx(0.4570, abs=5e-5)
    assert legacy["n_per_arm_80"] == 23_175
    assert legacy["agreement"] is True
