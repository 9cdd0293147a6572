"""The shapes of evidence that misled earlier analyses: each is named for what it is.

Every case is made from its published counts. Where the published analysis erred (a regression
called insufficient, biased logs taken for all completions), the right answer is asserted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cupel.analysis import evaluate_litmus, evaluate_significance
from cupel.analysis.completions import GENERATIONS, read_completions
from cupel.errors import DataError
from cupel.lab.store import read_run
from cupel.lab.study import Endpoint
from tests.analysis.conftest import make_run, write_lines

ALL = Endpoint(over="all")
STEPS, SAMPLES = 20, 8


def spread(count: int, total: int) -> np.ndarray:
    """Return `count` ones among `total`, evenly spread."""
    return np.diff(np.floor(np.arange(total + 1) * count / total)) > 0


def arm(root: Path, name: str, counts: Sequence[int], *, steps: int = STEPS) -> list[Path]:
    """Write one run a count, in the layout of an earlier system."""
    return [
        make_run(
            root / f"{name}_s{seed}",
            right=spread(count, steps * SAMPLES).reshape(steps, 1, SAMPLES),
            old=True,
            grams=True,
        )
        for seed, count in enumerate(counts, start=1)
    ]


def even(total: int, runs: int, wobble: Sequence[int] = ()) -> list[int]:
    """Share a total among runs; `wobble` is added and must sum to zero."""
    shares = [total * (i + 1) // runs - total * i // runs for i in range(runs)]
    return [share + shift for share, shift in zip(shares, wobble or [0] * runs, strict=True)]


def judged(baseline: list[Path], candidate: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    report = evaluate_significance(baseline, candidate, endpoint=ALL)
    return report, report["metrics"]["correct_rate"]["legacy"]


def test_a_small_effect_of_eight_seeds_is_found_by_seed(tmp_path: Path) -> None:
    report, legacy = judged(
        arm(tmp_path, "b", even(241, 8)),
        arm(tmp_path, "c", even(311, 8, [3, -3, 2, -2, 4, -4, 1, -1])),
    )
    assert legacy["counts"] == [[241, 1280], [311, 1280]]
    assert legacy["fisher_p"] == pytest.approx(9.03e-4, rel=2e-3)
    assert legacy["n_per_arm_80"] == 887
    assert report["verdict"] == "improvement"


def test_clustered_seeds_take_back_what_pooling_found(tmp_path: Path) -> None:
    apart = [60, -50, 40, -45, 20, -25, 10, -10]
    report, legacy = judged(
        arm(tmp_path, "b", even(413, 8, apart[::-1])), arm(tmp_path, "c", even(480, 8, apart))
    )
    assert legacy["fisher_p"] == pytest.approx(0.00619, abs=5e-6)
    assert legacy["n_per_arm_80"] == 1301
    assert legacy["recommendation"] == "statistically_significant_improvement"
    assert report["verdict"] == "inconclusive"
    assert "(Fisher p = .0062) disagrees" in report["disagreement"]


def test_a_clear_improvement_has_its_true_p_value(tmp_path: Path) -> None:
    arms = arm(tmp_path, "b", even(282, 8)), arm(tmp_path, "c", even(537, 8))
    report, legacy = judged(*arms)
    assert legacy["fisher_p"] == pytest.approx(2.51e-27, rel=0.01)
    assert legacy["n_per_arm_80"] == 85
    assert report["verdict"] == "improvement"
    assert evaluate_litmus(*arms)["verdict"] == "CONFIRMED"


def test_a_regression_is_named(tmp_path: Path) -> None:
    arms = arm(tmp_path, "b", even(518, 8)), arm(tmp_path, "c", even(417, 8))
    report, legacy = judged(*arms)
    assert legacy["fisher_p"] == pytest.approx(4.00e-5, rel=0.01)
    assert report["verdict"] == "degradation"
    assert report["recommendation_retrain"] == "significant_degradation"
    assert report["recommendation_textpolicy"] == "significant_regression"
    assert "Degradation: " in report["sentence"]
    assert evaluate_litmus(*arms)["verdict"] == "FAILED"


def test_one_run_an_arm_compares_checkpoints(tmp_path: Path) -> None:
    report, legacy = judged(arm(tmp_path, "b", [3]), arm(tmp_path, "c", [3]))
    assert legacy["counts"] == [[3, 160], [3, 160]]
    assert legacy["fisher_p"] == 1.0
    assert legacy["n_per_arm_80"] is None
    assert report["reasons"][0] == "single_run_per_arm"


def test_twelve_against_seventeen_of_sixteen_seeds(tmp_path: Path) -> None:
    report, legacy = judged(
        arm(tmp_path, "b", even(12, 16)), arm(tmp_path, "c", even(17, 16)[::-1])
    )
    assert legacy["counts"] == [[12, 2560], [17, 2560]]
    assert legacy["fisher_p"] == pytest.approx(0.45697, abs=5e-6)
    assert legacy["n_per_arm_80"] == 23_175
    assert legacy["power_at_observed"] == pytest.approx(0.154, abs=2e-3)
    assert report["verdict"] == "inconclusive"


def drop_uniform_groups(run: Path) -> int:
    """Keep only the completions of mixed groups, as an earlier trainer logged them."""
    path = run / GENERATIONS
    lines = path.read_text().splitlines(keepends=True)
    groups = [lines[i : i + SAMPLES] for i in range(0, len(lines), SAMPLES)]
    mixed = [
        group
        for group in groups
        if len({json.loads(line)["metadata"]["correctness"] for line in group}) == 2
    ]
    path.write_text("".join(line for group in mixed for line in group))
    return SAMPLES * len(mixed)


def test_a_logged_subset_is_flagged_and_not_taken_for_all(tmp_path: Path) -> None:
    counts = {"b": [20, 70, 30, 60, 25, 65, 80, 10], "c": [40, 90, 50, 80, 45, 85, 95, 35]}
    arms = []
    for name, of_arm in counts.items():
        runs = []
        for seed, count in enumerate(of_arm, start=1):
            right = np.arange(160).reshape(STEPS, 1, SAMPLES) < count
            runs.append(make_run(tmp_path / f"{name}_s{seed}", right=right, old=True))
        arms.append(runs)
    whole, _ = judged(*arms)
    logged = {run.name: drop_uniform_groups(run) for runs in arms for run in runs}
    report, legacy = judged(*arms)
    assert max(logged.values()) < 160
    assert legacy["counts"] == [[sum(counts["b"]), 1280], [sum(counts["c"]), 1280]]
    assert report["verdict"] == whole["verdict"]
    flagged = next(note for note in report["notes"] if "wrote down fewer completions" in note)
    assert flagged.startswith("16 run(s)")
    assert all(f"{name} {number} of 160" in flagged for name, number in logged.items())


def test_constant_runs_without_metadata_or_grams_decide_nothing(tmp_path: Path) -> None:
    arms = []
    for name in ("b", "c"):
        run = make_run(tmp_path / f"{name}_s1", right=np.zeros((8, 1, 8), dtype=bool), old=True)
        path = run / GENERATIONS
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            del row["metadata"]
        write_lines(path, rows)
        arms.append([run])
    report, legacy = judged(*arms)
    assert legacy["counts"] == [[0, 64], [0, 64]]
    assert legacy["fisher_p"] == 1.0
    assert report["verdict"] == "inconclusive"
    assert any("a reward of 0.99 or more counts as right" in note for note in report["notes"])
    litmus = evaluate_litmus(*arms)
    assert litmus["verdict"] == "INCONCLUSIVE"
    assert len(litmus["evidence_failures"]) == 2


def test_logged_correctness_wins_over_the_reward(tmp_path: Path) -> None:
    run = make_run(tmp_path / "b_s1", right=spread(32, 64).reshape(8, 1, 8), old=True)
    path = run / GENERATIONS
    path.write_text(path.read_text().replace('"reward": 1.0', '"reward": 0.5'))
    completions = read_completions(read_run(run))
    assert completions is not None
    assert completions.counts == (32, 64)
    assert set(completions.reward_N.tolist()) == {0.0, 0.5}


STEPS_FILE = "emergence/steps.jsonl"


@pytest.mark.parametrize(
    ("stream", "old", "new", "says"),
    [
        (GENERATIONS, '"reward": 0.0', '"reward": NaN', "generations.jsonl:1: not strict JSON"),
        (
            STEPS_FILE,
            '"mean_reward": 0.',
            '"mean_reward": NaN, "x": 0.',
            "steps.jsonl:1: not strict",
        ),
        (STEPS_FILE, '"step": 1,', '"step": 0,', "step 0 was already written on line 1"),
        (STEPS_FILE, '"step": 1,', '"step": null,', "step is None; expected a whole number"),
        (
            GENERATIONS,
            '"correctness": true',
            '"correctness": "yes"',
            "expected true, false or null",
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, stream: str, old: str, new: str, says: str) -> None:
    arms = arm(tmp_path, "b", [80, 80]), arm(tmp_path, "c", [90, 90])
    path = arms[1][1] / stream
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        evaluate_significance(*arms, endpoint=ALL)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("stream", [GENERATIONS, STEPS_FILE])
def test_a_truncated_tail_is_named(tmp_path: Path, stream: str) -> None:
    arms = arm(tmp_path, "b", [80, 80]), arm(tmp_path, "c", [90, 90])
    path = arms[0][0] / stream
    path.write_bytes(path.read_bytes()[:-15])
    with pytest.raises(DataError, match=r"jsonl:\d+: truncated \(no newline at its end\)"):
        evaluate_significance(*arms, endpoint=ALL)


def test_a_null_reward_stays_missing_and_is_told(tmp_path: Path) -> None:
    arms = arm(tmp_path, "b", [80, 80]), arm(tmp_path, "c", [90, 90])
    path = arms[0][0] / GENERATIONS
    path.write_text(path.read_text().replace('"reward": 0.0', '"reward": null', 2))
    report = evaluate_significance(*arms, endpoint=ALL)
    assert report["metrics"]["mean_reward"]["legacy"]["n"] == [318, 320]
    assert "2 completion(s) hold no reward and were left out of its means." in report["notes"]


def test_a_mistyped_folder_is_an_error(tmp_path: Path) -> None:
    arms = arm(tmp_path, "b", [80, 80]), arm(tmp_path, "c", [90, 90])
    with pytest.raises(DataError, match=r"b_s3: no such folder.*did you mean"):
        evaluate_significance([tmp_path / "b_s3"], arms[1])
