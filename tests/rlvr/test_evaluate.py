"""Held-out evaluation: the same problems and numbers every time, and a gate on the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from cupel.errors import AlgorithmicFailure, GateFailure
from cupel.lab.metrics import Scalar
from cupel.policy.toy_policy import ToyPolicy
from cupel.rlvr.evaluate import check_start, evaluate
from cupel.rlvr.problems import load_problems
from tests.rlvr.toy_runs import toy_config, toy_context


def row_of(
    folder: Path, *, step: int = 0, seed: int = 1, **evaluation: object
) -> dict[str, Scalar]:
    config = toy_config(evaluation={"samples": 4, **evaluation})
    context = toy_context(folder, seed=seed)
    row = evaluate(
        ToyPolicy(seed=2), load_problems(config.problems), config, context, step=step
    ).row
    context.recorder.close()
    return {key: value for key, value in row.items() if key not in ("eval_time_s", "seed", "step")}


def test_an_unchanged_policy_scores_the_same_at_every_step(tmp_path: Path) -> None:
    assert row_of(tmp_path, step=0) == row_of(tmp_path, step=7)
    assert row_of(tmp_path, seed=1) != row_of(tmp_path, seed=2)


def test_every_outcome_is_counted(tmp_path: Path) -> None:
    row = row_of(tmp_path, problems=6)
    assert (row["problems"], row["samples"]) == (6, 4)
    counts = [row[f"{outcome}_count"] for outcome in ("correct", "incorrect", "ungradable")]
    assert sum(int(str(count)) for count in counts) == 24
    assert row["accuracy"] == int(str(counts[0])) / 24


def test_what_was_not_measured_is_missing(tmp_path: Path) -> None:
    assert row_of(tmp_path, greedy=False)["greedy_accuracy"] is None
    assert isinstance(row_of(tmp_path, greedy=True)["greedy_accuracy"], float)


def test_a_temperature_near_zero_is_greedy(tmp_path: Path) -> None:
    row = row_of(tmp_path, greedy=True, temperature=1e-6)
    assert row["accuracy"] == row["greedy_accuracy"]


def start(correct: int) -> dict[str, int]:
    """Return what `check_start` reads of an evaluation of 512 problems, two samples each."""
    counts = {"correct_count": correct, "incorrect_count": 1000 - correct, "ungradable_count": 24}
    return {**counts, "problems": 512}


@pytest.mark.parametrize("correct", [120, 154, 205, 256, 290])
def test_a_start_that_fits_the_band_passes(correct: int) -> None:
    check_start(start(correct), toy_config(evaluation=BAND))


@pytest.mark.parametrize("correct", [0, 100, 330, 1000])
def test_a_start_outside_the_band_is_a_gate_failure(correct: int) -> None:
    with pytest.raises(
        GateFailure, match=r"outside evaluation.start_band \[0.15, 0.25\]"
    ) as caught:
        check_start(start(correct), toy_config(evaluation=BAND))
    assert not isinstance(caught.value, AlgorithmicFailure)  # no outcome of the method
    assert f"accuracy before training is {correct / 1024:.3f} on 512" in str(caught.value)


def test_without_a_band_any_start_will_do() -> None:
    check_start(start(0), toy_config())


BAND = {"start_band": [0.15, 0.25]}


def test_pass_at_k_is_reported_beside_what_was_there(tmp_path: Path) -> None:
    row = row_of(tmp_path, pass_at=[1, 4])
    assert row["pass@1"] == pytest.approx(row["accuracy"])
    assert isinstance(row["pass@4"], float)
    assert row["pass@4"] >= row["accuracy"]
    single = row_of(tmp_path, samples=1)
    assert not any(key.startswith("pass@") for key in single)


def test_rates_by_subject_and_level_add_up_to_the_row(tmp_path: Path) -> None:
    config = toy_config(evaluation={"samples": 4, "pass_at": [2]})
    context = toy_context(tmp_path)
    found = evaluate(ToyPolicy(seed=2), load_problems(config.problems), config, context, step=3)
    context.recorder.close()
    by = {(rate["by"], rate["group"], rate["metric"]): rate for rate in found.rates}
    assert set(by) == {
        (kind, group, metric)
        for kind, group in (("all", None), ("subject", "toy"), ("level", "1"))
        for metric in ("accuracy", "pass@2")
    }
    whole = by["all", None, "accuracy"]
    assert whole["value"] == found.row["accuracy"]
    assert whole["ungradable_count"] == found.row["ungradable_count"]
    assert by["all", None, "pass@2"]["value"] == found.row["pass@2"]
    assert whole["low"] <= whole["value"] <= whole["high"]
    assert {rate["step"] for rate in found.rates} == {3}
