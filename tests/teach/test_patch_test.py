"""The patch test: gains by hand, split halves that do not flatter, a route that may be open."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from cupel.teach.branches.arms import Arm, Arms
from cupel.teach.labelling.patch_test import helps, patch_test_of
from cupel.teach.records import FORMATS

CONDITIONS = ("policy", "placebo", *FORMATS)


def arm(*success: int) -> Arm:
    return Arm(success={number: bool(won) for number, won in enumerate(success)})


def drawn(p: Mapping[str, float], n: int, rng: np.random.Generator) -> Arms:
    return {
        name: Arm(success={r: bool(won) for r, won in enumerate(rng.random(n) < p[name])})
        for name in CONDITIONS  # type: ignore[misc]
    }


def test_gains_by_hand_at_the_documented_counts() -> None:
    found = patch_test_of(
        {
            "policy": arm(0, 1),
            "placebo": arm(0, 0),
            "demo": arm(1, 1),
            "contrast": arm(1, 0),
            "hint": arm(0, 1),
        }
    )
    assert found is not None
    assert {name: gain.value for name, gain in found.gain_raw.items()} == {
        "demo": 0.5, "contrast": 0.0, "hint": 0.0,
    }  # fmt: skip
    assert {name: gain.value for name, gain in found.gain_net.items()} == {
        "demo": 1.0, "contrast": 0.5, "hint": 0.5,
    }  # fmt: skip
    assert (found.ELP_raw, found.ELP_net, found.route_net) == (0.5, 1.0, "demo")
    assert found.total_episodes == 10
    assert found.p_shuffled is None


def test_each_half_is_read_by_the_choice_of_the_other() -> None:
    # even rollouts choose hint (2/2), odd ones demo (2/2); placebo always fails
    found = patch_test_of(
        {
            "policy": arm(0, 0, 0, 0),
            "placebo": arm(0, 0, 0, 0),
            "demo": arm(0, 1, 0, 1),
            "contrast": arm(0, 0, 0, 0),
            "hint": arm(1, 0, 1, 0),
        }
    )
    assert found is not None
    assert found.ELP_net == 0.5
    assert found.ELP_split is not None
    assert found.ELP_split.value == 0.0
    assert found.oracle_half == 0.0
    assert found.route_split is None


def test_a_route_on_which_both_halves_agree_is_named() -> None:
    found = patch_test_of(
        {
            "policy": arm(0, 0, 0, 0),
            "placebo": arm(0, 0, 0, 0),
            "demo": arm(1, 1, 1, 1),
            "contrast": arm(0, 0, 0, 1),
            "hint": arm(1, 0, 0, 0),
        }
    )
    assert found is not None
    assert found.route_split == "demo"
    assert found.ELP_split is not None
    assert found.ELP_split.value == 1.0
    assert found.oracle_half == 1.0


def test_a_tie_leaves_the_route_open_though_one_name_stands_first() -> None:
    same = {name: arm(1, 1, 1, 1) for name in FORMATS}
    found = patch_test_of({"policy": arm(0, 0), "placebo": arm(0, 0, 0, 0), **same})
    assert found is not None
    assert (found.route_net, found.route_split) == ("demo", None)


def test_one_rollout_has_no_other_half() -> None:
    one = {name: arm(1) for name in CONDITIONS}
    found = patch_test_of(one)  # type: ignore[arg-type]
    assert found is not None
    assert (found.ELP_split, found.oracle_half) == (None, None)
    assert helps(found) is None


def test_a_format_whose_instrument_broke_is_left_out_and_not_zero() -> None:
    arms = {name: arm(1, 0) for name in CONDITIONS}
    found = patch_test_of({**arms, "hint": Arm(errors=2)})  # type: ignore[misc]
    assert found is not None
    assert set(found.p) == {"demo", "contrast"}
    assert found.total_episodes == 10
    assert patch_test_of({**arms, "placebo": Arm(errors=2)}) is None  # type: ignore[misc]


def test_exact_gains_need_no_halves_and_decide_where_bounds_do() -> None:
    bounds = {"policy": (0.2, 0.2), "placebo": (0.2, 0.3), "demo": (0.7, 0.8)}
    bounds |= {"contrast": (0.4, 0.5), "hint": (0.1, 0.2)}
    found = patch_test_of({n: Arm(lo=lo, hi=hi) for n, (lo, hi) in bounds.items()})  # type: ignore[misc]
    assert found is not None
    assert found.ELP_split is not None
    assert (found.ELP_split.lo, found.ELP_split.hi) == (pytest.approx(0.4), pytest.approx(0.6))
    assert found.oracle_half == found.ELP_split.value
    assert found.route_split == "demo"
    assert helps(found) is True
    assert found.total_episodes == 0
    overlapping = {**bounds, "contrast": (0.75, 0.9)}
    open_route = patch_test_of({n: Arm(lo=lo, hi=hi) for n, (lo, hi) in overlapping.items()})  # type: ignore[misc]
    assert open_route is not None
    assert open_route.route_split is None


@pytest.mark.parametrize(("n", "p", "naive"), [(2, 0.1, 0.39), (2, 0.3, 0.54), (2, 0.5, 0.54)])
def test_without_any_effect_the_naive_rule_finds_one_in_half_of_all_moments(
    n: int, p: float, naive: float
) -> None:
    rng = np.random.default_rng(11)
    tests = [patch_test_of(drawn(dict.fromkeys(CONDITIONS, p), n, rng)) for _ in range(1200)]
    found = [test for test in tests if test is not None]
    assert np.mean([test.ELP_net > 0 for test in found]) == pytest.approx(naive, abs=0.04)
    assert np.mean([test.ELP_net for test in found]) > 0.12
    assert np.mean([helps(test) for test in found]) <= 0.05
    splits = [test.ELP_split.value for test in found if test.ELP_split is not None]
    assert abs(np.mean(splits)) < 4 * np.std(splits) / np.sqrt(len(splits))


def test_a_real_effect_is_found_at_thirty_two_rollouts() -> None:
    rng = np.random.default_rng(12)
    p = dict.fromkeys(CONDITIONS, 0.2) | {"hint": 0.8}
    tests = [patch_test_of(drawn(p, 32, rng)) for _ in range(100)]
    assert np.mean([test is not None and helps(test) for test in tests]) > 0.95
    assert np.mean([test is not None and test.route_split == "hint" for test in tests]) > 0.95
