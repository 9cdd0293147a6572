"""The learning rate by update number."""

from __future__ import annotations

import math

import pytest

from cupel.arc.schedules import is_frozen, learning_rate
from cupel.errors import ConfigError


def rate(update, **changes):
    settings = {"lr": 2.0, "warmup_steps": 4, "total_steps": 24, "min_ratio": 0.25}
    return learning_rate(update, **{**settings, **changes})


def test_warm_up_is_linear_and_starts_above_zero():
    assert [rate(u) for u in (1, 2, 3, 4)] == [0.5, 1.0, 1.5, 2.0]


def test_cosine_goes_from_the_full_rate_to_its_share():
    assert rate(14) == pytest.approx(2.0 * (0.25 + 0.75 * 0.5))
    assert rate(9) == pytest.approx(2.0 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert rate(24) == pytest.approx(0.5)
    falling = [rate(u) for u in range(4, 25)]
    assert falling == sorted(falling, reverse=True)


def test_ratio_one_is_constant_and_no_warm_up_is_allowed():
    assert {rate(u, min_ratio=1.0) for u in range(4, 25)} == {2.0}
    assert rate(1, warmup_steps=0, min_ratio=1.0) == 2.0
    assert rate(3, warmup_steps=9, total_steps=3) == pytest.approx(2.0 / 3)


@pytest.mark.parametrize("update", [0, 25])
def test_an_update_outside_the_plan_is_refused(update):
    with pytest.raises(ConfigError, match=f"update {update} is outside 1 ... 24"):
        rate(update)


def test_frozen_for_exactly_so_many_updates():
    assert [is_frozen(u, 0) for u in (1, 2)] == [False, False]
    assert [is_frozen(u, 1) for u in (1, 2)] == [True, False]
