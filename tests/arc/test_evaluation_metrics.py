"""The numbers of an evaluation from its rows: missing is not zero, and puzzles are what counts."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.arc.evaluation_metrics import EVALUATIONS, prediction_values, score_values
from cupel.arc.voting import rate
from cupel.lab.metrics import MetricSet


def row(puzzle: str, right: bool | None, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"accuracy": None, "lm_loss": None, "q_halt_loss": None}
    if right is not None:
        values = {"accuracy": float(right), "lm_loss": 1.0, "q_halt_loss": 0.5}
    rates = dict.fromkeys(("exact", "exact_at_halt", "halt_right", "correct"), right)
    return {"puzzle": puzzle, "steps": 8, "halted_at": None, **values, **rates, **changes}


def test_a_prediction_without_label_counts_in_no_rate() -> None:
    values = prediction_values([row("a", True), row("b", False), row("c", None)])
    assert values["all.exact_accuracy"] == 0.5
    assert values["all.exact_accuracy_n"] == 2
    assert values["all.lm_loss"] == 1.0
    assert values["predictions"] == 3


def test_without_any_label_every_rate_is_missing() -> None:
    values = prediction_values([row("a", None)])
    assert values["all.exact_accuracy"] is None
    assert values["all.exact_accuracy_lo"] is None
    assert values["all.exact_accuracy_n"] == 0
    assert score_values(None)["ARC/pass@2"] is None


def test_a_hundred_augmentations_of_four_puzzles_are_four_trials() -> None:
    rows = [row(puzzle, puzzle == "a") for puzzle in "abcd" for _ in range(100)]
    values = prediction_values(rows)
    alone = rate(1, 4)
    assert values["all.exact_accuracy"] == 0.25
    assert values["all.exact_accuracy_lo"] == pytest.approx(alone.low)
    assert values["all.exact_accuracy_hi"] == pytest.approx(alone.high)


def test_steps_at_halt_take_the_last_step_where_the_end_was_forced() -> None:
    values = prediction_values([row("a", True, halted_at=2), row("b", True)])
    assert (values["steps_at_halt"], values["forced_rate"], values["all.steps"]) == (5.0, 0.5, 8.0)


def test_every_value_is_declared() -> None:
    declared = MetricSet(EVALUATIONS).names
    values = {**prediction_values([row("a", True)]), **score_values(None)}
    assert set(values) <= set(declared)
    assert len(set(declared)) == len(declared)
