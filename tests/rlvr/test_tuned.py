"""Rates handed from a sweep to a campaign: the right arm, other seeds, equal footing."""

from __future__ import annotations

from typing import Any

import pytest

from cupel.errors import ConfigError, DataError
from cupel.rlvr.tuned import (
    TunedRate,
    merge_rates,
    rate_of,
    refuse_probe_seeds,
    tuned_rates,
    tuning_warnings,
)

TOY = {"backend": "toy"}


def results(**changed: Any) -> dict[str, Any]:
    choice = {"grid": [1.0, 2.0], "edge_of_grid": False}
    return {
        "best_lr": {
            "grpo": {"lr": 5e-4, "correct_rate": 0.1},
            "full": {"lr": 5e-5, "correct_rate": 0.2},
        },
        "complete": True,
        "probe_seeds": [9001, 9002],
        "choices": {"grpo": choice, "full": choice},
        "settings": {"backend": "toy", "batch_size": 8, "group_size": 8},
    } | changed


def rates(**changed: Any) -> list[TunedRate]:
    return list(tuned_rates(results(**changed), source="s").values())


@pytest.mark.parametrize(
    ("label", "lr"),
    [("grpo", 5e-4), ("grpo+none", 5e-4), ("full", 5e-5), ("maxrl+gtpo_sepa", 5e-5)],
)
def test_an_arm_gets_the_rate_of_its_method(label: str, lr: float) -> None:
    assert rate_of(label, tuned_rates(results(), source="s")).lr == lr


def test_an_arm_that_was_not_tuned_is_refused_with_the_command_that_tunes_it() -> None:
    with pytest.raises(ConfigError, match=r"cupel sweep --algorithms maxrl\+gtpo_sepa\+hicra"):
        rate_of("maxrl+gtpo_sepa+hicra", tuned_rates(results(), source="s"))


def test_the_seeds_of_the_sweep_are_refused_with_the_reason() -> None:
    refuse_probe_seeds(rates(), [1, 2, 3])
    with pytest.raises(ConfigError, match=r"--seeds 9002: .*triples false improvements"):
        refuse_probe_seeds(rates(), [1, 9002])


def test_equal_footing_has_no_warnings() -> None:
    assert tuning_warnings(rates(), TOY) == []


@pytest.mark.parametrize(
    ("changed", "shared", "says"),
    [
        ({}, {"group_size": 4}, "tuned at group_size = 8, used at group_size = 4"),
        ({"probe_seeds": None}, {}, "names no probe seeds"),
        (
            {
                "choices": {
                    "grpo": {"grid": [1.0, 2.0], "edge_of_grid": False},
                    "full": {"grid": [1.0], "edge_of_grid": False},
                }
            },
            {},
            "different grids",
        ),
        ({"choices": {"grpo": {"grid": [1.0], "edge_of_grid": True}}}, {}, "edge of its grid"),
    ],
)
def test_unequal_footing_is_told(
    changed: dict[str, Any], shared: dict[str, Any], says: str
) -> None:
    found = tuning_warnings(rates(**changed), TOY | shared)
    assert any(says in text for text in found), found


def test_two_sweeps_on_different_seeds_are_told() -> None:
    first, second = rates()[0], rates(probe_seeds=[7])[1]
    assert any("different probe seeds" in text for text in tuning_warnings([first, second], TOY))


def test_rates_of_another_backend_are_refused() -> None:
    with pytest.raises(ConfigError, match="cupel sweep --backend tiny"):
        tuning_warnings(rates(), {})


def test_two_sweeps_of_one_method_are_ambiguous() -> None:
    found = tuned_rates(results(), source="s")
    with pytest.raises(ConfigError, match="both tuned"):
        merge_rates([found, found])


def test_a_file_of_an_earlier_system_is_read() -> None:
    old = {"best_lr": {"grpo": {"lr": 5e-4, "correct_rate": 0.115}}, "model": "m"}
    (rate,) = tuned_rates(old, source="s").values()
    assert (rate.lr, rate.probe_seeds, rate.grid) == (5e-4, None, ())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"best_lr": None}, "no 'best_lr'"),
        ({"complete": False}, "not complete"),
        ({"best_lr": {"grpo": {"lr": "1"}}}, "expected a rate"),
        ({"best_lr": {"grpo": {"lr": 0}}}, "expected a rate"),
    ],
)
def test_a_file_that_holds_no_rates_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        tuned_rates(results(**changed), source="s")
