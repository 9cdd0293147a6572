"""Chances of each answer: they sum to one, hold their size, and agree with the planner."""

from __future__ import annotations

import numpy as np
import pytest

from cupel.errors import ConfigError
from cupel.stats.equivalence import tost_paired
from cupel.stats.power import seed_power
from cupel.stats.verdicts import _tost_p_values, verdict_chances


@pytest.mark.parametrize("sizes", [[8], [8, 16], [24]])
def test_without_an_effect_few_studies_claim_one(sizes) -> None:
    found = verdict_chances(0.0, sizes, rng=np.random.default_rng(1))
    assert found.improvement + found.degradation <= 0.05 + 3.29 * 0.0035
    assert found.equivalent == 0.0
    total = found.improvement + found.degradation + found.equivalent + found.inconclusive
    assert total == pytest.approx(1.0)


def test_chances_of_one_look_are_the_power() -> None:
    for effect in (0.6, 1.156, -1.156):
        found = verdict_chances(effect, [8], rng=np.random.default_rng(2))
        right = found.improvement if effect > 0 else found.degradation
        assert right == pytest.approx(seed_power(effect, 8), abs=0.03)
        assert found.mean_seeds == 8


def test_an_early_look_saves_seeds_and_costs_little_power() -> None:
    rng = np.random.default_rng(3)
    once, twice = verdict_chances(0.9, [16], rng=rng), verdict_chances(0.9, [8, 16], rng=rng)
    assert 10 < twice.mean_seeds < 14
    assert twice.improvement > once.improvement - 0.06


def test_a_margin_makes_equivalence_possible() -> None:
    found = verdict_chances(0.0, [16], margin_sd=1.0, rng=np.random.default_rng(4))
    assert found.equivalent == pytest.approx(0.95, abs=0.04)
    at_margin = verdict_chances(1.0, [16], margin_sd=1.0, rng=np.random.default_rng(5))
    assert at_margin.equivalent <= 0.05


def test_rows_equal_the_single_equivalence_test() -> None:
    d = np.random.default_rng(6).normal(0.1, 1.0, size=(20, 7))
    single = [tost_paired(row, margin=0.8).p for row in d]
    assert _tost_p_values(d, 0.8) == pytest.approx(single)


def test_sizes_are_checked() -> None:
    with pytest.raises(ConfigError, match="size = 1"):
        verdict_chances(0.5, [1, 8], rng=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="ascending"):
        verdict_chances(0.5, [8, 8], rng=np.random.default_rng(0))
