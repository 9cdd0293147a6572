"""Leverage by hand, its profiles, and the order of its three probabilities."""

from __future__ import annotations

import pytest

from cupel.teach.branches.arms import Arm
from cupel.teach.labelling.labels import Estimate, Leverage
from cupel.teach.labelling.leverage import leverage_of, order_of, profile_of


def arm(k: int, n: int) -> Arm:
    return Arm(success={number: number < k for number in range(n)})


def leverage(policy: float, force: float, expert: float) -> Leverage:
    known = leverage_of(
        {name: Arm(lo=p, hi=p) for name, p in
         (("policy", policy), ("force", force), ("expert", expert))}  # type: ignore[arg-type]
    )  # fmt: skip
    assert known is not None
    return known


def test_leverage_by_hand_at_the_documented_counts() -> None:
    found = leverage_of({"policy": arm(1, 7), "force": arm(5, 7), "expert": arm(2, 2)})
    assert found is not None
    assert (found.p_policy.n, found.p_force.n, found.p_expert.n) == (7, 7, 2)
    assert found.L_local.value == pytest.approx(4 / 7)
    assert found.L_upper.value == pytest.approx(6 / 7)
    assert found.gap == pytest.approx(2 / 7)
    assert found.L_local.lo < 4 / 7 < found.L_local.hi
    assert found.L_local.lo >= -1


def test_exact_leverage_has_bounds_and_no_rollouts() -> None:
    found = leverage_of(
        {"policy": Arm(lo=0.1, hi=0.2), "force": Arm(lo=0.4, hi=0.5), "expert": Arm(lo=1, hi=1)}
    )
    assert found is not None
    assert found.L_local == Estimate(value=pytest.approx(0.3), lo=pytest.approx(0.2), hi=0.4)


@pytest.mark.parametrize("missing", ["policy", "force", "expert"])
def test_without_one_of_the_three_there_is_no_leverage(missing: str) -> None:
    arms = {"policy": arm(1, 7), "force": arm(5, 7), "expert": arm(2, 2)}
    assert leverage_of({n: a for n, a in arms.items() if n != missing}) is None  # type: ignore[misc]
    broken = {**arms, missing: Arm(errors=2)}
    assert leverage_of(broken) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("numbers", "profile"),
    [
        ((0.1, 0.2, 0.3), "dead_end"),
        ((0.1, 0.6, 0.7), "bottleneck"),
        ((0.1, 0.2, 0.9), "trajectory"),
        ((0.1, 0.5, 0.9), "mixed"),
    ],
)
def test_profiles(numbers: tuple[float, float, float], profile: str) -> None:
    assert profile_of(leverage(*numbers)) == profile


def test_the_order_of_means_is_what_is_judged() -> None:
    rows = [leverage(0.1, 0.5, 1.0), leverage(0.4, 0.3, 1.0)]
    found = order_of(rows)
    assert (found.moments, found.share_ordered, found.passed) == (2, 0.5, True)
    assert found.p_force == pytest.approx(0.4)
    assert not order_of([leverage(0.9, 0.1, 1.0)]).passed
    assert not order_of([]).passed
