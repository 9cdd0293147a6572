"""Outcomes to estimates: counts, pairs, bounds, and what is not counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import DataError
from cupel.stats.intervals import newcombe, wilson
from cupel.teach.branches.arms import (
    Arm,
    arms_of,
    chance_above,
    chances_of_best,
    difference,
    probability,
)
from cupel.teach.labelling.labels import Estimate
from cupel.teach.records import Outcomes


def outcome(*success: bool | None, condition: Any = "policy", **more: Any) -> Outcomes:
    return Outcomes(
        snapshot_id="s", condition=condition, mode="monte_carlo", horizon=9, student="x",
        success=success, steps=(1,) * len(success), **more,
    )  # fmt: skip


def exact(lo: float, hi: float, condition: Any = "policy") -> Outcomes:
    return Outcomes(
        snapshot_id="s", condition=condition, mode="exact", horizon=9, student="x", lo=lo, hi=hi
    )


def arm(k: int, n: int) -> Arm:
    return Arm(success={number: number < k for number in range(n)})


def test_batches_of_one_condition_are_one_arm() -> None:
    arms = arms_of([outcome(True, False), outcome(True, first_replicate=2)])["s"]
    assert arms["policy"].success == {0: True, 1: False, 2: True}


def test_a_broken_instrument_is_no_failure_of_the_agent() -> None:
    measured = arms_of([outcome(True, None, None, False)])["s"]["policy"]
    assert (measured.n, measured.k, measured.errors) == (2, 1, 2)
    found = probability(measured)
    assert found is not None
    assert (found.value, found.n) == (0.5, 2)


def test_only_broken_rollouts_are_a_missing_label_and_not_a_zero() -> None:
    measured = arms_of([outcome(None, None)])["s"]["policy"]
    assert probability(measured) is None
    assert difference(measured, arm(1, 2)) is None
    assert probability(None) is None


def test_a_rollout_counted_twice_is_refused() -> None:
    with pytest.raises(DataError, match="rollout 1 stands in two rows"):
        arms_of([outcome(True, False), outcome(True, first_replicate=1)])


@pytest.mark.parametrize("change", [{"horizon": 3}, {"student": "y"}])
def test_outcomes_of_different_things_are_not_pooled(change: dict[str, Any]) -> None:
    other = Outcomes(
        **{
            **{name: getattr(outcome(True), name) for name in Outcomes.__dataclass_fields__},
            "first_replicate": 1,
            **change,
        }
    )
    with pytest.raises(DataError, match="keep one kind of rows"):
        arms_of([outcome(True), other])


def test_exact_bounds_are_taken_over_rollouts_of_the_same_condition() -> None:
    measured = arms_of([outcome(True, True), exact(0.2, 0.3)])["s"]["policy"]
    assert probability(measured) == Estimate(value=0.25, lo=0.2, hi=0.3)
    assert measured.n == 2


def test_rates_have_wilson_intervals() -> None:
    found, expected = probability(arm(3, 7)), wilson(3, 7)
    assert found == Estimate(value=3 / 7, lo=expected.low, hi=expected.high, n=7)


def test_shared_random_numbers_are_pairs_and_others_are_not() -> None:
    together = Arm(success={number: number % 3 == 0 for number in range(60)})
    better = Arm(success={number: number % 3 == 0 or number < 9 for number in range(60)})
    shifted = Arm(success={number + 60: won for number, won in better.success.items()})
    paired, unpaired = difference(together, better), difference(together, shifted)
    assert paired is not None
    assert unpaired is not None
    assert paired.value == pytest.approx(0.1)
    assert unpaired.value == pytest.approx(paired.value)
    assert paired.hi - paired.lo < 0.7 * (unpaired.hi - unpaired.lo)
    expected = newcombe((20, 60), (26, 60))
    assert (unpaired.lo, unpaired.hi) == (expected.low, expected.high)


def test_exact_differences_hold_the_truth_and_nothing_random() -> None:
    found = difference(Arm(lo=0.1, hi=0.2), Arm(lo=0.5, hi=0.5))
    assert found is not None
    assert (found.lo, found.hi, found.n) == (pytest.approx(0.3), pytest.approx(0.4), None)


def test_exact_against_sampled_is_as_wide_as_the_sampled_side() -> None:
    sampled, alone = difference(Arm(lo=0.0, hi=0.0), arm(3, 7)), probability(arm(3, 7))
    assert sampled is not None
    assert alone is not None
    assert (sampled.lo, sampled.hi) == pytest.approx((alone.lo, alone.hi))


@given(k1=st.integers(0, 12), k2=st.integers(0, 12), threshold=st.floats(-0.5, 0.5))
def test_chances_are_probabilities_and_grow_with_the_candidate(
    k1: int, k2: int, threshold: float
) -> None:
    base = probability(arm(k1, 12))
    low, high = probability(arm(min(k1, k2), 12)), probability(arm(max(k1, k2), 12))
    assert base is not None
    assert low is not None
    assert high is not None
    assert 0 <= chance_above(base, low, threshold) <= chance_above(base, high, threshold) <= 1


def test_the_chance_of_equal_arms_is_a_half() -> None:
    one = probability(arm(4, 9))
    assert one is not None
    assert chance_above(one, one, 0.0) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("threshold", "chance"), [(0.1, 1.0), (0.5, 0.0), (0.35, 0.5)], ids=["below", "above", "inside"]
)
def test_exact_bounds_are_certain_outside_and_open_inside(threshold: float, chance: float) -> None:
    base = Estimate(value=0.15, lo=0.1, hi=0.2)
    candidate = Estimate(value=0.5, lo=0.5, hi=0.5)
    assert chance_above(base, candidate, threshold) == pytest.approx(chance)


def test_the_best_of_several_is_shared_out() -> None:
    same, clear = probability(arm(5, 10)), probability(arm(20, 20))
    assert same is not None
    assert clear is not None
    equal = chances_of_best({"a": same, "b": same, "c": same})
    assert list(equal.values()) == pytest.approx([1 / 3] * 3)
    assert chances_of_best({"a": same, "b": clear})["b"] > 0.99
    assert chances_of_best({"a": same}) == {"a": 1.0}
    exact_best = Estimate(value=0.9, lo=0.9, hi=0.9)
    exact_rest = Estimate(value=0.2, lo=0.2, hi=0.2)
    assert chances_of_best({"a": exact_best, "b": exact_rest})["a"] == 1.0
