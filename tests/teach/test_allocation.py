"""Rollouts go to open questions, within the budget, and every stop has a name."""

from __future__ import annotations

import pytest

from cupel.config import validate
from cupel.teach.branches.allocation import (
    AllocationConfig,
    doubts,
    first_moments,
    leverage_chance,
    next_round,
)
from cupel.teach.branches.arms import Arm, Arms


def arm(k: int, n: int) -> Arm:
    return Arm(success={number: number < k for number in range(n)})


def config(**changes: object) -> AllocationConfig:
    return validate(AllocationConfig, {"budget": 10_000, **changes}, where="here")


OPEN: Arms = {"policy": arm(2, 7), "force": arm(3, 7)}
CLOSED: Arms = {"policy": arm(0, 7), "force": arm(7, 7)}
NOTES: Arms = {
    **CLOSED, "placebo": arm(0, 8), "demo": arm(4, 8), "contrast": arm(5, 8), "hint": arm(5, 8),
}  # fmt: skip


def test_only_what_is_undecided_is_added_to() -> None:
    found = next_round({"a": OPEN, "b": CLOSED}, config(batch=8), spent=28, number=0)
    (need,) = found.needs
    assert need.snapshot_id == "a"
    assert need.arms == {"force": 8, "policy": 8}
    assert (found.undecided, found.stop) == (1, None)


def test_leverage_is_decided_by_probability_on_either_side() -> None:
    chance = leverage_chance(CLOSED, 0.1)
    assert chance is not None
    assert chance > 0.99
    assert doubts(CLOSED, config())["leverage"] == 0
    none = {"policy": arm(20, 40), "force": arm(12, 40)}
    assert doubts(none, config())["leverage"] == 0  # type: ignore[arg-type]
    assert doubts(OPEN, config())["leverage"] > 0
    assert doubts({"policy": arm(1, 2)}, config()) == {"leverage": 0.0, "route": 0.0}


def test_an_open_route_asks_for_notes_and_their_base() -> None:
    (need,) = next_round({"a": NOTES}, config(batch=4), spent=0, number=0).needs
    assert need.arms == dict.fromkeys(("contrast", "demo", "hint", "placebo", "policy"), 4)


def test_a_route_without_a_gain_is_not_worth_deciding() -> None:
    useless: Arms = {**NOTES, "placebo": arm(8, 8)}
    assert doubts(useless, config())["route"] == 0


def test_exact_arms_ask_for_nothing() -> None:
    exact: Arms = {"policy": Arm(lo=0.0, hi=0.5), "force": Arm(lo=0.1, hi=0.5)}
    found = next_round({"a": exact}, config(), spent=0, number=0)
    assert (found.needs, found.stop) == ((), "arms_full")


@pytest.mark.parametrize(
    ("changes", "spent", "number", "stop"),
    [
        ({"budget": None}, 0, 0, "no_budget_given"),
        ({"budget": 20}, 14, 0, "budget_spent"),
        ({"most_per_arm": 7}, 14, 0, "arms_full"),
        ({"rounds": 3}, 14, 3, "rounds_done"),
    ],
)
def test_every_stop_has_a_name(
    changes: dict[str, object], spent: int, number: int, stop: str
) -> None:
    found = next_round({"a": OPEN}, config(**changes), spent=spent, number=number)
    assert (found.needs, found.stop, found.undecided) == ((), stop, 1)


def test_it_ends_when_all_is_decided() -> None:
    assert next_round({"b": CLOSED}, config(), spent=0, number=0).stop == "decided"


def test_the_budget_goes_to_the_most_undecided_and_is_never_overspent() -> None:
    wide: Arms = {"policy": arm(1, 7), "force": arm(2, 7)}
    arms = {f"m{number}": OPEN if number % 2 else wide for number in range(10)}
    found = next_round(arms, config(budget=140 + 50, batch=8), spent=140, number=0)
    assert sum(need.episodes for need in found.needs) == 48
    assert [need.doubt for need in found.needs] == sorted(
        (need.doubt for need in found.needs), reverse=True
    )
    turned = next_round(
        dict(reversed(arms.items())), config(budget=190, batch=8), spent=140, number=0
    )
    assert turned == found


def test_an_arm_is_filled_to_its_limit_and_not_beyond() -> None:
    (need,) = next_round({"a": OPEN}, config(batch=8, most_per_arm=9), spent=0, number=0).needs
    assert need.arms == {"force": 2, "policy": 2}


@pytest.mark.parametrize(("budget", "count"), [(None, 3), (30, 3), (29, 2), (9, 0), (0, 0)])
def test_a_small_budget_reaches_the_first_moments(budget: int | None, count: int) -> None:
    assert first_moments([10, 10, 10], budget) == count
