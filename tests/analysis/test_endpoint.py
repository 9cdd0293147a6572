"""Windows by step value, missing values, and what stands for a failed run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cupel.analysis import align_curves, outcomes, read_series
from cupel.analysis.endpoint import observe, window
from cupel.errors import DataError
from cupel.lab.store import read_run
from cupel.lab.study import Endpoint


def kept(over: str, steps: list[int], *, evaluation: bool = False) -> list[int]:
    return [step for step in steps if window(over, steps, evaluation=evaluation)(step)]


def test_windows_select_by_step_value() -> None:
    twenty = list(range(20))
    assert kept("last 20%", twenty) == [16, 17, 18, 19]
    assert kept("last 20%", list(range(1, 21))) == [17, 18, 19, 20]
    assert kept("last", twenty) == [19]
    assert kept("all", twenty) == twenty
    assert kept("steps 4:7", twenty) == [4, 5, 6]
    assert kept("last 20%", [0, 10, 20, 80, 90, 100], evaluation=True) == [90, 100]
    assert kept("last 5%", [0, 1, 2]) == [2]


def test_a_gap_in_the_steps_moves_nothing(tmp_path: Path, run_at) -> None:
    run_at(tmp_path / "r", seed=1, steps=10)
    path = tmp_path / "r" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    kept_rows = [row for row in rows if row["step"] != 3]
    path.write_text("".join(json.dumps(row) + "\n" for row in reversed(kept_rows)))
    outcome = observe(read_run(tmp_path / "r"), Endpoint())
    expected = np.mean([row["correct_rate"] for row in rows if row["step"] >= 8])
    assert outcome.value == pytest.approx(expected)
    assert (outcome.steps, outcome.last_step) == (2, 9)


def test_missing_is_not_zero(tmp_path: Path, run_at) -> None:
    run_at(tmp_path / "r", seed=1, right=np.ones((10, 2, 4), dtype=bool))
    path = tmp_path / "r" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"step": 9, ', '"step": 9, "correct_rateX": 0, '))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[9]["correct_rate"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = observe(read_run(tmp_path / "r"), Endpoint())
    assert (outcome.value, outcome.steps, outcome.missing) == (1.0, 1, 1)
    for row in rows:
        row["correct_rate"] = None
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="correct_rate has no value over 'last 20%'"):
        observe(read_run(tmp_path / "r"), Endpoint())


def test_evaluations_and_other_streams(tmp_path: Path, run_at) -> None:
    run_at(tmp_path / "r", seed=1, evaluations={0: 0.1, 5: 0.2, 10: 0.4})
    run = read_run(tmp_path / "r")
    assert observe(run, Endpoint(metric="eval/accuracy", over="last")).value == 0.4
    with pytest.raises(DataError, match="did you mean 'accuracy'"):
        read_series(run, "eval/acuracy")
    with pytest.raises(DataError, match="did you mean 'correct_rate'"):
        read_series(run, "corect_rate")


def test_old_folders_are_read_from_steps_or_completions(tmp_path: Path, run_at) -> None:
    run_at(tmp_path / "new", seed=3)
    run_at(tmp_path / "old", seed=3, old=True)
    new = read_series(read_run(tmp_path / "new"), "correct_rate")
    old = read_series(read_run(tmp_path / "old"), "correct_rate")
    assert old.values == new.values
    assert (new.source, old.source) == ("metrics.jsonl", "emergence/steps.jsonl")
    (tmp_path / "old" / "emergence" / "steps.jsonl").unlink()
    bare = read_series(read_run(tmp_path / "old"), "correct_rate")
    assert bare.source == "emergence/generations.jsonl"
    assert bare.values == pytest.approx(new.values)


def test_a_run_that_diverged_carries_its_last_value_over_the_planned_window(
    tmp_path: Path, run_at
) -> None:
    failure = {"kind": "algorithmic", "message": "loss is nan"}
    full = run_at(tmp_path / "a", seed=1, right=np.ones((10, 2, 4), dtype=bool))
    half = np.zeros((5, 2, 4), dtype=bool)
    half[4, 0] = True
    short = run_at(tmp_path / "b", seed=2, right=half, status="failed", failure=failure)
    runs = [read_run(full), read_run(short)]
    carried = outcomes(runs, Endpoint(over="steps 4:10"))[1]
    assert (carried.value, carried.origin, carried.steps, carried.missing) == (
        0.5,
        "carried_forward",
        1,
        5,
    )
    worst = outcomes(runs, Endpoint(), failure="worst", failure_value=-1.0)[1]
    assert (worst.value, worst.origin) == (-1.0, "worst")


def test_the_machines_failure_is_no_outcome(tmp_path: Path, run_at) -> None:
    full = run_at(tmp_path / "a", seed=1)
    lost = run_at(
        tmp_path / "b", seed=2, status="failed", failure={"kind": "infrastructure", "message": "x"}
    )
    runs = [read_run(full), read_run(lost)]
    assert [one.origin for one in outcomes(runs, Endpoint())] == ["observed", "none"]
    with pytest.raises(DataError, match=r"no finished run to judge \(states: failed\)"):
        outcomes(runs[1:], Endpoint())


def test_curves_align_by_step_with_gaps(tmp_path: Path, run_at) -> None:
    run_at(tmp_path / "a", seed=1, right=np.ones((3, 2, 4), dtype=bool))
    run_at(tmp_path / "b", seed=2, right=np.zeros((5, 2, 4), dtype=bool))
    curves = align_curves([read_run(tmp_path / "a"), read_run(tmp_path / "b")], "correct_rate")
    assert curves.steps_T.tolist() == [0, 1, 2, 3, 4]
    assert curves.count_T.tolist() == [2, 2, 2, 1, 1]
    assert curves.mean_T.tolist() == [0.5, 0.5, 0.5, 0.0, 0.0]
    assert np.isnan(curves.values_RT[0, 3:]).all()
