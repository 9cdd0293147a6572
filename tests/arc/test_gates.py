"""The two criteria: what passes, what fails, what was not measured."""

from __future__ import annotations

import pytest

from cupel.arc.gates import criterion_1, criterion_2, uses_demonstrations


def test_criterion_1_is_exact_match_at_halt_above_90_percent() -> None:
    assert criterion_1({"em_at_halt": 0.91}).passed is True
    assert criterion_1({"em_at_halt": 0.9}).passed is False
    assert criterion_1({"train/exact_accuracy": 0.99}).passed is None


@pytest.mark.parametrize(
    ("gain", "low", "used"),
    [(0.5, 0.4, True), (0.1, -0.05, False), (1.0, None, True), (0.0, None, False)],
)
def test_whether_demonstrations_are_used_stands_beside_it(
    gain: float, low: float | None, used: bool
) -> None:
    row = {"em_at_halt": 0.95, "context_gain": gain, "context_gain_lo": low}
    row["context_gain_hi"] = None if low is None else gain + (gain - low)
    gate = criterion_1(row)
    assert gate.passed is True
    assert gate.uses_demonstrations is used
    assert ("not shown to be used" in gate.words) is not used


def test_unmeasured_use_is_said() -> None:
    assert uses_demonstrations({"em_at_halt": 1.0}) is None
    assert "not measured" in criterion_1({"em_at_halt": 1.0}).words


def test_criterion_2_is_5_percent_of_held_out_queries_with_the_label_of_the_data() -> None:
    assert criterion_2({"heldout_em_at_halt": 0.05}).passed is True
    assert criterion_2({"heldout_em_at_halt": 0.049}).passed is False
    assert criterion_2({}).passed is None
    gate = criterion_2({"heldout_em_at_halt": 0.1, "contamination": "contaminated"})
    assert "contaminated" in gate.words
